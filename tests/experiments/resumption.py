"""Small runs of every kind of model, what is left of a run that was cut off, and whether two runs ended in the same state."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback

from callbacks import checkpoints
from experiments import training
from experiments.catalogue import FOLDERS
from tests.experiments.small import LIMITS, sized, small

# six batches an epoch; validations that do not fall on the ends of epochs
SIZE = ["--data.limit", "56", "--trainer.max_steps", "16", "--trainer.val_check_interval", "5", "--trainer.limit_val_batches", "2",
        "--trainer.log_every_n_steps", "1", "--trainer.limit_test_batches", "1"]
EACH_STEP = ["--checkpoints.every_minutes", "0", "--checkpoints.keep", "1000"]
SELDOM = ["--checkpoints.every_minutes", "1000", "--checkpoints.keep", "1000"]


class Blow(Callback):
    """Sends this process the signal $BLOW_SIGNAL when the hook $BLOW_HOOK is called for the $BLOW_COUNT-th time."""

    def __init__(self) -> None:
        self.calls = 0

    def struck(self, hook: str) -> None:
        if os.environ.get("BLOW_HOOK") != hook:
            return
        self.calls += 1
        if self.calls == int(os.environ["BLOW_COUNT"]):
            os.kill(os.getpid(), getattr(signal, os.environ["BLOW_SIGNAL"]))

    def setup(self, *_: Any, **__: Any) -> None:
        self.struck("setup")

    def on_train_start(self, *_: Any) -> None:
        self.struck("train_start")

    def on_train_batch_end(self, *_: Any) -> None:
        self.struck("train_batch_end")

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        self.struck("sanity_check" if trainer.sanity_checking else "validation_start")

    def on_validation_batch_end(self, *_: Any) -> None:
        self.struck("validation_batch_end")

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.struck("validation_epoch_end")

    def on_validation_end(self, *_: Any) -> None:
        self.struck("validation_end")

    def on_train_end(self, *_: Any) -> None:
        self.struck("train_end")

    def on_save_checkpoint(self, *_: Any) -> None:
        self.struck("save_checkpoint")


def small_yaml(name: str, folder: Path) -> Path:
    """An experiment of practicum with its evaluations cut down, without those that stand on other runs, and with a `Blow`."""
    content = small(yaml.safe_load((FOLDERS["experiment"] / f"{name}.yaml").read_text()))
    content.pop("needs", None)
    callbacks = [callback for callback in content["trainer"].get("callbacks", []) if "run:" not in yaml.safe_dump(callback)]
    content["trainer"]["callbacks"] = [*callbacks, {"class_path": "tests.experiments.resumption.Blow"}]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def arguments(name: str, folder: Path, *flags: str) -> list[str]:
    """Of a `practicum fit` of a small run."""
    path = small_yaml(name, folder)
    data = yaml.safe_load(path.read_text()).get("data")
    choose = [] if data else ["--data", "digits"]
    return [str(path), *choose, *sized(data or "digits"), *LIMITS, *SIZE, *flags]


def cut_off(run: Path, at: Path, step: int) -> Path:
    """A copy of a run as a kill would have left it after its checkpoint of `step`."""
    shutil.copytree(run, at, symlinks=True)
    for path in (at / "checkpoints").glob("step-*.ckpt"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
            path.with_name(f"{path.name}.sha256").unlink()
    (at / "checkpoints" / "last.ckpt").unlink()
    (at / "checkpoints" / "last.ckpt").symlink_to(f"step-{step:08d}.ckpt")
    status = json.loads((at / "status.json").read_text())
    (at / "status.json").write_text(json.dumps(status | {"state": "running", "finished": None}))
    return at


def steps_of(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*.ckpt"))


def final_state(run: Path) -> dict[str, str]:
    """Everything that a run has come to, as {name: digest or value}: weights, averages, optimisers, schedules of the learning rate,
    random states, counters, and every logged line but for its time."""
    checkpoint = checkpoints.load(run / "checkpoints" / "last.ckpt")
    checkpoint["resumable"].pop("logs")
    state = dict(leaves(checkpoint, "checkpoint"))
    for number, line in enumerate((run / "metrics.jsonl").read_text().splitlines()):
        logged = {key: value for key, value in json.loads(line).items() if key != "time"}
        state[f"line {number}"] = json.dumps(logged, sort_keys=True)
    for path in sorted((run / "media").glob("*")):
        state[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return state


def leaves(value: Any, name: str):
    if isinstance(value, torch.Tensor):
        yield name, f"{list(value.shape)} {hashlib.sha256(value.contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()}"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}")
    elif isinstance(value, list | tuple) and len(value) < 100:
        for index, item in enumerate(value):
            yield from leaves(item, f"{name}.{index}")
    else:
        yield name, repr(value)


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [f"{key}: {one.get(key)} / {other.get(key)}" for key in sorted({*one, *other}) if one.get(key) != other.get(key)]


def fit(name: str, folder: Path, *flags: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return training.fit(arguments(name, folder, *flags), out=folder / "run", quiet=True)
