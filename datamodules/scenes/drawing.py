"""From descriptions to pictures: painter's order, farthest object first, anti-aliased at any size.

Everything is drawn `samples(size)` times finer than asked and averaged, each object on a patch around it, a batch at a time:
NumPy then works on large arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.shapes import SIGNED_DISTANCES, checks, dots, stripes
from datamodules.scenes.world import MAX_OBJECTS, RADII, Scenes, uniforms

Floats = NDArray[np.floating]

PALETTE = np.array([
    (222, 56, 58), (240, 138, 36), (247, 205, 62), (66, 164, 88),
    (62, 197, 205), (52, 104, 214), (132, 74, 182), (241, 134, 182),
], dtype=np.float32) / 255  # fmt: skip
# The same names in other shades.
OTHER_PALETTE = np.array([
    (150, 20, 60), (205, 95, 60), (190, 160, 20), (20, 100, 75),
    (130, 225, 215), (110, 165, 245), (75, 40, 105), (215, 75, 150),
], dtype=np.float32) / 255  # fmt: skip
LIGHT = np.array([-0.45, -0.6, 0.66], dtype=np.float32)  # towards the light: from the upper left, in front
BEVEL = 0.3  # width of the rounded rim, in radii
FINEST = 64  # samples along a side, at least; twice the size where that is more


@dataclass(frozen=True)
class Style:
    """How a description is painted: as in training, or with one thing changed for studies of robustness."""

    palette: Floats = field(default_factory=lambda: PALETTE)
    outline: bool = False  # objects are lines
    checked: bool = False  # every object wears a pattern that no training picture has
    clutter: int = 0  # specks behind the objects
    noise: float = 0.0  # standard deviation of Gaussian noise, white being 1


SHIFTS = {
    "none": Style(), "palette": Style(palette=OTHER_PALETTE), "outline": Style(outline=True),
    "clutter": Style(clutter=24), "texture": Style(checked=True), "noise": Style(noise=0.12),
}  # fmt: skip
CLUTTER, NOISE = 5, 6  # streams of the random numbers


@dataclass(frozen=True)
class Layer:
    """Objects of M scenes on patches of P x P samples: the next thing that the painter puts on."""

    rows: NDArray[np.int64]  # M, which scenes
    rank: int  # which object of theirs, 0 the nearest
    where: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # index of the patches in [N, R, R, ...]
    x: Floats  # M P P, in radii of the object, turned as the object is
    y: Floats
    distance: Floats  # M P P, signed distance to the outline in samples, negative inside
    scale: Floats  # M 1 1, samples in a radius

    @property
    def cover(self) -> Floats:
        """M P P in 0..1: the share of each sample inside the outline."""
        return np.clip(0.5 - self.distance, 0, 1)


def samples(size: int) -> int:
    """Samples along the side of a pixel."""
    return max(2, FINEST // size)


def draw(scenes: Scenes, size: int, style: Style = SHIFTS["none"]) -> NDArray[np.uint8]:
    """uint8 [N, size, size, 3]; the specks and the noise of a style are a function of the scenes' index."""
    canvas = paint_background(scenes, size * samples(size))
    if style.clutter:
        _paint_clutter(canvas, scenes, style.clutter)
    for layer in layers(scenes, size):
        rim = 0.11 * layer.scale
        cover = np.clip(0.5 - (np.abs(layer.distance + rim) - rim), 0, 1) if style.outline else layer.cover
        canvas[layer.where] += cover[..., None] * (_paint(scenes, layer, style) - canvas[layer.where])
    picture = reduce(canvas, size)
    if style.noise:
        picture = picture + style.noise * np.stack([_normal(index, picture[0].shape) for index in scenes.index.tolist()])
    return to_uint8(picture)


def layers(scenes: Scenes, size: int, room: int = 0) -> Iterator[Layer]:
    """Every object of every scene, farthest first; each yield holds at most one object of a scene.

    `room` is how many samples beyond the object a patch reaches.
    """
    resolution = size * samples(size)
    for rank in reversed(range(MAX_OBJECTS)):
        for sort in range(len(RADII)):
            rows = np.flatnonzero(scenes.size[:, rank] == sort)
            if not len(rows):
                continue
            rows = rows[np.argsort(scenes.shape[rows, rank], kind="stable")]
            pose = scenes.pose[rows, rank].astype(np.float32)  # M 4
            patch = min(resolution, 2 * int(np.ceil(RADII[sort, 1] * 1.08 * resolution + 1) + room))
            first = np.clip(np.round(pose[:, :2] * resolution).astype(np.int64) - patch // 2, 0, resolution - patch)
            steps = first[..., None] + np.arange(patch)  # M 2 P
            offset = (steps.astype(np.float32) + 0.5) / resolution - pose[:, :2, None]
            offset /= pose[:, 2, None, None]  # M 2 P, in radii
            angle = scenes.pose[rows, rank, 3, None, None]
            cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
            right, down = offset[:, 0, None, :], offset[:, 1, :, None]
            x, y = cos * right + sin * down, cos * down - sin * right  # M P P
            scale = pose[:, 2, None, None] * np.float32(resolution)
            where = rows[:, None, None], steps[:, 1, :, None], steps[:, 0, None, :]
            yield Layer(rows, rank, where, x, y, signed_distance(scenes.shape[rows, rank], x, y) * scale, scale)


def signed_distance(shape: NDArray[np.int64], x: Floats, y: Floats) -> Floats:
    """[M, P, P] in radii, for the shapes [M], which are sorted."""
    bounds = np.searchsorted(shape, np.arange(len(SIGNED_DISTANCES) + 1))
    parts = [
        outline(x[low:high], y[low:high])
        for outline, low, high in zip(SIGNED_DISTANCES, bounds[:-1], bounds[1:], strict=True)
        if high > low
    ]
    return np.concatenate(parts).astype(np.float32, copy=False)


def normals(layer: Layer) -> Floats:
    """Unit normals [M, P, P, 3] of a flat plate with a rounded rim: x right, y down, z towards the eye."""
    down, right = np.gradient(layer.distance, axis=(1, 2))
    rim = np.clip(1 + layer.distance / (BEVEL * layer.scale), 0, 1)
    tilt = 0.75 * rim * rim
    x, y = right * tilt, down * tilt
    z = np.sqrt(np.clip(1 - x * x - y * y, 0.05, 1))
    return np.stack([x, y, z], -1)


def paint_background(scenes: Scenes, resolution: int) -> Floats:
    """float32 [N, R, R, 3] in 0..1: a wall of one colour, of a gradient, or a sky above a ground."""
    lightness, hue, direction = scenes.scenery[:, :3].T
    near, far = _pastel(lightness, hue), _pastel(np.clip(lightness * 0.7 + 0.3, 0, 1), hue + 0.12)
    place = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    angle = 2 * np.pi * direction[:, None, None]
    across, along = np.cos(angle).astype(np.float32) * (place - 0.5), np.sin(angle).astype(np.float32) * (place - 0.5)[:, None]
    blend = np.where((scenes.background == 1)[:, None, None], across + along + 0.5, 0)  # N R R
    sky = 0.35 * place[:, None] / horizon(scenes)[:, None, None]
    blend = np.where((scenes.background == 2)[:, None, None], sky, blend).clip(0, 1)[..., None]
    canvas = near[:, None, None] + blend * (far - near)[:, None, None]
    ground = _ground(lightness, hue)[:, None, None] * (0.9 + 0.1 * place[:, None])[..., None]
    below = np.clip((place - horizon(scenes)[:, None]) * resolution + 0.5, 0, 1)[:, :, None, None]  # N R 1 1
    below = np.where((scenes.background == 2)[:, None, None, None], below, 0)
    return canvas + below * (ground - canvas)


def horizon(scenes: Scenes) -> Floats:
    """Height [N] of the horizon below the top, where there is one."""
    return (0.5 + 0.22 * scenes.scenery[:, 3]).astype(np.float32)


def reduce(canvas: Floats, size: int) -> Floats:
    """[N, R, R, ...] -> [N, size, size, ...]: the mean over the samples of each pixel."""
    step = canvas.shape[1] // size
    rows = np.add.reduce([canvas[:, start::step] for start in range(step)])  # faster than a mean over two axes
    return np.add.reduce([rows[:, :, start::step] for start in range(step)]) / np.float32(step * step)


def to_uint8(values: Floats) -> NDArray[np.uint8]:
    """0..1 -> 0..255, rounded."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _paint(scenes: Scenes, layer: Layer, style: Style) -> Floats:
    """Colours [M, P, P, 3] of the objects: palette, texture, light."""
    base = style.palette[scenes.colour[layer.rows, layer.rank]]
    base = np.clip(base * (1 + 0.07 * scenes.tone[layer.rows, layer.rank, None]), 0, 1).astype(np.float32)
    paint = np.broadcast_to(base[:, None, None], (*layer.x.shape, 3)).copy()
    dark, light = base * 0.52, base * 0.15 + 0.85
    texture = np.full(len(base), 3) if style.checked else scenes.texture[layer.rows, layer.rank]
    for number, (pattern, other) in enumerate(((stripes, dark), (dots, light), (checks, light)), start=1):
        has = texture == number
        inside = np.clip(0.5 - pattern(layer.x[has], layer.y[has]) * layer.scale[has], 0, 1)[..., None]
        paint[has] += inside * (other[has, None, None] - paint[has])
    x, y, z = np.moveaxis(normals(layer), -1, 0)
    shade = x * LIGHT[0] + y * LIGHT[1] + z * LIGHT[2] - LIGHT[2]
    return np.clip(paint * (1 + 0.55 * shade[..., None]), 0, 1)


def _paint_clutter(canvas: Floats, scenes: Scenes, num: int) -> None:
    """Specks of any colour, smaller than every object."""
    resolution = canvas.shape[1]
    draws = uniforms(0, CLUTTER, scenes.index, 6 * num).reshape(len(scenes), num, 6).astype(np.float32)
    place = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    for x, y, radius, *colour in np.moveaxis(draws, (1, 2), (0, 1)):
        across, down = place - x[:, None], place - y[:, None]
        away = np.sqrt(across[:, None, :] ** 2 + down[:, :, None] ** 2) - (0.01 + 0.02 * radius[:, None, None])
        cover = np.clip(0.5 - away * resolution, 0, 1)[..., None]
        canvas += cover * (np.stack(colour, -1)[:, None, None] - canvas)


def _normal(index: int, shape: tuple[int, ...]) -> Floats:
    random = np.random.Generator(np.random.Philox(key=[0, NOISE], counter=[0, 0, 0, index]))
    return random.standard_normal(shape, dtype=np.float32)


def _pastel(lightness: Floats, hue: Floats) -> Floats:
    """Walls and skies [N, 3]: light or (one in four) dark, and never as bright in colour as an object."""
    dark = lightness < 0.25
    level = np.where(dark, 0.16 + 0.4 * lightness, 0.72 + 0.28 * lightness)
    phase = 2 * np.pi * (hue[:, None] + np.array([0, 1 / 3, 2 / 3]))
    return (level[:, None] + 0.06 * np.cos(phase)).clip(0, 1).astype(np.float32)


def _ground(lightness: Floats, hue: Floats) -> Floats:
    return (_pastel(lightness, hue + 0.45) * 0.8).astype(np.float32)
