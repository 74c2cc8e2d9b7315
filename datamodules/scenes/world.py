"""What is in a scene: one to three objects on a background, described before anything is drawn.

A scene is a function of (seed, stream, index) alone: its numbers come from a counter-based generator (Philox) that
begins at its index, so that scene 7 is the same whether it is made first, alone, or by another process. Lengths are
fractions of the side, x to the right and y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
BACKGROUNDS = ("plain", "gradient", "horizon")
MAX_OBJECTS = 3
RADII = np.array([(0.118, 0.135), (0.19, 0.21)])  # of small and large objects
GRID = np.array([0.23, 0.5, 0.77])  # middles of the places' columns and rows
JITTER = 0.06  # around the middle: no centre comes near the border of its place
MARGIN = 0.01  # between an object and the picture's edge
APART = 0.78  # centres keep this share of the sum of their radii between them: most of each object is seen
TILT = 0.3  # radians to either side
PAIR_CANDIDATES, LAYOUT_CANDIDATES = 8, 16

Pairs = Sequence[tuple[int, int]]  # (shape, colour) by number
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scenes:
    """N scenes of up to K = 3 objects, nearest first; -1 (0 for what is not a class) stands where there is no object.

    What moves with time stands in `pose` alone: a clip would be the same scenes with other poses.
    """

    index: NDArray[np.int64]  # N
    count: NDArray[np.int64]  # N
    shape: NDArray[np.int64]  # N K, of SHAPES
    colour: NDArray[np.int64]  # N K, of COLOURS
    size: NDArray[np.int64]  # N K, of SIZES
    texture: NDArray[np.int64]  # N K, of TEXTURES
    pose: Floats  # N K 4: x, y, radius, angle in radians (clockwise)
    depth: Floats  # N K in 0.2..0.8, growing with the distance
    tone: Floats  # N K in -1..1: a little darker or lighter than the palette
    background: NDArray[np.int64]  # N, of BACKGROUNDS
    scenery: Floats  # N 4 in 0..1: lightness, hue, direction of the gradient, height of the horizon

    def __len__(self) -> int:
        return len(self.count)

    @property
    def place(self) -> NDArray[np.int64]:
        """int64 [N, K], of PLACES: the ninth of the picture in which an object has its centre."""
        column, row = np.moveaxis((self.pose[..., :2] * 3).astype(np.int64), -1, 0)
        return np.where(self.shape >= 0, 3 * row + column, -1)


def uniforms(seed: int, stream: int, index: NDArray[np.int64], num: int) -> Floats:
    """[N, num] numbers in [0, 1): row i is a function of (seed, stream, index[i])."""
    rows = [np.random.Philox(key=[seed, stream], counter=[0, 0, 0, i]) for i in index.tolist()]
    return np.stack([np.random.Generator(row).random(num) for row in rows])


def shares(held_out: Pairs = (), correlation: float | None = None) -> Floats:
    """P(shape, colour) [8, 8]: every shape as often, no held-out pair, and P(colour i | shape i) = `correlation` if given."""
    weights = np.ones((len(SHAPES), len(COLOURS)))
    for shape, colour in held_out:
        weights[shape, colour] = 0
    if correlation is not None:
        own = np.eye(len(SHAPES), dtype=bool)
        others = np.where(own, 0, weights)
        weights = np.where(own, correlation, (1 - correlation) * others / others.sum(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True) / len(SHAPES)


def pick(pairs: Floats, draws: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shapes and colours [...] from P(shape, colour) [8, 8] and two uniform numbers each, [..., 2]."""
    of_shape = pairs.sum(1).cumsum()
    shape = np.searchsorted(of_shape / of_shape[-1], draws[..., 0], side="right")
    of_colour = pairs.cumsum(1) / np.maximum(pairs.sum(1, keepdims=True), 1e-12)
    return shape, (draws[..., 1, None] >= of_colour[shape]).sum(-1)


def describe(
    seed: int, stream: int, index: NDArray[np.int64], pairs: Sequence[Floats], objects: tuple[int, int] = (1, MAX_OBJECTS)
) -> Scenes:
    """Scenes `index` [N] of a stream; `pairs` is P(shape, colour) for each of the K objects, `objects` the least and the
    most objects.

    Every draw has columns of its own among the uniforms, so that a knob moves nothing but what it is about.
    """
    num, most = len(index), MAX_OBJECTS
    drawn = uniforms(seed, stream, index, 6 + 5 * most + PAIR_CANDIDATES * 2 * most + LAYOUT_CANDIDATES * (9 + 2 * most))
    columns = iter(drawn.T)

    def take(*shape: int) -> Floats:
        return np.stack([next(columns) for _ in range(int(np.prod(shape)))], 1).reshape(num, *shape)

    least, greatest = objects
    count = least + (take(1)[:, 0] * (greatest - least + 1)).astype(np.int64)
    background = (take(1)[:, 0] * len(BACKGROUNDS)).astype(np.int64)
    scenery = take(4)
    size = (take(most) * len(SIZES)).astype(np.int64)
    radius = RADII[size, 0] + take(most) * (RADII[size, 1] - RADII[size, 0])
    texture = (take(most) * len(TEXTURES)).astype(np.int64)
    tone = take(most) * 2 - 1
    angle = (take(most) * 2 - 1) * TILT
    shape, colour = _distinct_pairs(take(PAIR_CANDIDATES, most, 2), pairs)
    position = _layout(take(LAYOUT_CANDIDATES, 9 + 2 * most), radius, count)
    pose = np.concatenate([position, radius[..., None], angle[..., None]], 2)
    depth = np.broadcast_to(0.2 + 0.6 * (np.arange(most) + 0.5) / most, (num, most))
    there = np.arange(most) < count[:, None]
    shape, colour, size, texture = (np.where(there, values, -1) for values in (shape, colour, size, texture))
    pose, depth = np.where(there[..., None], pose, 0), np.where(there, depth, 0)
    return Scenes(index, count, shape, colour, size, texture, pose, depth, tone, background, scenery)


def _distinct_pairs(draws: Floats, pairs: Sequence[Floats]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shapes and colours [N, K] from draws [N, candidates, K, 2]; no pair stands twice in a scene.

    An object takes its first candidate that is not there yet; should there be none, the next shape in order.
    """
    chosen = np.empty((len(draws), 0), dtype=np.int64)
    for number, share in enumerate(pairs):
        turned = np.stack([(draws[:, -1, number] + (turn / len(SHAPES), 0)) % 1 for turn in range(1, MAX_OBJECTS + 1)], 1)
        shape, colour = pick(share, np.concatenate([draws[:, :, number], turned], 1))  # N candidates + K
        pair = shape * len(COLOURS) + colour
        new = (pair[..., None] != chosen[:, None]).all(-1)
        chosen = np.concatenate([chosen, pair[np.arange(len(pair)), new.argmax(1), None]], 1)
    return chosen // len(COLOURS), chosen % len(COLOURS)


def _layout(draws: Floats, radius: Floats, count: NDArray[np.int64]) -> Floats:
    """Centres [N, K, 2] from draws [N, candidates, 9 + 2 K]: each object in a place of its own, none covering another.

    Of the candidates the first is taken that keeps all objects apart, else the one that comes nearest to it.
    """
    places = draws[..., :9].argsort(-1)[..., :MAX_OBJECTS]  # N candidates K
    middle = np.stack([GRID[places % 3], GRID[places // 3]], -1)  # N candidates K 2
    jitter = (draws[..., 9:].reshape(middle.shape) * 2 - 1) * JITTER
    inside = (radius + MARGIN)[:, None, :, None]
    centre = np.clip(middle + jitter, inside, 1 - inside)
    room = np.full(draws.shape[:2], np.inf)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        apart = np.linalg.norm(centre[:, :, first] - centre[:, :, second], axis=-1)
        needed = APART * (radius[:, first] + radius[:, second])
        room = np.where((count > second)[:, None], np.minimum(room, apart / needed[:, None]), room)
    best = np.where((room >= 1).any(1), (room >= 1).argmax(1), room.argmax(1))
    return centre[np.arange(len(centre)), best]
