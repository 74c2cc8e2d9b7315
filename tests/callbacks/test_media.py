import numpy as np
import pytest
import torch

from callbacks.media import declare, grid, log_image, log_table, to_float, to_uint8, trouble_with
from tests.callbacks.tiny import Record, trainer


def test_uint8_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every.numpy())), every)
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0, 1.2, -9.0, float("nan")])).tolist() == [0, 128, 255, 255, 0, 0]


def test_grid_places_and_enlarges_each_image():
    images = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, 2, 3)
    picture = grid(images, columns=4, padding=1, scale=2)
    assert picture.shape == (2 * 5 + 1, 4 * 7 + 1, 3) and picture.dtype == np.uint8
    assert (picture[1:5, 1:7] == 0).all() and (picture[6:10, 8:14] == 255).all()  # the first, and the sixth
    assert (picture[0] == 225).all() and (picture[6:10, 15:] == 225).all()  # gutter, and empty places
    ramp = torch.linspace(-1, 1, 6).view(1, 1, 2, 3)
    enlarged = torch.tensor([[0, 51, 102], [153, 204, 255]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert (grid(ramp, 1, padding=0, scale=2)[..., 0] == enlarged.numpy()).all()
    assert grid(torch.zeros(1, 3, 16, 16), 1).shape == (68, 68, 3)  # 16 pixels are shown at 64


def test_trouble_is_named():
    assert trouble_with(torch.tensor([-1.0, 1.0005])) is None
    assert trouble_with(torch.tensor([0.5, float("nan")])) == "1 of 2 values are NaN or infinite"
    assert trouble_with(torch.tensor([0.5, -1.5])) == "values reach from -1.5 to 0.5, not within [-1, 1]"


def test_every_logger_that_can_is_told(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    record = Record()
    run = trainer([], logger=[CSVLogger(tmp_path), record])
    log_image(run, "val/samples", np.zeros((4, 4, 3), np.uint8), "caption")
    log_table(run, "val/t", ["t", "loss"], [[0.5, 1.0]])
    declare(run, "val/fd", {"num_real": 10})
    assert record.images[0][0] == "val/samples" and record.images[0][1].size == (4, 4)
    assert record.tables == {"val/t": [(["t", "loss"], [[0.5, 1.0]])]}
    assert record.about == {"val/fd": [{"num_real": 10}]}


def test_wandb_keeps_picture_table_and_declaration(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger

    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, settings=wandb.Settings(silent=True, console="off", x_disable_meta=True))
    run = trainer([], logger=[logger])
    log_image(run, "val/samples", np.zeros((4, 4, 3), np.uint8), "caption")
    log_table(run, "val/t", ["t", "loss"], [[0.5, 1.0]])
    declare(run, "val/fd", {"num_real": 10})
    summary = logger.experiment.summary
    assert summary["about/val/fd"]["num_real"] == 10 and {"val/samples", "val/t"} <= set(summary.keys())
    wandb.finish()
