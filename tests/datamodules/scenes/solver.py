"""Captions and questions read a second time: words one by one, and regular expressions over the rows' own numbers."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from datamodules.scenes import drawing, labels
from datamodules.scenes.dataset import Scenes

SHAPES = ["circle", "square", "triangle", "star", "heart", "ring", "cross", "moon"]
COLOURS = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"]
SIZES = ["small", "large"]
TEXTURES = ["plain", "striped", "dotted"]
NUMBERS = ["no", "one", "two", "three"]
MEANT = {"little": "small", "big": "large", "spotted": "dotted"}
KIND_OF = {word: kind for kind, words in (("colour", COLOURS), ("size", SIZES), ("texture", TEXTURES)) for word in words}
SIDES: dict[str, Callable[[dict[str, Any], dict[str, Any]], float]] = {
    "left of": lambda one, other: other["centre"][0] - one["centre"][0],
    "right of": lambda one, other: one["centre"][0] - other["centre"][0],
    "above": lambda one, other: other["centre"][1] - one["centre"][1],
    "below": lambda one, other: one["centre"][1] - other["centre"][1],
}

Things = list[dict[str, Any]]


def rows(monkeypatch: pytest.MonkeyPatch, source: Scenes, split: str, num: int) -> list[dict[str, Any]]:
    """Rows with their sentences, and pictures of one pixel: what is asked here is not in them."""
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "draw", lambda scenes, size, style: np.zeros((len(scenes), 1, 1, 3), dtype=np.uint8))
        patch.setattr(labels, "instance_mask", lambda scenes, size: np.zeros((len(scenes), 1, 1), dtype=np.int64))
        return [row for start in range(0, num, 1000) for row in source.rows(split, np.arange(start, min(start + 1000, num)), 32)]


def in_words(row: dict[str, Any]) -> Things:
    """The objects of a row with words for their classes and their place."""
    found = []
    for thing in row["objects"]:
        x, y = thing["centre"]
        line = "top" if y * 3 < 1 else "bottom" if y * 3 > 2 else ""
        column = "left" if x * 3 < 1 else "right" if x * 3 > 2 else ""
        words = {name: known[thing[name]] for name, known in
                 (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("texture", TEXTURES))}  # fmt: skip
        found.append({**words, "place": f"{line} {column}".strip() or "centre", "centre": (x, y)})
    return found


def side(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Where the first is as seen from the second: which of four quarters of the compass."""
    x, y = (a - b for a, b in zip(one["centre"], other["centre"]))
    quarter = round(np.degrees(np.arctan2(y, x)) / 90) % 4
    return ["right of", "below", "left of", "above"][quarter]


def mentions(text: str) -> list[tuple[bool, dict[str, str]]]:
    """(whether it is "the ...", what is said of it) of everything that a text names, in order."""
    words, found = re.findall(r"[a-z]+", text.lower()), []
    for position, word in enumerate(words):
        if word in SHAPES:
            claims, at = {"shape": word}, position - 1
            while at >= 0 and MEANT.get(words[at], words[at]) in KIND_OF:
                known = MEANT.get(words[at], words[at])
                claims[KIND_OF[known]] = known
                at -= 1
            found.append((at >= 0 and words[at] == "the", claims))
    return found


def fits(thing: dict[str, Any], claims: dict[str, str]) -> bool:
    return all(thing[name] == value for name, value in claims.items())


def answer(question: str, things: Things) -> str:
    """The answer, from the numbers of the row; an AssertionError where the words fit no object, or more than one."""

    def the(words: str) -> dict[str, Any]:
        *attributes, last = words.split()
        claims = {KIND_OF[word]: word for word in attributes} | ({} if last == "object" else {"shape": last})
        fitting = [thing for thing in things if fits(thing, claims)]
        assert len(fitting) == 1, (question, things)
        return fitting[0]

    if re.fullmatch(r"how many (objects are there|objects do you see|shapes are in the picture)\?", question):
        return NUMBERS[len(things)]
    if match := re.fullmatch(r"(?:is there|do you see) (an?) (\w+) (\w+)\?", question):
        assert (match[1] == "an") == (match[2][0] in "aeiou")
        assert match[2] in COLOURS and match[3] in SHAPES
        return "yes" if any(fits(thing, {"colour": match[2], "shape": match[3]}) for thing in things) else "no"
    if match := re.fullmatch(r"(?:what shape is|which shape do you see) (left of|right of|above|below) the (.+)\?", question):
        known = the(match[2])
        beyond = [other for other in things if other is not known and SIDES[match[1]](other, known) > 0]
        assert len(beyond) == 1 and SIDES[match[1]](beyond[0], known) >= 0.1, (question, things)
        return beyond[0]["shape"]
    for pattern, attribute in (
        (r"(?:what|which) colour (?:is|has) the (.+)\?", "colour"),
        (r"(?:what|which) shape (?:is|has) the (.+)\?", "shape"),
        (r"(?:what size is the (.+)|is the (.+) small or large)\?", "size"),
        (r"(?:what texture has the (.+)|is the (.+) plain, striped or dotted)\?", "texture"),
        (r"(?:where is the (.+)|in which part of the picture is the (.+))\?", "place"),
    ):
        if match := re.fullmatch(pattern, question):
            words = next(group for group in match.groups() if group)
            assert attribute not in {KIND_OF.get(word, "shape") for word in words.split() if word != "object"}
            return the(words)[attribute]
    raise AssertionError(f"nobody knows how to read {question!r}")
