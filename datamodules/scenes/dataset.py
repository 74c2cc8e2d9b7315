"""The built-in data set `scenes`: drawn, endless, and the same for the same (seed, index, size)."""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from datamodules import sources
from datamodules.decoded import _progress as progress
from datamodules.scenes import drawing, labels, world
from datamodules.scenes.captions import STYLES, captions
from datamodules.scenes.questions import questions
from datamodules.scenes.wording import VOCABULARY, things, wordings

if TYPE_CHECKING:
    import datasets

VERSION = 3  # part of the fingerprint: raise it when a picture or a sentence changes
CHUNK = 256  # scenes drawn at a time
STREAMS = {"train": 0, "validation": 1, "test": 2, "held_out": 3}
HELD_OUT = (
    "yellow circle", "blue square", "pink triangle", "red star", "green heart", "purple ring", "orange cross", "cyan moon",
)  # fmt: skip
SHIFTED = ("test", "held_out")
NAMES = [f"{colour} {shape}" for shape in world.SHAPES for colour in world.COLOURS]

Shift = Literal["none", "palette", "outline", "clutter", "texture", "noise"]
Style = Literal["mixed", "short", "full", "question"]


class Scenes(sources.Source):
    """One to three objects on a background, with captions, questions and answers, boxes, and maps of each pixel.

    Splits: train, validation, test, and held_out: scenes of the (colour, shape) pairs that no other split has.

    Args:
        num_train, num_validation, num_test: Scenes of the splits (held_out has as many as test).
        seed: Another world.
        min_objects, max_objects: How many objects a scene has, 1 to 3, each number as often.
        held_out: Pairs such as "red star" that never occur in train, validation and test.
        correlation: The planted bias of train and validation: P(colour | shape) of each shape's own colour (red circle,
            orange square, yellow triangle, green star, cyan heart, blue ring, purple cross, pink moon), in (0, 1), exact for the
            nearest object (no pair stands twice in a scene); null gives every colour the same share.
        shift: What differs in test and held_out: palette (other shades), outline (objects are lines), clutter (specks
            behind them), texture (a pattern never seen), noise.
        caption_style: short (colour and shape), full (every attribute and relation), mixed (one short, three full), or
            question (a question and its answer).
        maps: Further picture columns, of instance, semantic, depth, normals, edges, soft_edges, lines, scribble, pose.
    """

    title = "scenes"

    def __init__(
        self,
        num_train: int = 20000,
        num_validation: int = 2000,
        num_test: int = 2000,
        seed: int = 0,
        min_objects: int = 1,
        max_objects: int = world.MAX_OBJECTS,
        held_out: Sequence[str] = HELD_OUT,
        correlation: float | None = None,
        shift: Shift = "none",
        caption_style: Style = "mixed",
        maps: Sequence[str] = (),
    ) -> None:
        self.num = {"train": num_train, "validation": num_validation, "test": num_test, "held_out": num_test}
        self.seed, self.objects, self.shift, self.caption_style = seed, (min_objects, max_objects), shift, caption_style
        self.maps = list(maps)
        for argument, num in (("num_train", num_train), ("num_validation", num_validation), ("num_test", num_test)):
            if num < 1:
                raise ValueError(f"{argument}: {num} is not a positive whole number")
        if seed < 0:
            raise ValueError(f"seed: {seed} is negative; take a whole number from 0")
        if not 1 <= min_objects <= max_objects <= world.MAX_OBJECTS:
            raise ValueError(f"min_objects, max_objects: {min_objects}, {max_objects} are not 1 <= min <= max <= 3")
        for argument, value, known in (("shift", shift, drawing.SHIFTS), ("caption_style", caption_style, STYLES)):
            if value not in known:
                raise ValueError(f"{argument}: no {value!r}{sources.nearest(value, known)} (there are: {', '.join(known)})")
        for name in self.maps:
            if name not in labels.MAPS:
                raise ValueError(f"maps: no {name!r}{sources.nearest(name, labels.MAPS)} (maps: {', '.join(labels.MAPS)})")
        if correlation is not None and not 0 < correlation < 1:
            raise ValueError(f"correlation: {correlation} is not a share between 0 and 1")
        self.pairs, self.correlation = [_pair(name) for name in held_out], correlation
        if correlation is not None and any(shape == colour for shape, colour in self.pairs):
            raise ValueError("held_out: names a pair of the planted correlation; hold out others, or leave correlation null")
        for shape, name in enumerate(world.SHAPES):
            if sum(pair[0] == shape for pair in set(self.pairs)) >= len(world.COLOURS) - 1:
                raise ValueError(f"held_out: leaves {name} fewer than two colours; hold out fewer pairs")

    def load(self, image_size: int | None) -> "Mapping[str, datasets.Dataset]":
        """Each split is drawn when it is first asked for, and comes from the cache of `datasets` from then on."""
        return _Splits(self, image_size or 32)

    def chances(self, split: str) -> list[world.Floats]:
        """P(shape, colour) [8, 8] of each object of a scene; only the nearest one of held_out has a held-out pair."""
        usual = world.shares(self.pairs, self.correlation if split in ("train", "validation") else None)
        held_out = (world.shares(self.pairs) == 0) / max(1, len(set(self.pairs)))
        return [held_out if split == "held_out" else usual, *[usual] * (world.MAX_OBJECTS - 1)]

    def describe(self, split: str, index: np.ndarray) -> world.Scenes:
        """The scenes `index` [N] of a split, endless: any whole number from 0 is one."""
        return world.describe(self.seed, STREAMS[split], index, self.chances(split), self.objects)

    def rows(self, split: str, index: np.ndarray, size: int) -> Iterator[dict[str, Any]]:
        """The data set's rows of the scenes `index` [N], drawn at `size` px."""
        scenes = self.describe(split, index)
        style = drawing.SHIFTS[self.shift if split in SHIFTED else "none"]
        pictures = {"image": drawing.draw(scenes, size, style)}
        pictures |= {name: labels.picture(scenes, size, name) for name in self.maps}
        boxes = labels.boxes(labels.instance_mask(scenes, size))
        chances = self.chances(split)

        def pair(number: int, first: float, second: float) -> tuple[str, str]:
            shape, colour = world.pick(chances[number], np.array([first, second]))
            return world.SHAPES[shape], world.COLOURS[colour]

        for row, wording in enumerate(wordings(self.seed, STREAMS[split], index)):
            objects = things(scenes, row)
            said = captions(objects, self.caption_style, wording, pair)
            question, answer, kind = zip(*questions(objects, wording, pair), strict=True)
            yield {
                **{name: {"bytes": _png(pixels[row]), "path": None} for name, pixels in pictures.items()},
                "label": int(scenes.shape[row, 0] * len(world.COLOURS) + scenes.colour[row, 0]),
                "shape": int(scenes.shape[row, 0]), "colour": int(scenes.colour[row, 0]),
                "caption": said, "question": list(question), "answer": list(answer), "kind": list(kind),
                "objects": [_object(scenes, boxes, row, number) for number in range(len(objects))],
                "index": int(index[row]),
            }  # fmt: skip


class _Splits(Mapping):
    """The splits of a `Scenes`, each made when it is asked for."""

    def __init__(self, source: Scenes, size: int) -> None:
        self.source, self.size = source, size
        self.names = [split for split in STREAMS if split != "held_out" or source.pairs]
        self.made: dict[str, datasets.Dataset] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, split: object) -> bool:
        return split in self.names

    def __getitem__(self, split: str) -> "datasets.Dataset":
        if split not in self.names:
            raise KeyError(split)
        if split not in self.made:
            self.made[split] = _make(self.source, split, self.size)
        return self.made[split]


def _make(source: Scenes, split: str, size: int) -> "datasets.Dataset":
    """A split by `Dataset.from_generator`, in whose cache it is found again by all that decides its rows."""
    import datasets

    num = source.num[split]
    shift = source.shift if split in SHIFTED else "none"
    chances = [share.round(9).tolist() for share in source.chances(split)]

    def generate() -> Iterator[dict[str, Any]]:
        for start in progress(range(0, num, CHUNK), f"drawing scenes {split} at {size} px", num):
            yield from source.rows(split, np.arange(start, min(start + CHUNK, num)), size)

    picture, names = datasets.Image(), datasets.ClassLabel
    thing = {
        **{name: names(names=list(words)) for name, words in VOCABULARY.items()},
        "centre": datasets.List(datasets.Value("float32"), length=2), "box": datasets.List(datasets.Value("float32"), length=4),
        **{name: datasets.Value("float32") for name in ("radius", "angle", "depth")},
    }  # fmt: skip
    words = datasets.List(datasets.Value("string"))
    features = datasets.Features({
        "image": picture, **dict.fromkeys(source.maps, picture), "label": names(names=NAMES),
        "shape": names(names=list(world.SHAPES)), "colour": names(names=list(world.COLOURS)),
        "caption": words, "question": words, "answer": words, "kind": words,
        "objects": datasets.List(thing), "index": datasets.Value("int64"),
    })  # fmt: skip
    key = (VERSION, features, source.seed, split, num, size, source.objects, chances, shift, source.caption_style)
    fingerprint = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    with sources.quiet():
        return datasets.Dataset.from_generator(generate, features=features, fingerprint=fingerprint)


def _object(scenes: world.Scenes, boxes: np.ndarray, row: int, number: int) -> dict[str, Any]:
    x, y, radius, angle = scenes.pose[row, number].tolist()
    classes = {name: int(getattr(scenes, name)[row, number]) for name in VOCABULARY}
    return {**classes, "centre": [x, y], "box": boxes[row, number].tolist(), "radius": radius, "angle": angle,
            "depth": float(scenes.depth[row, number])}  # fmt: skip


def _pair(name: str) -> tuple[int, int]:
    """(shape, colour) by number, of "red star"."""
    if name not in NAMES:
        raise ValueError(f"held_out: no pair {name!r}{sources.nearest(name, NAMES)}; write colour and shape, such as red star")
    return divmod(NAMES.index(name), len(world.COLOURS))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
