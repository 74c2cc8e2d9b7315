"""The objects of a scene as words, and the numbers that choose a sentence's wording: a function of (seed, stream, index)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from datamodules.scenes.world import COLOURS, PLACES, SHAPES, SIZES, TEXTURES, Scenes, uniforms

WORDING = 16  # streams of the wordings, beside those of the scenes
NUM_DRAWS = 160  # the longest scene takes about 110
NUMBERS = ("no", "one", "two", "three")
VOCABULARY = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES, "place": PLACES}

Pairs = Callable[[int, float, float], tuple[str, str]]  # (number of an object, two draws) -> a (shape, colour) as it may have


@dataclass(frozen=True)
class Thing:
    """An object in words."""

    shape: str
    colour: str
    size: str
    texture: str
    place: str
    x: float
    y: float


def things(scenes: Scenes, row: int) -> list[Thing]:
    """The objects of one scene, nearest first."""
    place = scenes.place[row]
    return [
        Thing(SHAPES[scenes.shape[row, k]], COLOURS[scenes.colour[row, k]], SIZES[scenes.size[row, k]],
              TEXTURES[scenes.texture[row, k]], PLACES[place[k]], *scenes.pose[row, k, :2].tolist())
        for k in range(scenes.count[row])
    ]  # fmt: skip


def relation(first: Thing, second: Thing) -> str:
    """Where the first is, seen from the second, along the axis on which they are farther apart."""
    right, down = first.x - second.x, first.y - second.y
    if abs(right) >= abs(down):
        return "right of" if right > 0 else "left of"
    return "below" if down > 0 else "above"


class Wording:
    """Draws from one scene's own numbers, in order."""

    def __init__(self, draws: Iterable[float]) -> None:
        self.draws = iter(draws)

    def choose(self, options):
        return options[int(next(self.draws) * len(options))]

    def chance(self, share: float) -> bool:
        return next(self.draws) < share

    def shuffled(self, options: list) -> list:
        return self.choose(list(permutations(options)))


def wordings(seed: int, stream: int, index: np.ndarray) -> list[Wording]:
    """One for each scene [N]."""
    return [Wording(row) for row in uniforms(seed, WORDING + stream, index, NUM_DRAWS).tolist()]
