"""Splits, the hold-out, the planted correlation, shifts, object counts, caption styles, and mistakes."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from datamodules.scenes import drawing, labels, world
from datamodules.scenes.captions import STYLES
from datamodules.scenes.dataset import HELD_OUT, NAMES, Scenes
from tests.datamodules.scenes import reference

MANY = np.arange(10_000)
OWN = ("red circle", "orange square", "yellow triangle", "green star", "cyan heart", "blue ring", "purple cross", "pink moon")
SPLITS = ("train", "validation", "test", "held_out")


def pairs_of(scenes: world.Scenes) -> list[list[str]]:
    """The (colour, shape) pairs of each scene in words, nearest first."""
    return [
        [f"{world.COLOURS[colour]} {world.SHAPES[shape]}" for shape, colour in zip(shapes, colours) if shape >= 0]
        for shapes, colours in zip(scenes.shape.tolist(), scenes.colour.tolist())
    ]


def near(share: float, expected: float, num: int) -> bool:
    """Within 4.5 standard deviations of a binomial share."""
    return abs(share - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / num)


@pytest.mark.parametrize("correlation", (None, 0.9))
def test_held_out_pairs_occur_in_held_out_alone(correlation: float | None) -> None:
    for held_out in (HELD_OUT, ("red star",), ("red star", "blue star", "pink ring", "red star")):
        source = Scenes(held_out=held_out, correlation=correlation)
        for split in SPLITS[:3]:
            assert not {pair for pairs in pairs_of(source.describe(split, MANY)) for pair in pairs} & set(held_out)
        pairs = pairs_of(source.describe("held_out", MANY))
        assert all(nearest in held_out for nearest, *_ in pairs)
        assert not {other for _, *others in pairs for other in others} & set(held_out)
        shares = Counter(nearest for nearest, *_ in pairs)
        assert all(near(shares[pair] / len(MANY), 1 / len(set(held_out)), len(MANY)) for pair in held_out if len(shares) > 1)
    assert list(Scenes(held_out=()).load(16)) == list(SPLITS[:3]) and list(Scenes().load(16)) == list(SPLITS)


def test_every_other_pair_occurs_as_often_and_attributes_are_even() -> None:
    scenes = Scenes().describe("train", MANY)
    counts = Counter(nearest for nearest, *_ in pairs_of(scenes))
    assert set(counts) == set(NAMES) - set(HELD_OUT)
    assert all(near(num / len(MANY), 1 / 56, len(MANY)) for num in counts.values())
    for name, values in (("size", 2), ("texture", 3), ("shape", 8), ("colour", 8)):
        shares = np.bincount(getattr(scenes, name)[:, 0], minlength=values) / len(MANY)
        assert all(near(share, 1 / values, len(MANY)) for share in shares), (name, shares)
    for name, values in (("background", np.arange(3)), ("count", np.arange(1, 4))):
        assert all(near((getattr(scenes, name) == value).mean(), 1 / 3, len(MANY)) for value in values)


@pytest.mark.parametrize("correlation", (0.5, 0.6, 0.75, 0.9, 0.95))
def test_the_planted_correlation_is_in_train_and_validation_and_not_in_test(correlation: float) -> None:
    source = Scenes(correlation=correlation)
    for split, expected in (("train", correlation), ("validation", correlation), ("test", 1 / 7)):
        pairs = pairs_of(source.describe(split, MANY))
        nearest = Counter(pair[0] for pair in pairs)
        for own in OWN:
            of_shape = sum(num for pair, num in nearest.items() if pair.endswith(own.split()[1]))
            assert near(nearest[own] / of_shape, expected, of_shape), (split, own)
            assert near(of_shape / len(MANY), 1 / 8, len(MANY))
        every = [pair for some in pairs for pair in some]  # no pair stands twice in a scene, which costs the bias a little
        assert abs(np.mean([pair in OWN for pair in every]) - expected) < 0.015


@pytest.mark.parametrize(("least", "most"), [(1, 1), (2, 2), (3, 3), (1, 2), (2, 3), (1, 3)])
def test_object_counts(least: int, most: int) -> None:
    for split in SPLITS:
        scenes = Scenes(min_objects=least, max_objects=most).describe(split, np.arange(3000))
        assert ((scenes.shape >= 0).sum(1) == scenes.count).all()
        shares = np.bincount(scenes.count, minlength=4)[least : most + 1] / 3000
        assert shares.sum() == 1 and all(near(share, 1 / len(shares), 3000) for share in shares)


def rows(source: Scenes, split: str, num: int = 40) -> list[dict[str, Any]]:
    return list(source.rows(split, np.arange(num), 32))


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize("shift", [name for name in drawing.SHIFTS if name != "none"])
def test_a_shift_changes_the_pictures_of_test_and_held_out_and_nothing_else(shift: Any) -> None:
    usual, shifted = Scenes(), Scenes(shift=shift)
    for split in SPLITS:
        before, after = rows(usual, split), rows(shifted, split)
        for one, other in zip(before, after):
            assert (one["image"] != other["image"]) == (split in ("test", "held_out"))
            assert without(one, "image") == without(other, "image")


def test_what_each_shift_does_to_the_pixels() -> None:
    scenes = Scenes().describe("test", np.arange(200))
    usual = drawing.draw(scenes, 64).astype(float)
    shifted = {name: drawing.draw(scenes, 64, style).astype(float) for name, style in drawing.SHIFTS.items()}
    share = reference.of_pixels(reference.in_sight(reference.silhouettes(scenes, 64)), 64)
    inside, outside = ~reference.grown(share.max(1) < 1), ~reference.grown(share.sum(1) > 0)
    change = {name: np.abs(picture - usual).max(-1) for name, picture in shifted.items()}
    assert change["none"].max() == 0
    for name in ("palette", "outline", "texture"):
        assert change[name][outside].max() == 0 and (change[name][inside] > 8).mean() > 0.15, name
    assert change["clutter"][inside].max() == 0 and 0.01 < (change["clutter"][outside] > 0).mean() < 0.1
    gray = ((usual > 60) & (usual < 195)).all(-1)  # where nothing is clipped
    noise = (shifted["noise"] - usual)[gray] / 255
    assert abs(noise.mean()) < 0.002 and abs(noise.std() - 0.12) < 0.002
    empty = drawing.paint_background(scenes, 128)  # in the middle of an outlined circle one sees the wall
    for row in np.flatnonzero((scenes.shape[:, 0] == world.SHAPES.index("circle")) & (scenes.size[:, 0] == 1)):
        right, down = (scenes.pose[row, 0, :2] * 64).astype(int)
        wall = empty[row, 2 * down : 2 * down + 2, 2 * right : 2 * right + 2].mean((0, 1)) * 255
        alone = scenes.count[row] == 1
        assert not alone or np.abs(shifted["outline"][row, down, right] - wall).max() <= 1


def test_fingerprints_follow_what_is_in_a_split() -> None:
    def fingerprints(image_size: int = 16, **knobs: Any) -> dict[str, str]:
        loaded = Scenes(**{"num_train": 2, "num_validation": 2, "num_test": 2} | knobs).load(image_size)
        return {split: loaded[split]._fingerprint for split in loaded}

    usual = fingerprints()
    assert not set(fingerprints(image_size=32).values()) & set(usual.values())
    assert usual == fingerprints() and len(set(usual.values())) == 4
    changes: dict[str, tuple[dict[str, Any], set[str]]] = {
        "shift": ({"shift": "outline"}, {"test", "held_out"}),
        "correlation": ({"correlation": 0.9}, {"train", "validation"}),
        "held_out": ({"held_out": HELD_OUT[:7]}, set(SPLITS)),
        "caption_style": ({"caption_style": "full"}, set(SPLITS)),
        "maps": ({"maps": ["depth"]}, set(SPLITS)),
        "seed": ({"seed": 1}, set(SPLITS)),
        "objects": ({"max_objects": 2}, set(SPLITS)),
        "num_test": ({"num_test": 3}, {"test", "held_out"}),
    }
    for name, (knobs, expected) in changes.items():
        other = fingerprints(**knobs)
        assert {split for split in SPLITS if other[split] != usual[split]} == expected, name


@pytest.mark.parametrize("style", STYLES)
def test_a_caption_style_changes_captions_alone(style: Any) -> None:
    for one, other in zip(rows(Scenes(), "train"), rows(Scenes(caption_style=style), "train")):
        names = ("caption", "question", "answer", "kind")  # their wordings come from one stream
        assert without(one, *names) == without(other, *names) and len(other["caption"]) == 4


def test_a_row_says_what_the_description_says() -> None:
    source = Scenes(num_train=2, maps=labels.MAPS)
    features = source.load(16)["train"].features
    assert features["label"].names == NAMES
    assert set(labels.MAPS) < set(features)
    scenes = source.describe("train", np.arange(60))
    for number, row in enumerate(source.rows("train", np.arange(60), 16)):
        first = row["objects"][0]
        assert features["label"].int2str(row["label"]) == pairs_of(scenes)[number][0]
        assert (row["shape"], row["colour"]) == (first["shape"], first["colour"]) and row["index"] == number
        assert len(row["objects"]) == scenes.count[number]
        assert [thing["depth"] for thing in row["objects"]] == sorted(thing["depth"] for thing in row["objects"])
        for k, thing in enumerate(row["objects"]):
            x, y, radius, angle = scenes.pose[number, k].tolist()
            assert (*thing["centre"], thing["radius"], thing["angle"]) == (x, y, radius, angle)
            x0, y0, x1, y1 = thing["box"]
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
            assert x0 - 1 / 16 < x < x1 + 1 / 16 and y0 - 1 / 16 < y < y1 + 1 / 16


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_train": 0}, "num_train: 0 "),
        ({"num_validation": -1}, "num_validation: -1 "),
        ({"num_test": 0}, "num_test: 0 "),
        ({"seed": -1}, "seed: -1 "),
        ({"min_objects": 0}, "min_objects, max_objects: 0, 3"),
        ({"max_objects": 4}, "min_objects, max_objects: 1, 4"),
        ({"min_objects": 3, "max_objects": 2}, "min_objects, max_objects: 3, 2"),
        ({"shift": "outlines"}, "shift: no 'outlines', did you mean 'outline'"),
        ({"caption_style": "shrt"}, "caption_style: no 'shrt', did you mean 'short'"),
        ({"maps": ["dept"]}, "maps: no 'dept', did you mean 'depth'"),
        ({"correlation": 0.0}, "correlation: 0.0 "),
        ({"correlation": 1.5}, "correlation: 1.5 "),
        ({"held_out": ["red strr"]}, "held_out: no pair 'red strr', did you mean 'red star'"),
        ({"held_out": ["star red"]}, "held_out: no pair 'star red'"),
        ({"held_out": ["red circle"], "correlation": 0.9}, "held_out: names a pair of the planted correlation"),
        ({"held_out": [f"{colour} star" for colour in world.COLOURS[1:]]}, "held_out: leaves star fewer than two colours"),
    ],
)
def test_mistakes_are_one_line(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Scenes(**knobs)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_split_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        Scenes(held_out=()).load(16)["held_out"]
