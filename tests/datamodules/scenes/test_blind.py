"""Who does not see the picture can only guess: answers from questions alone.

Run alone for the table: python -m tests.datamodules.scenes.test_blind
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from datamodules.scenes.dataset import Scenes
from datamodules.scenes.questions import KINDS
from tests.datamodules.scenes.solver import rows

NUM_TRAIN, NUM_TEST = 4000, 2500  # scenes: about 30,000 and 19,000 questions
ANSWERS = {"colour": 8, "shape": 8, "size": 2, "texture": 3, "count": 3, "exists": 2, "place": 9, "relation": 8}
WORLDS: dict[str, dict[str, Any]] = {
    "default": {}, "nothing held out": {"held_out": ()}, "three objects": {"min_objects": 3}, "one object": {"max_objects": 1},
    "another seed": {"seed": 1},
}  # fmt: skip


def asked(monkeypatch: pytest.MonkeyPatch, source: Scenes, split: str, num: int) -> dict[str, list[tuple[str, str]]]:
    found = defaultdict(list)
    for row in rows(monkeypatch, source, split, num):
        for question, answer, kind in zip(row["question"], row["answer"], row["kind"]):
            found[kind].append((question, answer))
    return found


def table(monkeypatch: pytest.MonkeyPatch, **knobs: Any) -> dict[str, tuple[float, float, float, float]]:
    """Kind -> (chance, right without the picture, right by the most frequent answer, right by the most frequent answer to
    the very same question), each a share of the test split's questions."""
    source, measured = Scenes(**knobs), {}
    train, test = (asked(monkeypatch, source, *part) for part in (("train", NUM_TRAIN), ("test", NUM_TEST)))
    for kind in KINDS:
        if not train[kind]:
            continue
        (questions, answers), (unseen, truth) = zip(*train[kind]), zip(*test[kind])
        right = np.array(truth)
        usual = Counter(answers).most_common(1)[0][0]
        by_question = defaultdict(Counter)
        for question, answer in train[kind]:
            by_question[question][answer] += 1
        looked_up = [by_question[question].most_common(1)[0][0] if question in by_question else usual for question in unseen]
        blind = usual
        if len(set(answers)) > 1:
            words = CountVectorizer(ngram_range=(1, 2)).fit(questions)
            whole = OneHotEncoder(handle_unknown="ignore").fit([[question] for question in questions])

            def features(texts: tuple[str, ...], words=words, whole=whole) -> csr_matrix:
                return hstack([words.transform(texts), whole.transform([[text] for text in texts])]).tocsr()

            blind = LogisticRegression(max_iter=300).fit(features(questions), answers).predict(features(unseen))
        measured[kind] = (1 / ANSWERS[kind], *((right == guess).mean() for guess in (blind, usual, np.array(looked_up))))
        assert len(set(answers)) <= ANSWERS[kind]
    return measured


@pytest.mark.parametrize("world", WORLDS)
def test_a_model_that_does_not_see_the_picture_scores_near_chance(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = table(monkeypatch, **WORLDS[world])
    if world in ("three objects", "one object"):
        assert measured.pop("count")[1] == 1  # there is nothing to be seen
    assert set(measured) >= set(KINDS) - {"count", "relation"}
    for kind, (chance, *guesses) in measured.items():
        assert max(guesses) <= chance + 0.05, (kind, chance, guesses)


if __name__ == "__main__":
    print(f"{'world':17} {'kind':9} {'chance':>7} {'blind':>7} {'usual':>7} {'lookup':>7}")
    for name, knobs in WORLDS.items():
        for kind, shares in table(pytest.MonkeyPatch(), **knobs).items():
            print(f"{name:17} {kind:9} " + " ".join(f"{100 * share:7.1f}" for share in shares))
