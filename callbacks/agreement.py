"""Does a picture show what is said of it? Objects that are named are matched with objects that are seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

NEAR = 0.1  # of the side: how far a read middle may be from the true one
HOLDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], bool]] = {
    "left of": lambda first, second: first["x"] < second["x"],
    "right of": lambda first, second: first["x"] > second["x"],
    "above": lambda first, second: first["y"] < second["y"],
    "below": lambda first, second: first["y"] > second["y"],
}


class Verdict(NamedTuple):
    """One claim about one picture: what it is about, and whether the picture bears it out."""

    about: str  # an attribute, "relation" or "count"
    holds: bool


Objects = Sequence[Mapping[str, Any]]


def claims_that_hold(said: Objects, relations: Sequence[tuple[int, str, int]], found: Objects) -> list[Verdict]:
    """Every claim of a caption with its verdict: each attribute of each object in `said`, each relation (i, relation, j), and
    that there are no other objects.

    A named object is the seen one that agrees with most of what is said of it, no two with the same; one that is not seen
    has nothing right.
    """
    agreement = [[sum(one.get(name) == word for name, word in thing.items()) for one in found] for thing in said]
    match = _assign(np.array(agreement, dtype=float).reshape(len(said), len(found)))
    verdicts = [
        Verdict(name, number in match and found[match[number]].get(name) == word)
        for number, thing in enumerate(said)
        for name, word in thing.items()
    ]
    for first, relation, second in relations:
        both = first in match and second in match
        verdicts.append(Verdict("relation", both and HOLDS[relation](found[match[first]], found[match[second]])))
    return [*verdicts, Verdict("count", len(said) == len(found))]


def attributes_read(true: Objects, found: Objects) -> list[Verdict]:
    """Every attribute of every object that is there, with whether it was read; objects are matched by where they are."""
    distance = [[np.hypot(thing["x"] - one["x"], thing["y"] - one["y"]) for one in found] for thing in true]
    near = np.array(distance, dtype=float).reshape(len(true), len(found))
    match = {row: column for row, column in _assign(-near).items() if near[row, column] < NEAR}
    verdicts = [
        Verdict(name, number in match and found[match[number]].get(name) == word)
        for number, thing in enumerate(true)
        for name, word in thing.items()
        if isinstance(word, str)
    ]
    return [*verdicts, Verdict("count", len(true) == len(found))]


def _assign(gain: np.ndarray) -> dict[int, int]:
    """Row -> column, the matching of greatest gain."""
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))
