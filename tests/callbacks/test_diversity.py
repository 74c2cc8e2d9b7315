import numpy as np
import pytest
import torch

from callbacks.diversity import Diversity, mean_distance
from callbacks.media import to_float
from tests.callbacks.test_fid import Pooled
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_CACHE", str(tmp_path))


def validate(callback, model=None, data=None, stage="validate", times=1):
    record = Record()
    run = trainer([callback], logger=record)
    for _ in range(times):
        getattr(run, stage)(model or TinyModel(), datamodule=data or TinyData(), verbose=False)
    return record


def test_mean_distance():
    assert mean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(5.0)
    assert mean_distance(torch.tensor([[0.0], [1.0], [5.0]])) == pytest.approx((1 + 4 + 5) / 3)
    x = torch.randn(100, 7, generator=torch.Generator().manual_seed(0)) + 1000
    pairs = [(x[i].double() - x[j].double()).norm() for i in range(100) for j in range(i)]
    for chunk in (13, 1024):
        assert mean_distance(x, chunk) == pytest.approx(np.mean(pairs), rel=1e-9)
    assert mean_distance(x[:1].repeat(50, 1)) < 1e-9


class Repeating(TinyModel):
    """Draws real images of the validation split again; or, `collapsed`, the first of each class alone."""

    def __init__(self, collapsed: bool = False) -> None:
        super().__init__()
        self.collapsed, self.drawn = collapsed, {}

    def sample(self, batch, **arguments):
        data, images = TinyData(), []
        for label in batch["label"].tolist():
            place = self.drawn.get(label, 0)
            self.drawn[label] = place if self.collapsed else place + 1
            images.append(data.images("validation")[np.flatnonzero(data.labels("validation") == label)[place]])
        return to_float(np.stack(images))


def test_the_real_images_again_and_one_of_each_class():
    record = validate(Diversity(Pooled(), num_generated=200), Repeating())
    assert record.values("val/diversity_pooled")[0][1] == pytest.approx(1.0, rel=1e-6)
    columns, rows = record.tables["val/diversity_pooled_by_class"][0]
    assert columns[:2] == ["class", "ratio"] and [row[0] for row in rows] == TinyData.class_names
    assert all(row[1] == pytest.approx(1.0) and row[2] == pytest.approx(row[3]) for row in rows)
    assert [row[4:] for row in rows] == [[50, 50]] * 4
    collapsed = validate(Diversity(Pooled(), num_generated=200), Repeating(collapsed=True))
    assert collapsed.values("val/diversity_pooled")[0][1] < 1e-6


def test_it_is_the_ratio_of_the_spreads():
    for times in (0.5, 1.0, 2.0):
        model = TinyModel(spread=times * 15 / 127.5)
        value = validate(Diversity(Pooled(), num_generated=200), model).values("val/diversity_pooled")[0][1]
        assert value == pytest.approx(times, rel=0.06)


def test_one_collapsed_class_is_seen_in_the_table():
    class Half(TinyModel):
        def sample(self, batch, **arguments):
            images = super().sample(batch, **arguments)
            images[batch["label"] == 2] = 0.25
            return images

    record = validate(Diversity(Pooled(), num_generated=200), Half())
    ratios = {row[0]: row[1] for row in record.tables["val/diversity_pooled_by_class"][0][1]}
    assert ratios.pop("bottom left") < 1e-6 and all(ratio == pytest.approx(1, rel=0.1) for ratio in ratios.values())
    assert record.values("val/diversity_pooled")[0][1] == pytest.approx(sum(ratios.values()) / 4)


def test_a_class_too_small_is_left_out():
    class Rare(TinyData):
        def labels(self, split):
            return np.minimum(np.arange(self.num), 3)  # one image each of classes 0, 1, 2

    record = validate(Diversity(Pooled(), num_generated=40), data=Rare())
    (row,) = record.tables["val/diversity_pooled_by_class"][0][1]
    assert (row[0], row[4:]) == ("bottom right", [10, 197])
    assert record.about["val/diversity_pooled"][0]["num_classes"] == 1
    with pytest.raises(ValueError, match="no class has two of 4 generated and two of 200 real images; take 8 or more"):
        validate(Diversity(Pooled(), num_generated=4))


def test_once_a_run_it_says_what_it_is():
    (about,) = validate(Diversity(Pooled(), 40, 100), times=2).about["val/diversity_pooled"]
    assert about == about | {
        "num_generated": 40,
        "num_real": 100,
        "num_classes": 4,
        "extractor": "pooled",
        "split": "validation",
        "weights": "raw",
        "sampler": "closed form",
        "noise_seed": 0,
        "labels": "balanced",
    }
    assert validate(Diversity(Pooled(), 40), stage="test").about["test/diversity_pooled"][0]["split"] == "test"


def test_mistakes_are_one_line():
    class Plain(TinyModel):
        def sampling_settings(self):
            return {"conditional": False}

    with pytest.raises(ValueError, match="Diversity: Plain samples without a class here; take the callback out"):
        validate(Diversity(Pooled()), Plain())
    with pytest.raises(ValueError, match="1 generated and None real images are too few"):
        Diversity(Pooled(), num_generated=1)
