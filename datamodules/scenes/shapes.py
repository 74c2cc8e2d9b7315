"""The eight shapes as signed distances: negative inside, in units of the object's radius, y down."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def circle(x: Floats, y: Floats) -> Floats:
    return _length(x, y) - 0.9


def square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.78, 0.78)


def triangle(x: Floats, y: Floats) -> Floats:
    """Equilateral, point up: the three half planes at the same distance from the centre of mass, each as long as its side."""
    x, y = np.abs(x), y - 0.14
    lean = np.sqrt(3) / 2 * x - 0.5 * y
    beyond = np.maximum(lean, y) - 0.5
    along = np.where(lean > y, 0.5 * x + np.sqrt(3) / 2 * y, x)
    corner = np.maximum(np.abs(along) - 0.5 * np.sqrt(3), 0)
    return _length(corner, np.maximum(beyond, 0)) + np.minimum(beyond, 0)


def star(x: Floats, y: Floats) -> Floats:
    """Five points: the plane folded along the star's mirrors, and the distance to the one edge that is left."""
    x, up = np.abs(x), -y
    for normal_x, normal_up in MIRRORS:
        beyond = 2 * np.maximum(x * normal_x + up * normal_up, 0)
        x, up = x - beyond * normal_x, up - beyond * normal_up
    x, up = np.abs(x), up - 1  # from the point that is straight up
    share = np.clip((x * EDGE[0] + up * EDGE[1]) / (EDGE[0] ** 2 + EDGE[1] ** 2), 0, 1)
    away = _length(x - share * EDGE[0], up - share * EDGE[1])
    return np.where(x * EDGE[1] - up * EDGE[0] < 0, away, -away)


def heart(x: Floats, y: Floats) -> Floats:
    """A square on its corner with half a disc on each upper side."""
    x, y = np.abs(x), y - 0.02
    tilted = np.sqrt(0.5) * x + np.sqrt(0.5) * y, np.sqrt(0.5) * y - np.sqrt(0.5) * x
    disc = _length(x - HEART / np.sqrt(2), y + HEART / np.sqrt(2) - 0.22) - HEART
    return np.minimum(_box(tilted[0] - 0.22 * np.sqrt(0.5), tilted[1] - 0.22 * np.sqrt(0.5), HEART, HEART), disc)


def ring(x: Floats, y: Floats) -> Floats:
    return np.abs(_length(x, y) - 0.68) - 0.25


def cross(x: Floats, y: Floats) -> Floats:
    return np.minimum(_box(x, y, 0.9, 0.33), _box(x, y, 0.33, 0.9))


def moon(x: Floats, y: Floats) -> Floats:
    """A disc less a disc; beyond a horn, the distance to its tip."""
    away = float(np.sqrt(0.52**2 + 0.08**2))  # from the disc's middle to that of what is taken away
    along, across = (0.52 * x - 0.08 * y) / away, np.abs(0.08 * x + 0.52 * y) / away
    tip = (0.93**2 - 0.72**2 + away**2) / (2 * away)
    horn = float(np.sqrt(0.93**2 - tip**2))
    beyond = along * horn - across * tip > away * np.maximum(horn - across, 0)
    outlines = np.maximum(_length(x, y) - 0.93, 0.72 - _length(x - 0.52, y + 0.08))
    return np.where(beyond, _length(along - tip, across - horn), outlines)


HEART = 0.5
MIRRORS = [(float(np.cos(angle)), float(-np.sin(angle))) for angle in (0.6 * np.pi, 0.2 * np.pi)]  # normals, x and up
NOTCH = 0.48
EDGE = (float(NOTCH * np.sin(0.2 * np.pi)), float(NOTCH * np.cos(0.2 * np.pi)) - 1)  # from the point down to the notch
SIGNED_DISTANCES = (circle, square, triangle, star, heart, ring, cross, moon)  # in the order of world.SHAPES
STRAIGHT = (False, True, True, True, False, False, True, False)  # whether the outline is made of straight lines


def stripes(x: Floats, y: Floats) -> Floats:
    """Signed distance to diagonal stripes, negative inside."""
    across = (x + y) * np.sqrt(0.5) / 0.72 + 0.25
    return (np.abs(across - np.floor(across) - 0.5) - 0.25) * 0.72


def dots(x: Floats, y: Floats) -> Floats:
    """Signed distance to dots on a diagonal lattice, negative inside."""
    u, v = ((x + y) * np.sqrt(0.5) / 0.66, (x - y) * np.sqrt(0.5) / 0.66)
    return _length(u - np.floor(u + 0.5), v - np.floor(v + 0.5)) * 0.66 - 0.2


def checks(x: Floats, y: Floats) -> Floats:
    """Signed distance to the fields of a chessboard, negative inside."""
    u, v = x / 0.55 + 0.25, y / 0.55 + 0.25
    from_column, from_row = (0.5 - np.abs(u - np.floor(u) - 0.5)) * 0.55, (0.5 - np.abs(v - np.floor(v) - 0.5)) * 0.55
    inside = (np.floor(u) + np.floor(v)) % 2 == 0
    return np.where(inside, -1, 1) * np.minimum(from_column, from_row)


def _length(x: Floats, y: Floats) -> Floats:
    """By operations that every processor rounds alike, so that pictures have the same bytes everywhere."""
    return np.sqrt(x * x + y * y)


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    beyond_x, beyond_y = np.abs(x) - half_width, np.abs(y) - half_height
    outside = _length(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
    return outside + np.minimum(np.maximum(beyond_x, beyond_y), 0)
