"""Grids, strips, likelihood, loss by noise, class accuracy and sampling curves, each in a real Trainer."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule

from callbacks.bits_per_dim import BitsPerDim
from callbacks.class_accuracy import ClassAccuracy, wilson
from callbacks.denoising_strip import DenoisingStrip
from callbacks.evaluation import Evaluation
from callbacks.loss_by_noise import LossByNoise
from callbacks.media import to_uint8
from callbacks.sample_grid import SampleGrid
from callbacks.sampling_curves import SamplingCurves
from tests.callbacks.test_extractors import write_run
from tests.callbacks.test_fid import Pooled
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_CACHE", str(tmp_path / "cache"))


def validate(*callbacks, model=None, data=None):
    record = Record()
    run = trainer(list(callbacks), logger=record)
    run.validate(model or TinyModel(), datamodule=data or TinyData(), verbose=False)
    return record


# When ----------------------------------------------------------------------------------------------------------------


class When(Evaluation):
    def __init__(self, only_last=False):
        super().__init__(only_last)
        self.asked = []

    def evaluate(self, trainer, pl_module, stage):
        self.asked.append((stage, trainer.global_step))


@pytest.mark.parametrize(
    "arguments, every, last",
    [  # 10 batches an epoch
        ({"max_epochs": 3}, [10, 20, 30], 30),
        ({"max_epochs": 5, "check_val_every_n_epoch": 2}, [20, 40], 40),
        ({"max_epochs": 2, "val_check_interval": 4}, [4, 8, 14, 18], 18),
        ({"max_epochs": 2, "val_check_interval": 0.5}, [5, 10, 15, 20], 20),
        ({"max_epochs": 3, "val_check_interval": 8, "check_val_every_n_epoch": None}, [8, 16, 24], 24),
        # a fit that ends between two validations gets one more
        ({"max_epochs": -1, "max_steps": 13, "val_check_interval": 4}, [4, 8, 13], 13),
        (
            {"max_epochs": -1, "max_steps": 20, "val_check_interval": 8, "check_val_every_n_epoch": None},
            [8, 16, 20],
            20,
        ),
        ({"max_epochs": -1, "max_steps": 16, "val_check_interval": 8, "check_val_every_n_epoch": None}, [8, 16], 16),
    ],
)
def test_when_it_is_asked(arguments, every, last):
    always, at_last = When(), When(only_last=True)
    trainer([always, at_last], **arguments).fit(TinyModel(), datamodule=TinyData())
    assert always.asked == [("val", step) for step in every]
    assert at_last.asked == [("val", last)]


def test_validate_and_test_always_ask():
    at_last = When(only_last=True)
    run = trainer([at_last])
    run.validate(TinyModel(), datamodule=TinyData(), verbose=False)
    run.test(TinyModel(), datamodule=TinyData(), verbose=False)
    assert at_last.asked == [("val", 0), ("test", 0)]


def test_no_evaluation_moves_the_random_state(tmp_path):
    states = []

    class Watch(Callback):
        def on_validation_start(self, trainer, pl_module):
            states.append(torch.get_rng_state())

        def on_validation_end(self, trainer, pl_module):
            states.append(torch.get_rng_state())

    judge = write_run(tmp_path / "judge", TinyModel())
    every = [
        Watch(),
        SampleGrid(rows=2),
        DenoisingStrip(),
        BitsPerDim(),
        LossByNoise(),
        ClassAccuracy(judge, 40),
        SamplingCurves(Pooled(), num_generated=20),
    ]
    record = validate(*every)
    assert torch.equal(states[0], states[1])
    assert {key for key, _, _ in record.images} == {"val/samples", "val/denoising", "val/noising"}
    assert set(record.tables) == {
        "val/loss_by_noise",
        "val/class_accuracy_by_class",
        "val/fd_by_steps",
        "val/fd_by_skipped",
    }


def test_a_missing_method_is_named():
    class Silent(LightningModule):
        def validation_step(self, batch, batch_idx):
            pass

    for callback, method in (
        (SampleGrid(), r"sample\(\)"),
        (BitsPerDim(), r"bits_by_term\(\)"),
        (LossByNoise(), r"loss_at\(\) and noising\(\) and denoising_path\(\)"),
    ):
        with pytest.raises(ValueError, match=f"{type(callback).__name__} asks Silent for {method}, which it has not"):
            validate(callback, model=Silent())


# What ----------------------------------------------------------------------------------------------------------------


def test_sample_grid_has_a_class_in_each_column_and_the_same_noise_each_time():
    record, data = Record(), TinyData()
    run = trainer([SampleGrid(columns=6, rows=3, batch_size=5)], logger=record, max_epochs=2)
    run.fit(TinyModel(), datamodule=data)
    assert [key for key, _, _ in record.images] == ["val/samples"] * 2
    first, second = (np.asarray(picture) for _, picture, _ in record.images)
    assert (first == second).all()
    labels = torch.arange(18) % 6 % 4
    generators = [torch.Generator().manual_seed(i) for i in range(18)]
    images = to_uint8(TinyModel().sample({"image": torch.empty(18, 1, 8, 8), "label": labels}, generator=generators))
    cell = 8 * 8 + 6
    for row, column in ((0, 0), (1, 3), (2, 5)):
        shown = first[row * cell + 6 : (row + 1) * cell : 8, column * cell + 6 : (column + 1) * cell : 8, 0]
        assert (shown == images[6 * row + column, 0].numpy()).all()
    names = "top left, top right, bottom left, bottom right, top left, top right"
    assert record.images[0][2] == f"step 10; columns: {names}"


def test_a_grid_of_broken_images_is_shown_and_labelled(capsys):
    class Broken(TinyModel):
        def sample(self, batch, **arguments):
            return super().sample(batch, **arguments) * float("nan")

    record = validate(SampleGrid(2, 2), model=Broken())
    assert record.images[0][2].startswith("WARNING: 256 of 256 values are NaN or infinite; step 0")
    assert "SampleGrid, val/samples: 256 of 256 values are NaN" in capsys.readouterr().err


def test_denoising_strip():
    record = validate(DenoisingStrip(num_frames=5), model=TinyModel(spread=0.0))
    strips = {key: np.asarray(picture) for key, picture, _ in record.images}
    cell = 8 * 8 + 2
    assert strips["val/noising"].shape == strips["val/denoising"].shape == (4 * cell + 2, 5 * cell + 2, 3)

    def frame(key, row, column):
        part = strips[key][row * cell + 2 : (row + 1) * cell : 8, column * cell + 2 : (column + 1) * cell : 8, 0]
        return torch.from_numpy(part.astype(np.int64))

    for row in range(4):  # a row per class: the quadrant is bright
        clean = frame("val/noising", row, 0)
        bright = torch.nn.functional.avg_pool2d(clean[None, None].float(), 4).flatten()
        assert bright.argmax() == row
        noise = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(row))
        assert torch.equal(frame("val/noising", row, 4), to_uint8(noise)[0].long())  # t = 1 is noise, of its own seed
        # TinyModel's path is (k + 1) / 5 of its sample
        sample = torch.full((8, 8), 60 / 127.5 - 1)
        sample[4 * (row // 2) :, 4 * (row % 2) :][:4, :4] += 120 / 127.5
        assert (frame("val/denoising", row, 2) - to_uint8(sample * 3 / 5).long()).abs().max() <= 1


def test_bits_per_dim_is_the_mean_over_the_images():
    record, data = validate(BitsPerDim(num_images=300, num_terms=7, batch_size=64)), TinyData()
    expected = data.images("validation").mean() / 127.5 - 1 + 7
    assert record.values("val/bits_per_dim")[0][1] == pytest.approx(expected, rel=1e-5)
    assert record.values("val/bits_by_term/pixels")[0][1] == pytest.approx(expected - 7, rel=1e-4)
    assert record.values("val/bits_by_term/terms")[0][1] == 7
    about = record.about["val/bits_per_dim"][0]
    assert (about["num_images"], about["num_terms"], about["split"]) == (200, 7, "validation")

    class Broken(TinyModel):
        def bits_by_term(self, batch, **arguments):
            return {"all": torch.full((len(batch["image"]),), float("inf"))}

    with pytest.raises(ValueError, match="BitsPerDim: the bound of Broken is inf"):
        validate(BitsPerDim(), model=Broken())


def test_loss_by_noise():
    columns, rows = validate(LossByNoise(num_bins=4, num_images=150, batch_size=64)).tables["val/loss_by_noise"][0]
    assert columns == ["t", "loss"]
    assert np.allclose(rows, [[0.125, 0.875], [0.375, 0.625], [0.625, 0.375], [0.875, 0.125]])


def test_class_accuracy_with_its_intervals(tmp_path):
    class LeftOnly(TinyModel):
        """Draws the left class of each pair."""

        def sample(self, batch, **arguments):
            return super().sample({**batch, "label": batch["label"] // 2 * 2}, **arguments)

    judge = write_run(tmp_path / "judge", TinyModel())
    record = validate(ClassAccuracy(judge, num_images=42, batch_size=16), model=LeftOnly())
    # 11 + 11 + 10 + 10 labels; those of classes 0 and 2 are right
    assert record.values("val/class_accuracy")[0][1] == pytest.approx(21 / 42)
    columns, rows = record.tables["val/class_accuracy_by_class"][0]
    assert columns == ["class", "accuracy", "low", "high", "num_images"]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("top left", 1.0, 11),
        ("top right", 0.0, 11),
        ("bottom left", 1.0, 10),
        ("bottom right", 0.0, 10),
        ("all", 0.5, 42),
        ("judge on real images", 1.0, 200),
    ]
    about = record.about["val/class_accuracy"][0]
    assert about["judge"] == "quadrants_classifier" and len(about["judge_weights_sha256"]) == 64


def test_wilson():
    # Wilson's interval for 81 of 263, from Newcombe 1998, table I: 0.2553, 0.3662; and 0 of 20: 0, 0.1611.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(20, 20)[1] == 1.0


def test_a_judge_of_other_classes_and_a_model_without_condition_are_refused(tmp_path):
    judge, data = write_run(tmp_path / "judge", TinyModel()), TinyData()
    data.class_names = ["odd", "even"]
    with pytest.raises(ValueError, match="knows 4 classes and quadrants has 2: train a judge"):
        validate(ClassAccuracy(judge), data=data)

    class Plain(TinyModel):
        def sampling_settings(self):
            return {"conditional": False}

    with pytest.raises(ValueError, match="ClassAccuracy: Plain samples without a class here"):
        validate(ClassAccuracy(judge), model=Plain())


def test_sampling_curves_once_at_the_last_validation():
    record = Record()
    curves = SamplingCurves(Pooled(), steps=[2, 4, 8], skipped=[0.0, 0.5], num_generated=60)
    trainer([curves], logger=record, max_epochs=3).fit(TinyModel(), datamodule=TinyData())
    ((columns, rows),) = record.tables["val/fd_by_steps"]
    assert columns == ["steps", "fd"] and [row[0] for row in rows] == [2, 4, 8]
    by_steps = [row[1] for row in rows]
    ((columns, rows),) = record.tables["val/fd_by_skipped"]
    assert columns == ["skipped", "fd"] and [row[0] for row in rows] == [0.0, 0.5]
    # TinyModel with K steps is brighter by 1/K, and with the noisier half left out by 1/4: 16 features, each moved so
    # far
    perfect = rows[0][1]
    assert by_steps == pytest.approx([perfect + 16 / steps**2 for steps in (2, 4, 8)], rel=0.05)
    assert rows[1][1] == pytest.approx(perfect + 16 / 4**2, rel=0.05)
    assert record.about["val/fd_by_steps"][0]["num_generated"] == 60


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: SamplingCurves(Pooled(), skipped=[1.0]), r"skipped \[1.0\] are not all shares"),
        (lambda: SamplingCurves(Pooled(), steps=[0]), r"steps \[0\] are not all positive"),
        (lambda: SampleGrid(columns=0), "0 columns"),
        (lambda: LossByNoise(num_bins=0), "0 bins"),
        (lambda: BitsPerDim(num_terms=0), "0 terms"),
        (lambda: DenoisingStrip(num_frames=1), "1 frames"),
    ],
)
def test_arguments_out_of_range(make, said):
    with pytest.raises(ValueError, match=said):
        make()
