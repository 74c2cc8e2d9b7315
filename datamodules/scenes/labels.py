"""What is true of each pixel: masks, depth, normals, edges, lines, a scribble, poses; and the boxes of the objects.

Each map is made from the same layers as the picture, so that it fits it to the pixel.
"""


import numpy as np
from numpy.typing import NDArray

from datamodules.scenes.drawing import Floats, Layer, horizon, layers, normals, reduce, samples, signed_distance, to_uint8
from datamodules.scenes.shapes import STRAIGHT
from datamodules.scenes.world import MAX_OBJECTS, SHAPES, Scenes

LINE = 0.5  # half the width of a drawn line, in pixels
PENS = ("edges", "soft_edges", "lines", "scribble", "pose")
MAPS = ("instance", "semantic", "depth", "normals", *PENS)
FAR = 1.0  # depth of a wall and of the sky; the ground comes forward to GROUND at the lower edge
GROUND = 0.9
SEMANTIC = np.array([
    (225, 225, 225), (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40),
    (148, 103, 189), (140, 86, 75), (227, 119, 194), (188, 189, 34),
], dtype=np.uint8)  # fmt: skip
INSTANCE = np.array([(0, 0, 0), (230, 75, 53), (77, 187, 213), (0, 160, 135)], dtype=np.uint8)


def instance_mask(scenes: Scenes, size: int) -> NDArray[np.int64]:
    """[N, size, size]: k + 1 where object k is what one sees of a pixel (of half its area at least), 0 the background."""
    share = np.zeros((len(scenes), size * samples(size), size * samples(size), MAX_OBJECTS + 1), dtype=np.float32)
    share[..., 0] = 1
    for layer in layers(scenes, size):
        seen = share[layer.where]
        seen *= 1 - layer.cover[..., None]
        seen[..., layer.rank + 1] += layer.cover
        share[layer.where] = seen
    share = reduce(share, size)
    return np.where(share[..., 0] > 0.5, 0, share[..., 1:].argmax(-1) + 1)


def semantic_mask(scenes: Scenes, instance: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N, H, W]: 1 + the shape's number where an object is seen, 0 the background."""
    shape = np.concatenate([np.full((len(scenes), 1), -1), scenes.shape], 1)
    return np.take_along_axis(shape, instance.reshape(len(scenes), -1), 1).reshape(instance.shape) + 1


def boxes(instance: NDArray[np.int64]) -> Floats:
    """[N, K, 4]: x0 y0 x1 y1 of the pixels in which each object is seen, as fractions of the side; 0 where there is none."""
    size = instance.shape[-1]
    found = np.zeros((len(instance), MAX_OBJECTS, 4), dtype=np.float32)
    for number in range(MAX_OBJECTS):
        seen = instance == number + 1
        for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
            line = seen.any(axis)  # N size: columns, then rows
            there = line.any(1)
            found[there, number, low] = line[there].argmax(1) / size
            found[there, number, high] = (size - line[there, ::-1].argmax(1)) / size
    return found


def depth(scenes: Scenes, instance: NDArray[np.int64]) -> Floats:
    """[N, H, W] in 0..1, growing with the distance: objects stand before walls, skies and the ground."""
    num, size = len(scenes), instance.shape[-1]
    place = (np.arange(size, dtype=np.float32) + 0.5) / size
    level = horizon(scenes)[:, None]
    ground = FAR - (FAR - GROUND) * ((place - level) / (1 - level)).clip(0, 1)
    back = np.where((scenes.background == 2)[:, None], ground, FAR)[:, :, None]  # N H 1
    objects = np.concatenate([np.zeros((num, 1)), scenes.depth], 1)
    front = np.take_along_axis(objects, instance.reshape(num, -1), 1).reshape(instance.shape)
    return np.where(instance == 0, back, front).astype(np.float32)


def normal_map(scenes: Scenes, size: int) -> Floats:
    """[N, H, W, 3], unit vectors: x right, y down, z towards the eye; walls and skies face the eye, a ground faces up."""
    resolution = size * samples(size)
    canvas = np.zeros((len(scenes), resolution, resolution, 3), dtype=np.float32)
    canvas[..., 2] = 1
    place = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    ground = (scenes.background == 2)[:, None] & (place > horizon(scenes)[:, None])
    canvas[ground] = np.array([0, -0.9, np.sqrt(1 - 0.81)], dtype=np.float32)
    for layer in layers(scenes, size):
        canvas[layer.where] += layer.cover[..., None] * (normals(layer) - canvas[layer.where])
    canvas = reduce(canvas, size)
    return canvas / np.linalg.norm(canvas, axis=-1, keepdims=True)


def pen(scenes: Scenes, size: int, kind: str) -> Floats:
    """[N, H, W] in 0..1, what a pen leaves on the objects that are in sight.

    edges: outlines and the horizon; soft_edges: the same, fading over a few pixels; lines: the straight parts of them;
    scribble: outlines by an unsteady hand; pose: the upright axis of each object with a bar across its middle.
    """
    step = samples(size)
    canvas = np.zeros((len(scenes), size * step, size * step), dtype=np.float32)
    if kind in ("edges", "soft_edges", "lines"):
        level = (np.arange(size * step) + 0.5)[None] - horizon(scenes)[:, None] * size * step
        stroke = np.where((scenes.background == 2)[:, None], _stroke(level, step, kind, size), 0)
        canvas += stroke[:, :, None]
    beyond = 3 * max(1, size // 32) if kind in ("soft_edges", "scribble") else 1  # pixels that a stroke may be off the object
    for layer in layers(scenes, size, beyond * step):
        behind = canvas[layer.where] * (1 - layer.cover)
        canvas[layer.where] = np.maximum(behind, _pen_of_layer(scenes, layer, kind, step, size))
    return reduce(canvas, size).clip(0, 1)


def picture(scenes: Scenes, size: int, kind: str) -> NDArray[np.uint8]:
    """One of MAPS as a picture, uint8 [N, size, size, 3]: near is light in depth, normals are 127.5 (1 + n) with y up."""
    if kind in PENS:
        return _gray(pen(scenes, size, kind))
    if kind == "normals":
        return to_uint8((normal_map(scenes, size) * np.array([1, -1, 1], dtype=np.float32) + 1) / 2)
    instance = instance_mask(scenes, size)
    if kind == "depth":
        return _gray(1 - depth(scenes, instance))
    return INSTANCE[instance] if kind == "instance" else SEMANTIC[semantic_mask(scenes, instance)]


def _pen_of_layer(scenes: Scenes, layer: Layer, kind: str, step: int, size: int) -> Floats:
    shape = scenes.shape[layer.rows, layer.rank]
    if kind == "pose":
        upright = np.hypot(layer.x, layer.y - np.clip(layer.y, -0.85, 0.6))
        bar = np.hypot(layer.x - np.clip(layer.x, -0.45, 0.45), layer.y)
        return _stroke(np.minimum(upright, bar) * layer.scale, step, kind, size)
    if kind == "scribble":
        phase = (scenes.index[layer.rows] * 1.7 + layer.rank)[:, None, None]
        x = layer.x + 0.09 * np.sin(3.1 * layer.y + phase) + 0.04 * np.sin(7.3 * layer.y + 2 * phase)
        y = layer.y + 0.09 * np.sin(2.7 * layer.x + 1.3 * phase) + 0.04 * np.sin(6.1 * layer.x + phase)
        unsteady = signed_distance(shape, x.astype(np.float32), y.astype(np.float32)) * layer.scale
        return _stroke(unsteady, step, kind, size)
    stroke = _stroke(layer.distance, step, kind, size)
    if kind == "lines":
        straight = np.array(STRAIGHT)[shape][:, None, None]
        lower = (shape == SHAPES.index("heart"))[:, None, None] & (layer.y > 0.24)  # the heart's point is a square's corner
        return np.where(straight | lower, stroke, 0)
    return stroke


def _stroke(distance: NDArray[np.floating], step: int, kind: str, size: int) -> Floats:
    """0..1 from the distance to a line in samples."""
    if kind == "soft_edges":
        return np.exp(-np.square(distance / (step * max(1.0, size / 40)))).astype(np.float32)
    width = step * LINE * max(1.0, size / 64)
    return np.clip(width - np.abs(distance) + 0.5, 0, 1).astype(np.float32)


def _gray(values: Floats) -> NDArray[np.uint8]:
    return np.repeat(to_uint8(values)[..., None], 3, -1)
