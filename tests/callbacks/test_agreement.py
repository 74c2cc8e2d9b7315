"""Verdicts on claims, by hand and against every possible matching."""

from itertools import permutations

import numpy as np

from callbacks.agreement import Verdict, attributes_read, claims_that_hold

RED = {"shape": "star", "colour": "red", "size": "small", "x": 0.2, "y": 0.5}
BLUE = {"shape": "ring", "colour": "blue", "size": "large", "x": 0.8, "y": 0.6}


def held(verdicts: list[Verdict]) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for about, holds in verdicts:
        found.setdefault(about, []).append(holds)
    return found


def test_a_true_caption_in_any_order():
    said = [{"shape": "ring", "colour": "blue"}, {"shape": "star", "colour": "red", "size": "small"}]
    for found in ([RED, BLUE], [BLUE, RED]):
        verdicts = claims_that_hold(said, [(0, "right of", 1), (1, "above", 0)], found)
        assert len(verdicts) == 2 + 3 + 2 + 1 and all(one.holds for one in verdicts)


def test_each_way_to_be_wrong():
    said = [{"shape": "star", "colour": "red"}, {"shape": "ring", "colour": "blue"}]
    swapped = [{**RED, "colour": "blue"}, {**BLUE, "colour": "red"}]  # the colours are on the wrong objects
    assert held(claims_that_hold(said, [], swapped)) in (
        {"shape": [True, True], "colour": [False, False], "count": [True]},
        {"shape": [False, False], "colour": [True, True], "count": [True]},
    )
    assert held(claims_that_hold(said, [(0, "right of", 1)], [RED, BLUE]))["relation"] == [False]
    assert held(claims_that_hold(said, [(0, "above", 1)], [RED, BLUE]))["relation"] == [True]
    alone = held(claims_that_hold(said, [(0, "left of", 1)], [RED]))
    assert alone == {"shape": [True, False], "colour": [True, False], "relation": [False], "count": [False]}
    assert held(claims_that_hold(said, [], [RED, BLUE, {**RED, "x": 0.5}]))["count"] == [False]
    assert held(claims_that_hold(said, [], []))["colour"] == [False, False]


def test_the_matching_is_the_best_of_all():
    random = np.random.default_rng(0)
    for _ in range(300):
        said = [{name: str(random.integers(3)) for name in "abc"} for _ in range(random.integers(1, 4))]
        seen = [{**{name: str(random.integers(3)) for name in "abc"}, "x": 0, "y": 0} for _ in range(random.integers(0, 4))]
        right = sum(one.holds for one in claims_that_hold(said, [], seen) if one.about != "count")
        slots = [*seen, *[{}] * len(said)]
        best = max(
            sum(one.get(name) == word for thing, one in zip(said, order) for name, word in thing.items())
            for order in permutations(slots, len(said))
        )
        assert right == best


def test_reading_is_matched_by_place():
    nearly = {**RED, "x": 0.25, "size": "large"}
    verdicts = held(attributes_read([RED, BLUE], [BLUE, nearly]))
    assert verdicts == {"shape": [True, True], "colour": [True, True], "size": [False, True], "count": [True]}
    far = {**RED, "x": 0.35}  # right in all but the place: not the same object
    assert held(attributes_read([RED, BLUE], [far, BLUE]))["shape"] == [False, True]
    assert held(attributes_read([RED], []))["count"] == [False]
