"""One checkpoint, replaced in one step, and a line that says how far training is."""

from datetime import timedelta

import torch
from lightning.pytorch import Trainer

from callbacks.ema import EMA
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.training_progress import TrainingProgress, duration
from tests.callbacks.tiny import TinyData, TinyModel


def train(*callbacks, **arguments) -> tuple[Trainer, TinyModel]:
    trainer = Trainer(**{"max_epochs": 2} | arguments, accelerator="cpu", logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=list(callbacks))
    model = TinyModel()
    trainer.fit(model, datamodule=TinyData())
    return trainer, model


def test_the_last_weights_are_on_the_disk_and_nothing_else(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    trainer, model = train(LastCheckpoint(path))
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == trainer.global_step
    for name, value in model.state_dict().items():
        torch.testing.assert_close(saved["state_dict"][name], value)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_with_ema_the_averages_are_saved_whatever_the_order(tmp_path):
    for number, order in enumerate(((0, 1), (1, 0))):
        path = tmp_path / str(number) / "last.ckpt"
        pair = [LastCheckpoint(path), EMA(decay=0.9)]
        _, model = train(*[pair[place] for place in order])
        saved = torch.load(path, weights_only=True)
        for name, value in model.state_dict().items():      # after fit the model holds the averages
            torch.testing.assert_close(saved["state_dict"][name], value)
        assert "current_model_state" in saved


def test_between_it_is_saved_at_validation_once_the_time_has_passed(tmp_path):
    class Counting(LastCheckpoint):
        saves = 0

        def save(self, trainer):
            self.saves += 1
            super().save(trainer)

    often, seldom = Counting(tmp_path / "a.ckpt", timedelta(0)), Counting(tmp_path / "b.ckpt", timedelta(hours=1))
    train(often, seldom)
    assert (often.saves, seldom.saves) == (3, 1)


def test_progress_says_what_is_left(capsys):
    train(TrainingProgress("tiny", every=0.0), max_epochs=-1, max_steps=6)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("tiny: ")
    assert "6 steps" in lines[0]
    assert "tiny: step 3 of 6" in lines[3]
    assert "left" in lines[3]
    assert lines[-1].startswith("tiny: trained 6 steps in ")


def test_quiet_progress_says_nothing(capsys):
    train(TrainingProgress("tiny", quiet=True, every=0.0), max_epochs=1)
    assert "tiny" not in capsys.readouterr().err


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 59, 61, 7_261)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]
