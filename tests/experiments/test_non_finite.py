"""A training that meets NaN or Inf: one line, exit code 1, and weights on the disk from which nothing is lost."""

import json

import torch

from callbacks import checkpoints
from callbacks.finite import non_finite, tensors_in
from experiments.__main__ import main
from lightning_modules.classifier import Classifier

SMALL = ["--data", "digits", "--trainer.max_steps", "6", "--trainer.limit_val_batches", "1", "--data.batch_size", "8"]


def failed(folder, capsys, *arguments):
    """The one line of a fit that ends with exit code 1."""
    assert main(["fit", "classifier", *SMALL, "--out", str(folder), *arguments]) == 1
    line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("practicum fit: ")][-1]
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed" and status["reason"] in (f"NonFiniteError: {line.removeprefix('practicum fit: ')}", line)
    return line


def test_a_diverging_training_ends_with_finite_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    line = failed(tmp_path, capsys, "--model.optimizer.lr", "1e30")
    report = json.loads((tmp_path / "non_finite.json").read_text())
    assert f"step {report['step']}: the loss is nan in batch {report['step'] - 1} of epoch 0 (rows " in line
    assert len(report["rows"]) == 8 and len(set(report["rows"])) == 8 and max(report["rows"]) < 1077
    newest = checkpoints.newest_valid(tmp_path / "checkpoints")
    saved = checkpoints.load(newest)
    assert saved["resumable"]["loops"]["epoch_loop.batch_progress"]["total"]["completed"] == report["step"] - 1
    assert not non_finite(dict(tensors_in([saved["state_dict"], saved["optimizer_states"]])))


def test_spoilt_statistics_are_put_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    losses, before = Classifier.losses, {}

    def spoilt(self, batch):
        before.update({name: buffer.clone() for name, buffer in self.named_buffers()})
        return {name: value * float("nan") for name, value in losses(self, batch | {"image": batch["image"] * float("inf")}).items()}

    monkeypatch.setattr(Classifier, "losses", spoilt)
    monkeypatch.setattr(Classifier, "validation_step", lambda self, batch, batch_idx: None)
    line = failed(tmp_path, capsys)
    assert line.startswith("practicum fit: step 1: the loss is nan in batch 0")
    saved = checkpoints.load(checkpoints.newest_valid(tmp_path / "checkpoints"))["state_dict"]
    assert before and all(torch.equal(saved[name], buffer) for name, buffer in before.items())
