"""Accuracy on seen and unseen classes, in a real Trainer, of a model whose answers are known in closed form."""

import numpy as np
import pytest
import torch

from callbacks import unseen_accuracy
from callbacks.class_accuracy import wilson
from callbacks.unseen_accuracy import UnseenAccuracy
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer

SEEN = torch.tensor([True, True, False, False])


class Recogniser(TinyModel):
    """Knows each image's quadrant, but takes every third image for the next class of its own kind; images of unseen
    classes are newer than others by `gap`, on top of their number in the batch."""

    threshold: float | None = None
    gap = 1000.0
    seen = SEEN

    def recognise(self, images):
        label = self.classify(images).argmax(1)
        row = torch.arange(len(images))
        said = torch.where(row % 3 == 2, label ^ 1, label)      # 0 <-> 1 are seen, 2 <-> 3 unseen
        return torch.nn.functional.one_hot(said, 4).float(), row + self.gap * (~SEEN[label])


def validate(callback: UnseenAccuracy, model: Recogniser, stage: str = "validate") -> Record:
    record = Record()
    getattr(trainer([callback], logger=record), stage)(model, datamodule=TinyData(), verbose=False)
    return record


def last(record: Record, key: str) -> float:
    return record.values(key)[-1][1]


def test_accuracies_are_those_of_the_closed_form():
    record = validate(UnseenAccuracy(passing=0.9), Recogniser())
    order = np.random.default_rng(0).permutation(200)
    label, hit = np.arange(200)[order] % 4, np.arange(200) % 3 != 2
    seen, unseen = hit[label < 2].mean(), hit[label >= 2].mean()
    assert last(record, "val/seen_accuracy") == pytest.approx(seen)
    assert last(record, "val/unseen_accuracy") == pytest.approx(unseen)
    assert last(record, "val/novelty_auroc") == 1
    novelty = np.arange(200) + 1000 * (label >= 2)              # of the training split too: the same numbers
    threshold = np.quantile(novelty, 0.9)
    assert record.about["val/harmonic_mean"][0]["threshold"] == pytest.approx(threshold)
    gated = np.where(novelty > threshold, hit & (label >= 2), hit & (label < 2))
    both = gated[label < 2].mean(), gated[label >= 2].mean()
    assert last(record, "val/seen_accuracy_gated") == pytest.approx(both[0])
    assert last(record, "val/unseen_accuracy_gated") == pytest.approx(both[1])
    assert last(record, "val/harmonic_mean") == pytest.approx(2 * both[0] * both[1] / sum(both))
    columns, rows = record.tables["val/unseen_accuracy_by_class"][0]
    assert columns == ["class", "asked", "accuracy", "low", "high", "chance", "num_images"]
    table = {(row[0], row[1]): row[2:] for row in rows}
    own = hit[label == 3]
    assert table["bottom right", "among unseen"] == pytest.approx([own.mean(), *wilson(own.sum(), 50), 0.5, 50])
    assert table["unseen", "gated"][3] == 0.25 and table["seen", "among seen"][4] == 100


def test_the_models_own_threshold_comes_first():
    model = Recogniser()
    model.threshold = 500.0                                     # between the two kinds: the gate is always right
    record = validate(UnseenAccuracy(), model, "test")
    for kind in ("seen", "unseen"):
        assert last(record, f"test/{kind}_accuracy_gated") == last(record, f"test/{kind}_accuracy")
    assert record.about["test/unseen_accuracy"][0]["passing"] is None
    rows = np.array(record.tables["test/gate_curve"][0][1])
    assert rows[0][2] == 0 and rows[0][3] == pytest.approx(last(record, "test/unseen_accuracy")), "nothing passes as seen"
    assert rows[-1][2] == pytest.approx(last(record, "test/seen_accuracy")) and rows[-1][3] == 0, "all passes as seen"
    assert (np.diff(rows[:, 1]) >= 0).all() and rows[-1][1] == 1 and rows[:, 4].max() == pytest.approx(
        last(record, "test/harmonic_mean"), abs=0.02)


def test_auroc_is_the_share_of_pairs():
    torch.manual_seed(0)
    new, known = torch.randint(0, 9, (30,)) + 2.0, torch.randint(0, 9, (50,)).float()
    pairs = [(a > b) + 0.5 * (a == b) for a in new.tolist() for b in known.tolist()]
    assert unseen_accuracy.auroc(new, known) == pytest.approx(sum(pairs) / len(pairs))


def test_mistakes_are_one_line():
    model = Recogniser()
    model.seen = torch.ones(4, dtype=torch.bool)
    with pytest.raises(ValueError, match="every class of quadrants is seen in training; hold some out"):
        validate(UnseenAccuracy(), model)
    with pytest.raises(ValueError, match=r"asks TinyModel for .*recognise\(\)"):
        validate(UnseenAccuracy(), TinyModel())
    with pytest.raises(ValueError, match="passing 1"):
        UnseenAccuracy(passing=1.0)
    model = Recogniser()
    model.recognise = lambda images: (torch.full((len(images), 4), torch.nan), torch.zeros(len(images)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        validate(UnseenAccuracy(), model)
