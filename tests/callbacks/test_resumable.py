"""When checkpoints are written, and what they hold; `practicum resume` itself is tested in tests/experiments/test_resume.py."""

import random

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from callbacks import checkpoints
from callbacks.ema import EMA
from callbacks.resumable import Resumable, random_states, set_random_states
from tests.callbacks.tiny import TinyData, TinyModel


def train(*callbacks, **arguments) -> tuple[Trainer, TinyModel]:
    trainer = Trainer(**{"max_epochs": 2} | arguments, accelerator="cpu", logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=list(callbacks),
                      plugins=[checkpoints.DurableCheckpointIO()])
    model = TinyModel()
    trainer.fit(model, datamodule=TinyData())
    return trainer, model


def test_the_last_weights_are_on_the_disk_and_nothing_else(tmp_path):
    trainer, model = train(Resumable(tmp_path))
    saved = checkpoints.load(tmp_path / "last.ckpt")
    assert saved["global_step"] == trainer.global_step == 20
    for name, value in model.state_dict().items():
        torch.testing.assert_close(saved["state_dict"][name], value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "step-00000020.ckpt", "step-00000020.ckpt.sha256"]


def test_with_ema_the_averages_are_saved(tmp_path):
    _, model = train(EMA(decay=0.9), Resumable(tmp_path))
    saved = checkpoints.load(tmp_path / "last.ckpt")
    for name, value in model.state_dict().items():      # after fit the model holds the averages
        torch.testing.assert_close(saved["state_dict"][name], value)
    assert "current_model_state" in saved


@pytest.mark.parametrize(("minutes", "steps"), [(0.0, [*range(21)]), (1000.0, [20])])
def test_it_is_saved_once_the_time_has_passed(minutes, steps, tmp_path):
    train(Resumable(tmp_path, every_minutes=minutes, keep=100))
    assert sorted(int(path.stem[5:]) for path in tmp_path.glob("step-*.ckpt")) == steps


def test_gradients_that_wait_for_more_are_in_no_checkpoint(tmp_path):
    train(Resumable(tmp_path, every_minutes=0.0, keep=100), accumulate_grad_batches=5)
    assert sorted(int(path.stem[5:]) for path in tmp_path.glob("step-*.ckpt")) == [0, 5, 10, 15, 20]


def test_an_error_in_a_validation_loses_no_training(tmp_path):
    class Broken(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            if trainer.global_step == 20:
                raise RuntimeError("no judge today")

    with pytest.raises(RuntimeError, match="no judge today"):
        train(Broken(), Resumable(tmp_path))
    assert checkpoints.load(tmp_path / "last.ckpt")["resumable"]["validating"]


def test_random_states_go_round():
    states = random_states()
    draws = [random.random(), np.random.rand(), torch.rand(()).item()]
    assert draws != [random.random(), np.random.rand(), torch.rand(()).item()]
    set_random_states(states)
    assert draws == [random.random(), np.random.rand(), torch.rand(()).item()]
