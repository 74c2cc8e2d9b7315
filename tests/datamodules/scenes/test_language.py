"""Captions are true and read back as meant; questions are clear and their answers are those of the numbers."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from datamodules.scenes.captions import STYLES, Said, parse
from datamodules.scenes.dataset import Scenes
from datamodules.scenes.questions import KINDS
from tests.datamodules.scenes.solver import answer, fits, in_words, mentions, rows, side

NUM = 10_000
SPLITS = ("train", "validation", "test", "held_out")
SPATIAL = re.compile(r"\b(?:left of|right of|above|over|below|under)\b")
PLACE = re.compile(r"\b(?:in|at|on) the ((?:top|bottom)(?: left| right)?|left|right|centre)\b(?! of)")


def object_of(claims: dict[str, str], things: list[dict[str, Any]]) -> int:
    """The one object that a claim fits."""
    fitting = [number for number, thing in enumerate(things) if fits(thing, claims)]
    assert len(fitting) == 1, (claims, things)
    return fitting[0]


def check_caption(caption: str, things: list[dict[str, Any]], every: bool) -> None:
    said, named = parse(caption), mentions(caption)
    new = [claims for again, claims in named if not again]
    place = PLACE.search(caption)
    if len(new) == 1 and place:
        new[0]["place"] = place[1]
    assert said.objects == new, caption
    meant = [object_of(claims, things) for claims in said.objects]
    assert sorted(meant) == list(range(len(things))), caption  # each object once
    if every:
        assert all({"shape", "colour", "size", "texture"} <= set(claims) for claims in said.objects), caption
    assert len(said.relations) == len(SPATIAL.findall(caption)), caption
    for one, relation, other in said.relations:
        assert side(things[meant[one]], things[meant[other]]) == relation, caption
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  | ,", caption), caption
    assert "there is" not in caption or len(things) == 1
    assert "there are" not in caption or len(things) > 1
    number = re.match(r"(one|two|three) objects?: ", caption)
    assert number is None or ["one", "two", "three"].index(number[1]) + 1 == len(things)


@pytest.mark.parametrize("style", ("mixed", "short", "full"))
def test_captions_are_true_and_are_read_as_meant(style: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    distinct, related = Counter(), 0
    for split in SPLITS:
        for row in rows(monkeypatch, Scenes(caption_style=style), split, NUM if split == "train" else 1000):
            things = in_words(row)
            assert len(row["caption"]) == 4
            for number, caption in enumerate(row["caption"]):
                full = style == "full" or (style == "mixed" and number > 0)
                check_caption(caption, things, full)
                related += full and len(things) > 1 and bool(parse(caption).relations)
            distinct[len(set(row["caption"]))] += 1
    mean = sum(num * times for num, times in distinct.items()) / sum(distinct.values())
    assert mean > {"short": 3.0, "full": 3.3, "mixed": 3.5}[style], distinct
    assert style == "short" or related > NUM


def test_questions_are_clear_and_answers_are_those_of_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()
    for split in SPLITS:
        for row in rows(monkeypatch, Scenes(), split, NUM if split == "train" else 1500):
            things = in_words(row)
            assert len(row["question"]) == len(row["answer"]) == len(row["kind"]) == len(set(row["kind"])) >= 5
            for question, said, kind in zip(row["question"], row["answer"], row["kind"]):
                assert answer(question, things) == said, (question, things)
                asked[kind] += 1
    assert set(asked) == set(KINDS) and min(asked.values()) > 0.5 * NUM


def test_captions_that_are_questions_have_the_right_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for split in SPLITS:
        for row in rows(monkeypatch, Scenes(caption_style="question"), split, NUM if split == "train" else 1000):
            things = in_words(row)
            for caption in row["caption"]:
                question, said = caption.split("? ")
                assert answer(question + "?", things) == said, (caption, things)
                assert all(any(fits(thing, claims) for thing in things) for claims in parse(caption).objects), caption


@pytest.mark.parametrize("knobs", [{"correlation": 0.95}, {"held_out": ()}, {"min_objects": 3}, {"max_objects": 1}, {"seed": 7}])
def test_other_worlds_keep_to_the_language(knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(STYLES) == {"mixed", "short", "full", "question"}
    for row in rows(monkeypatch, Scenes(**knobs), "train", 1000):
        things = in_words(row)
        assert all(answer(question, things) == said for question, said in zip(row["question"], row["answer"]))
        for number, caption in enumerate(row["caption"]):
            check_caption(caption, things, number > 0)


@pytest.mark.parametrize(
    ("text", "objects", "relations"),
    [
        ("Red star above a blue ring!", ["red star", "blue ring"], [(0, "above", 1)]),
        ("A SMALL DOTTED PINK HEART", ["small dotted pink heart"], []),
        ("a ring", ["ring"], []),
        ("the moon", ["moon"], []),
        ("a big spotted moon under one little cross", ["large dotted moon", "small cross"], [(0, "below", 1)]),
        ("red star to the left of the blue ring", ["red star", "blue ring"], [(0, "left of", 1)]),
        ("a red star, a blue ring and a green cross over the blue ring", ["red star", "blue ring", "green cross"], [(2, "above", 1)]),
        ("a red star left of a blue ring left of a cyan moon", ["red star", "blue ring", "cyan moon"],
         [(0, "left of", 1), (1, "left of", 2)]),
        ("two circles", [], []),
        ("starlight over the moonlit crossing", [], []),
        ("a photo of a cat", [], []),
        ("", [], []),
        ("left of", [], []),
        ("an orange", [], []),
        ("an orange square and a red circle", ["orange square", "red circle"], []),
        ("a red striped star left of a large, blue ring", ["striped red star", "large blue ring"], [(0, "left of", 1)]),
        ("a pink and small heart", ["small pink heart"], []),
        ("is there a blue star? no", [], []),
        ("is there a blue star? yes", ["blue star"], []),
    ],
)  # fmt: skip
def test_what_a_person_may_write(text: str, objects: list[str], relations: list[tuple[int, str, int]]) -> None:
    said = parse(text)
    assert [" ".join(claims.get(name, "") for name in ("size", "texture", "colour", "shape")).split() for claims in said.objects] == [
        words.split() for words in objects
    ]
    assert said.relations == relations
    assert isinstance(said, Said) and not any("place" in claims for claims in said.objects)


def test_the_place_of_a_single_object_is_read() -> None:
    assert parse("in the top left, a red star").objects == [{"shape": "star", "colour": "red", "place": "top left"}]
    assert parse("a ring on the right").objects == [{"shape": "ring", "place": "right"}]
    assert parse("a ring to the right of a star in the centre").relations == [(0, "right of", 1)]


def test_a_pair_that_is_always_there_is_never_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    only = Scenes(held_out=("red star",), max_objects=1)
    assert not any("exists" in row["kind"] for row in rows(monkeypatch, only, "held_out", 200))


def test_a_sentence_uses_its_scenes_own_draws() -> None:
    """Two splits with the same scenes would still be worded differently, and no wording runs out of draws."""
    wordings = [tuple(next(Scenes(seed=seed).rows(split, np.array([5]), 16))["question"]) for seed in (0, 1) for split in SPLITS]
    assert len(set(wordings)) == len(wordings)
