import numpy as np
import pytest
import torch

from callbacks.media import to_float
from callbacks.precision_recall import Overlap, PrecisionRecall, overlap
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


def features(num, dim=6, seed=0, shift=0.0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + shift


def slowly(real, generated, k):
    """The definitions, one pair at a time."""

    def distance(a, b):
        return (a.double() - b.double()).square().sum().sqrt().item()

    def radii(points):
        others = [sorted(distance(a, b) for j, b in enumerate(points) if i != j) for i, a in enumerate(points)]
        return [sorted_distances[k - 1] for sorted_distances in others]

    ours, theirs = radii(real), radii(generated)
    in_real = [[distance(y, x) <= r for x, r in zip(real, ours, strict=True)] for y in generated]  # M N
    in_generated = [[distance(x, y) <= r for y, r in zip(generated, theirs, strict=True)] for x in real]
    return Overlap(
        precision=sum(any(row) for row in in_real) / len(generated),
        recall=sum(any(row) for row in in_generated) / len(real),
        density=sum(sum(row) for row in in_real) / (k * len(generated)),
        coverage=sum(any(column) for column in zip(*in_real, strict=True)) / len(real),
    )


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("sizes", [(30, 30), (20, 33), (33, 20)])
def test_the_definitions(sizes, k):
    real, generated = features(sizes[0]), 0.8 * features(sizes[1], seed=1, shift=0.9)
    expected = slowly(real, generated, k)
    assert min(expected.coverage, expected.recall, expected.density) > 0
    for chunk in (7, 1024):
        ours = overlap(real, generated, k, chunk)
        assert vars(ours) == pytest.approx(vars(expected), rel=1e-12)


def test_equal_sets_and_sets_apart():
    real = features(200) + 1000  # distances are small beside the features
    # each of N balls holds its own feature and k others: density (k + 1) / k
    assert vars(overlap(real, real.clone(), 5)) == pytest.approx(vars(Overlap(1.0, 1.0, 6 / 5, 1.0)))
    assert overlap(real, real + 100, 5) == Overlap(0.0, 0.0, 0.0, 0.0)


def test_two_draws_of_one_distribution_have_density_one():
    assert overlap(features(1000, 2), features(1000, 2, seed=1)).density == pytest.approx(1.0, abs=0.1)


def test_a_dropped_mode_lowers_recall_and_coverage_not_precision():
    def modes(num, seed, *places):
        return torch.cat([features(num, seed=seed + place, shift=20.0 * place) for place in places])

    real = modes(100, 0, 0, 1, 2, 3)
    whole, dropped = overlap(real, modes(100, 50, 0, 1, 2, 3)), overlap(real, modes(200, 90, 0, 1))
    assert whole.precision > 0.9 and whole.recall > 0.9 and whole.coverage > 0.8
    assert dropped.precision > 0.9 and dropped.recall == pytest.approx(0.5, abs=0.05) and dropped.coverage <= 0.5


def test_an_outlier_deceives_precision_and_not_density():
    """Naeem et al.'s figure 1: one real outlier whose ball holds all that is generated."""
    real = torch.cat([features(99), torch.full((1, 6), 50.0)])
    measured = overlap(real, features(100, shift=25.0, seed=1), 1)
    assert measured.precision == 1.0 and measured.density == 1.0 and measured.coverage == 0.01
    measured = overlap(real, features(100, shift=25.0, seed=1), 5)
    assert measured.precision == 1.0 and measured.density == 0.2


def test_a_collapsed_model():
    """All samples alike, in the midst of the real ones: right, and nothing is recalled."""
    measured = overlap(features(100), torch.zeros(50, 6) + 0.01)
    assert measured.precision == 1.0 and measured.recall == 0.0 and 0 < measured.coverage < 1


class Otherwise(TinyData):
    """The splits have their labels in different orders."""

    def labels(self, split):
        return (np.arange(self.num) + len(split)) % 4


def test_the_callback_measures_the_images():
    callback = PrecisionRecall(Pooled(), num_generated=60, num_real=90, num_neighbours=3, batch_size=25)
    record = validate(callback, data=Otherwise())
    order = torch.from_numpy(np.random.default_rng(0).permutation(200))
    data, extractor = Otherwise(), Pooled()
    real = extractor(to_float(data.images("validation")[order[:90]]))
    labels = torch.from_numpy(data.labels("validation"))[order[:60]]
    generators = [torch.Generator().manual_seed(index) for index in range(60)]
    images = TinyModel().sample({"image": torch.empty(60, 1, 8, 8), "label": labels}, generator=generators)
    expected = overlap(real, extractor(images), 3)
    # the floor: 60 training images of the same labels, the first of each class in the shuffled order of that split
    chosen = [[place for place in order if data.labels("train")[place] == label] for label in range(4)]
    matched = [int(chosen[label].pop(0)) for label in labels]
    floor = overlap(real, extractor(to_float(data.images("train")[matched])), 3)
    for name, value in vars(expected).items():
        assert record.values(f"val/{name}_pooled")[0][1] == pytest.approx(value, rel=1e-6)
        assert record.values(f"val/real_floor_{name}_pooled")[0][1] == pytest.approx(vars(floor)[name], rel=1e-6)
    assert validate(PrecisionRecall(Pooled(), 100), TinyModel(shift=0.3)).values("val/precision_pooled")[0][1] == 0


def test_once_a_run_it_says_what_it_is():
    record = validate(PrecisionRecall(Pooled(), 60), times=2)
    for name in ("precision", "recall", "density", "coverage"):
        assert len(record.values(f"val/{name}_pooled")) == 2
        assert len(record.values(f"val/real_floor_{name}_pooled")) == 1
        (about,) = record.about[f"val/{name}_pooled"]
        assert about == about | {
            "num_generated": 60,
            "num_real": 60,
            "num_neighbours": 5,
            "extractor": "pooled",
            "split": "validation",
            "weights": "raw",
            "sampler": "closed form",
            "noise_seed": 0,
            "labels": "those of the real images",
        }
    assert validate(PrecisionRecall(Pooled(), 60), stage="test").about["test/recall_pooled"][0]["split"] == "test"


def test_mistakes_are_one_line():
    with pytest.raises(ValueError, match="0 neighbours; take at least 1"):
        PrecisionRecall(Pooled(), num_neighbours=0)
    with pytest.raises(ValueError, match="5 generated and 5 real images are too few for 5 neighbours"):
        PrecisionRecall(Pooled(), num_generated=5)
    with pytest.raises(ValueError, match="PrecisionRecall: 200 real images have no 250 nearest others: take more"):
        validate(PrecisionRecall(Pooled(), num_generated=300, num_neighbours=250))
    with pytest.raises(ValueError, match="the features of the generated images hold NaN"):
        overlap(features(9), features(9) * float("nan"))

    class Broken(TinyModel):
        def sample(self, batch, **arguments):
            return super().sample(batch, **arguments) * float("nan")

    with pytest.raises(ValueError, match=r"PrecisionRecall: the images of Broken\.sample cannot be measured: .*NaN"):
        validate(PrecisionRecall(Pooled(), 20), Broken())
