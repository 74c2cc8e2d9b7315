import sys

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from torch import nn

from callbacks import fid
from callbacks.ema import EMA
from callbacks.evaluation import RealImages
from callbacks.extractors import Extractor
from callbacks.fid import FrechetDistance, real_reference
from callbacks.frechet import Gaussian, frechet_distance
from callbacks.media import to_float
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


class Pooled(Extractor):
    """16 features: the means of 2x2 blocks."""

    name, preprocessing = "pooled", "none"

    def __init__(self, scale: float = 1.0):
        self.scale, self.calls = scale, 0

    def load(self):
        network = nn.Linear(1, 1, bias=False)
        network.weight.data.fill_(self.scale)
        return network

    def features(self, network, images):
        self.calls += 1
        return network.weight * nn.functional.avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_CACHE", str(tmp_path))
    return tmp_path


def validate(callback, model=None, data=None, **arguments):
    record = Record()
    run = trainer([callback], logger=record, **arguments)
    run.validate(model or TinyModel(), datamodule=data or TinyData(), verbose=False)
    return record


def test_the_value_is_that_of_the_images_themselves():
    record = validate(FrechetDistance(Pooled(), num_generated=120, batch_size=50))
    data, model, extractor = TinyData(), TinyModel(), Pooled()
    real = extractor(to_float(data.images("validation")))
    order = torch.from_numpy(RealImages.of(_with(data), "validation")._order)
    labels = torch.from_numpy(data.labels("validation"))[order][:120]
    generators = [torch.Generator().manual_seed(i) for i in range(120)]
    images = model.sample({"image": torch.empty(120, 1, 8, 8), "label": labels}, generator=generators)
    expected = frechet_distance(Gaussian.fit(extractor(images)), Gaussian.fit(real))
    assert record.values("val/fd_pooled")[0][1] == pytest.approx(expected, rel=1e-5)
    # the floor: 120 training images of the same labels, the first of each class in the shuffled order of that split
    others = RealImages.of(_with(data), "train")._order
    chosen = [[place for place in others if place % 4 == label] for label in range(4)]
    matched = [chosen[label].pop(0) for label in labels]
    perfect = Gaussian.fit(extractor(to_float(data.images("train")[matched])))
    floor = frechet_distance(perfect, Gaussian.fit(real))
    assert record.values("val/real_floor_fd_pooled")[0][1] == pytest.approx(floor, rel=1e-5)


def _with(data):
    run = trainer([])
    run.datamodule = data
    return run


def test_a_perfect_model_is_near_the_floor_and_a_shifted_one_far():
    measure = {
        name: validate(FrechetDistance(Pooled(), num_generated=200), TinyModel(shift=shift)).metrics[0][1]
        for name, shift in (("perfect", 0.0), ("shifted", 0.2))
    }
    floor = measure["perfect"]["val/real_floor_fd_pooled"]
    assert floor / 1.5 < measure["perfect"]["val/fd_pooled"] < 1.5 * floor
    assert measure["shifted"]["val/fd_pooled"] == pytest.approx(16 * 0.2**2, rel=0.1)  # 16 features, moved by 0.2
    assert abs(measure["perfect"]["val/kid_pooled"]) < 0.01 < measure["shifted"]["val/kid_pooled"]


def test_it_declares_what_it_is():
    about = validate(FrechetDistance(Pooled(), num_generated=120)).about["val/fd_pooled"]
    assert about == [
        {
            "num_generated": 120,
            "num_real": 200,
            "extractor": "pooled",
            "extractor_weights_sha256": Pooled().weights_sha256,
            "preprocessing": "none",
            "data": "quadrants",
            "data_fingerprint": "quadrants-1",
            "split": "validation",
            "image_size": "1x8x8",
            "weights": "raw",
            "sampler": "closed form",
            "num_steps": 1,
            "conditional": True,
            "precision": "32-true",
            "noise_seed": 0,
            "labels": "those of the real images",
        }
    ]


def test_in_fit_with_ema_and_in_test():
    record = Record()
    run = trainer([EMA(0.9), FrechetDistance(Pooled(), num_generated=50)], logger=record, max_epochs=2)
    run.fit(TinyModel(), datamodule=TinyData())
    assert [step for step, _ in record.values("val/fd_pooled")] == [9, 19]  # not in the sanity check
    assert len(record.values("val/real_floor_fd_pooled")) == len(record.about["val/fd_pooled"]) == 1
    assert record.about["val/fd_pooled"][0]["weights"] == "averaged (EMA 0.9)"
    run.test(TinyModel(), datamodule=TinyData(), verbose=False)
    assert len(record.values("test/fd_pooled")) == 1
    assert record.about["test/fd_pooled"][0]["split"] == "test"


def test_the_value_depends_on_neither_batch_size_nor_global_seed():
    values = []
    for batch_size, seed in ((7, 0), (120, 1)):
        torch.manual_seed(seed)
        record = validate(FrechetDistance(Pooled(), num_generated=120, batch_size=batch_size))
        values.append((record.values("val/fd_pooled")[0][1], record.values("val/kid_pooled")[0][1]))
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_validation_moves_no_random_state():
    states = []

    class Watch(Callback):
        def on_validation_start(self, trainer, pl_module):
            states.append(torch.get_rng_state())

        def on_validation_end(self, trainer, pl_module):
            states.append(torch.get_rng_state())

    class Drawing(Pooled):
        def load(self):
            torch.randn(3)
            return super().load()

    trainer([Watch(), FrechetDistance(Drawing(), num_generated=20)]).fit(TinyModel(), datamodule=TinyData())
    assert len(states) == 4  # sanity check and one validation
    assert torch.equal(states[0], states[1]) and torch.equal(states[2], states[3])


def test_real_features_are_taken_once_and_kept_on_disk(cache):
    first, again, other = Pooled(), Pooled(), Pooled(scale=2.0)
    validate(FrechetDistance(first, num_generated=20, batch_size=20))
    validate(FrechetDistance(again, num_generated=20, batch_size=20))
    assert (first.calls, again.calls) == (12, 1)  # 200 real images, 20 for the floor, 20 generated; then 20 generated
    assert len(list((cache / "features").iterdir())) == 2
    validate(FrechetDistance(other, num_generated=20, batch_size=20))  # other weights, another entry
    validate(FrechetDistance(Pooled(), num_generated=20, num_real=100))  # the same floor
    changed = TinyData()
    changed.fingerprint = "quadrants-2"
    validate(FrechetDistance(Pooled(), num_generated=20), data=changed)
    assert len(list((cache / "features").iterdir())) == 7


def test_a_damaged_cache_file_is_computed_again(cache, capsys):
    before = validate(FrechetDistance(Pooled(), num_generated=20)).values("val/fd_pooled")
    for path in (cache / "features").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert validate(FrechetDistance(Pooled(), num_generated=20)).values("val/fd_pooled") == before
    assert "is damaged" in capsys.readouterr().err


def test_more_images_than_are_kept(cache, monkeypatch):
    """Beyond MAX_FEATURES the Gaussians come from running sums: the same numbers."""
    real = RealImages.of(_with(TinyData()), "validation")
    whole = real_reference(Pooled(), real, 190, 32, torch.device("cpu"))
    monkeypatch.setattr(fid, "MAX_FEATURES", 60)
    monkeypatch.setenv("PRACTICUM_CACHE", str(cache / "other"))
    for _ in range(2):  # computed, then read
        running = real_reference(Pooled(), real, 190, 32, torch.device("cpu"))
        assert running.features.shape == (60, 16) and torch.equal(running.features, whole.features[:60])
        assert torch.allclose(running.gaussian.mean, whole.gaussian.mean, rtol=1e-10)
        assert torch.allclose(running.gaussian.covariance, whole.gaussian.covariance, rtol=1e-8, atol=1e-14)


def test_too_few_images_are_a_labelled_warning(capsys):
    record = validate(FrechetDistance(Pooled(), num_generated=10))
    assert record.about["val/fd_pooled"][0]["warning"].startswith(
        "10 images for 16 features: the covariance is singular"
    )
    assert "FrechetDistance, val/fd_pooled: 10 images for 16 features" in capsys.readouterr().err


@pytest.mark.parametrize("spoil, said", [(lambda x: x * float("nan"), "NaN"), (lambda x: x * 3, "not within")])
def test_images_that_cannot_be_measured_are_an_error(spoil, said):
    class Broken(TinyModel):
        def sample(self, batch, **arguments):
            return spoil(super().sample(batch, **arguments))

    with pytest.raises(ValueError, match=f"FrechetDistance: the images of Broken.sample cannot be measured: .*{said}"):
        validate(FrechetDistance(Pooled(), num_generated=10), Broken())


def test_a_model_that_does_not_sample_and_data_without_images():
    class Mute(LightningModule):
        def validation_step(self, batch, batch_idx):
            pass

    with pytest.raises(ValueError, match=r"FrechetDistance asks Mute for sample\(\), which it has not"):
        validate(FrechetDistance(Pooled()), Mute())

    with pytest.raises(ValueError, match="FrechetDistance needs a datamodule with `images`, which NoneType has not"):
        run = trainer([FrechetDistance(Pooled())])
        run.validate(TinyModel(), TinyData().val_dataloader(), verbose=False)


def test_the_key_of_the_published_network_alone_is_fid():
    class Published(Pooled):
        name, key = "inception", "fid"

    record = validate(FrechetDistance(Published(), num_generated=50))
    assert set(record.metrics[0][1]) == {"val/fid", "val/real_floor_fid", "val/kid_inception"}


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    from callbacks import progress

    assert not sys.stderr.isatty()
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert list(progress.track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == "counting ... (1 of 3 done, about 0 s left)\ncounting: 0 s\n"
    assert list(progress.track([7], "one thing")) == [7]
    assert capsys.readouterr().err == "one thing: 0 s\n"


def test_images_matched_by_label():
    real = RealImages.of(_with(TinyData(num=20)), "validation")
    labels = torch.tensor([3, 3, 0, 1, 3, 3, 3, 3, 9])
    matched = real.matching(labels)
    assert torch.equal(matched.labels(8), labels[:8])  # no class 9: left out
    assert len(matched) == 8 and len(set(matched._order)) == 7  # five images of class 3, so the first comes again
    assert matched.sha256(8) != real.sha256(8)
