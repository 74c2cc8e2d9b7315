"""The eight shapes as signed distances: negative inside, in units of the object's radius, y down."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def circle(x: Floats, y: Floats) -> Floats:
    return np.sqrt(x * x + y * y) - 0.9


def square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.78, 0.78)


def triangle(x: Floats, y: Floats) -> Floats:
    """Equilateral, point up: the three half planes at the same distance from the centre of mass."""
    y = y - 0.22
    lean = np.sqrt(3) / 2 * np.abs(x) - 0.5 * y
    return np.maximum(lean, y) - 0.55


def star(x: Floats, y: Floats) -> Floats:
    """Five points; distance to the one edge that is left when the plane is folded along the star's symmetries."""
    angle = np.arctan2(x, -y)
    folded = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)  # 0 at a point, pi/5 at a notch
    radius = np.sqrt(x * x + y * y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    notch = 0.48 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    edge = notch - np.array([1.0, 0.0])
    share = np.clip(((along - 1) * edge[0] + across * edge[1]) / (edge @ edge), 0, 1)
    away = np.hypot(along - 1 - share * edge[0], across - share * edge[1])
    return np.where((along - 1) * edge[1] - across * edge[0] > 0, away, -away)


def heart(x: Floats, y: Floats) -> Floats:
    """A square on its corner with half a disc on each upper side."""
    x, y = np.abs(x), y - 0.02
    tilted = np.sqrt(0.5) * x + np.sqrt(0.5) * y, np.sqrt(0.5) * y - np.sqrt(0.5) * x
    disc = np.hypot(x - HEART / np.sqrt(2), y + HEART / np.sqrt(2) - 0.22) - HEART
    return np.minimum(_box(tilted[0] - 0.22 * np.sqrt(0.5), tilted[1] - 0.22 * np.sqrt(0.5), HEART, HEART), disc)


def ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.sqrt(x * x + y * y) - 0.68) - 0.25


def cross(x: Floats, y: Floats) -> Floats:
    return np.minimum(_box(x, y, 0.9, 0.33), _box(x, y, 0.33, 0.9))


def moon(x: Floats, y: Floats) -> Floats:
    """A disc less a disc."""
    return np.maximum(np.hypot(x, y) - 0.93, 0.72 - np.hypot(x - 0.52, y + 0.08))


HEART = 0.5
SIGNED_DISTANCES = (circle, square, triangle, star, heart, ring, cross, moon)  # in the order of world.SHAPES
STRAIGHT = (False, True, True, True, False, False, True, False)  # whether the outline is made of straight lines


def stripes(x: Floats, y: Floats) -> Floats:
    """Signed distance to diagonal stripes, negative inside."""
    across = (x + y) * np.sqrt(0.5) / 0.72 + 0.25
    return (np.abs(across - np.floor(across) - 0.5) - 0.25) * 0.72


def dots(x: Floats, y: Floats) -> Floats:
    """Signed distance to dots on a diagonal lattice, negative inside."""
    u, v = ((x + y) * np.sqrt(0.5) / 0.66, (x - y) * np.sqrt(0.5) / 0.66)
    return np.hypot(u - np.floor(u + 0.5), v - np.floor(v + 0.5)) * 0.66 - 0.2


def checks(x: Floats, y: Floats) -> Floats:
    """Signed distance to the fields of a chessboard, negative inside."""
    u, v = x / 0.55 + 0.25, y / 0.55 + 0.25
    from_column, from_row = (0.5 - np.abs(u - np.floor(u) - 0.5)) * 0.55, (0.5 - np.abs(v - np.floor(v) - 0.5)) * 0.55
    inside = (np.floor(u) + np.floor(v)) % 2 == 0
    return np.where(inside, -1, 1) * np.minimum(from_column, from_row)


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    beyond_x, beyond_y = np.abs(x) - half_width, np.abs(y) - half_height
    outside = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
    return outside + np.minimum(np.maximum(beyond_x, beyond_y), 0)
