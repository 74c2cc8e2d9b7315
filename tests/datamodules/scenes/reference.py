"""The scenes' geometry a second time, from corners and discs and points instead of signed distances."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.world import SHAPES, Scenes

Mask = NDArray[np.bool_]
REACH = 1.35  # radii: no shape is seen farther from its centre


def corners(shape: str) -> NDArray[np.float64]:
    """[V, 2], the outline of a straight-sided shape in radii, y down."""
    if shape == "square":
        return np.array([(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)])
    if shape == "triangle":
        turns = np.deg2rad([90, 210, 330])
        return np.stack([np.cos(turns), 0.14 - np.sin(turns)], 1)
    if shape == "star":
        turns, away = np.deg2rad(36 * np.arange(10)), np.where(np.arange(10) % 2, 0.48, 1.0)
        return np.stack([away * np.sin(turns), -away * np.cos(turns)], 1)
    if shape == "cross":
        quarter = np.array([(-0.33, -0.9), (0.33, -0.9), (0.33, -0.33)])
        turned = [quarter]
        for _ in range(3):
            turned.append(np.stack([-turned[-1][:, 1], turned[-1][:, 0]], 1))
        return np.concatenate(turned)
    if shape == "heart":  # the square; the two discs sit on its upper sides
        half = 0.5 * np.sqrt(2)
        return np.array([(0, 0.24 - half), (half, 0.24), (0, 0.24 + half), (-half, 0.24)])
    raise KeyError(shape)


def in_polygon(outline: NDArray[np.floating], x: NDArray[np.floating], y: NDArray[np.floating]) -> Mask:
    """Even-odd rule: how many edges a ray to the right crosses."""
    odd = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0)):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return odd


def inside(shape: str, x: NDArray[np.floating], y: NDArray[np.floating]) -> Mask:
    """Whether points, in radii, y down, lie in a shape."""
    square = x * x + y * y
    if shape == "circle":
        return square < 0.9**2
    if shape == "ring":
        return (square < 0.93**2) & (square > 0.43**2)
    if shape == "moon":
        return (square < 0.93**2) & ((x - 0.52) ** 2 + (y + 0.08) ** 2 > 0.72**2)
    within = in_polygon(corners(shape), x, y)
    if shape == "heart":
        middle = 0.5 / np.sqrt(2)  # of an upper side of the square
        within |= (np.abs(x) - middle) ** 2 + (y - 0.24 + middle) ** 2 < 0.25
    return within


def points(size: int) -> int:
    """Points along the side of a pixel."""
    return 4 if size <= 64 else 2


def silhouettes(scenes: Scenes, size: int) -> Mask:
    """[N, K, R, R], R = size * points(size): whether each point lies in each whole object, behind others or not."""
    resolution = size * points(size)
    half = int(np.ceil(REACH * 0.21 * resolution))
    canvas = np.zeros((*scenes.shape.shape, resolution + 2 * half, resolution + 2 * half), dtype=bool)
    for number, shape in enumerate(SHAPES):
        rows, ranks = np.nonzero(scenes.shape == number)
        if not len(rows):
            continue
        x, y, radius, angle = scenes.pose[rows, ranks].T
        first = np.stack([np.floor(x * resolution), np.floor(y * resolution)], 1).astype(int) - half
        steps = first[..., None] + np.arange(2 * half)  # M 2 P
        places = (steps + 0.5) / resolution
        right = ((places[:, 0] - x[:, None]) / radius[:, None])[:, None, :].astype(np.float32)
        down = ((places[:, 1] - y[:, None]) / radius[:, None])[:, :, None].astype(np.float32)
        turned = np.exp(-1j * angle).astype(np.complex64)[:, None, None] * (right + 1j * down)  # clockwise, y being down
        where = rows[:, None, None], ranks[:, None, None], steps[:, 1, :, None] + half, steps[:, 0, None, :] + half
        canvas[where] = inside(shape, turned.real, turned.imag)
    return canvas[:, :, half : half + resolution, half : half + resolution]


def in_sight(whole: Mask) -> Mask:
    """Of silhouettes [N, K, R, R], nearest first, what no nearer one hides."""
    hidden = np.zeros_like(whole[:, 0])
    seen = np.empty_like(whole)
    for rank in range(whole.shape[1]):
        seen[:, rank] = whole[:, rank] & ~hidden
        hidden |= whole[:, rank]
    return seen


def of_pixels(values: NDArray, size: int) -> NDArray[np.float64]:
    """[..., R, R] -> [..., size, size]: the share of each pixel's points, or their mean."""
    step = values.shape[-1] // size
    return values.reshape(*values.shape[:-2], size, step, size, step).mean((-3, -1))


def grown(mask: Mask) -> Mask:
    """[..., H, W] and every pixel beside it, corners too."""
    padded = np.pad(mask, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)])
    height, width = mask.shape[-2:]
    found = np.zeros_like(mask)
    for down in range(3):
        for right in range(3):
            found |= padded[..., down : down + height, right : right + width]
    return found


def chunks(num: int, length: int = 125) -> Iterator[NDArray[np.int64]]:
    """0..num - 1 in pieces."""
    for start in range(0, num, length):
        yield np.arange(start, min(start + length, num))
