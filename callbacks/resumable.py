"""Checkpoints from which a run goes on as if nobody had touched it: with the same weights, numbers and log lines.

Lightning's own checkpoint holds no random state, its loader starts over, and its counters count a step twice or not at all,
depending on the hook in which it was written. Here a checkpoint stands at one of two places, where the run's state is known:

- the beginning of a batch: all before it is done and logged;
- the beginning of a validation that something has interrupted: after a resume the whole validation runs again.

Beside what Lightning keeps stand, under "resumable", the counters of that place, the random states and the log's length.
"""

from __future__ import annotations

import random
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.checkpoints import room_for
from callbacks.stopping import Signals

BATCHES = "epoch_loop.batch_progress"
STEPS = ("epoch_loop.automatic_optimization.optim_progress", "optimizer", "step"), ("epoch_loop.manual_optimization.optim_step_progress",)


class Resumable(Callback):
    """Writes a checkpoint into `folder` every `every_minutes`, when a signal or an error stops the run, and when it ends; the newest
    `keep` stay.

    The last one of the list of callbacks: it sees the weights as the others leave them. A signal that comes while a batch is trained
    waits for the batch's end; validation, samples and metrics are left at once.
    """

    def __init__(self, folder: Path, every_minutes: float = 5.0, keep: int = 2) -> None:
        self.folder, self.every_minutes, self.keep = folder, every_minutes, keep
        self.signals = Signals()
        self.saved_at = monotonic()
        self._place: dict[str, Any] | None = None  # where an interrupted validation began
        self._restored: dict[str, Any] | None = None  # until the run stands where the checkpoint was written

    # Saving ---------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        room_for(self.folder, size_of(pl_module))
        self.signals.install()
        self.signals.deferred = True
        if self._restored is not None and self._restored["validating"]:
            self._validate(trainer, self._restored)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._restored is not None:
            put_back(trainer, self._restored["loops"])
            set_random_states(self._restored["random"])
            self._restored = None
        whole = batch_idx % trainer.accumulate_grad_batches == 0  # gradients that wait for more are in no checkpoint
        if whole and (self.signals.received or self._is_due(trainer, batch_idx)):
            self.save(trainer, self.place(trainer))
            self.signals.check()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_training(trainer):
            return
        self._place = None if trainer.fit_loop._should_accumulate() else self.place(trainer, validating=True)
        self.signals.deferred = False
        self.signals.check()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.deferred = is_training(trainer)  # from here on weights are exchanged and lines are written

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._place = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, self.place(trainer, ended=True))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.deferred = True
        if isinstance(exception, FloatingPointError):  # of FiniteGuard, before the update
            with suppress(FloatingPointError):  # which refuses what is spoilt all the same: the former checkpoint stays
                self.save(trainer, self._place or self.place(trainer))
        elif self._place is not None:  # whatever went wrong in a validation, the training before it is not lost
            self.save(trainer, self._place)

    def save(self, trainer: Trainer, place: dict[str, Any]) -> None:
        self._place = place
        step = place["loops"][BATCHES]["total"]["completed"]
        trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt", storage_options={"keep": self.keep})
        self._place, self.saved_at = None, monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._place is not None:
            checkpoint["callbacks"] |= self._place["callbacks"]
            checkpoint["loops"]["fit_loop"] = self._place["loops"]
            checkpoint["resumable"] = {key: value for key, value in self._place.items() if key != "callbacks"}

    def place(self, trainer: Trainer, validating: bool = False, ended: bool = False) -> dict[str, Any]:
        """Where the run stands now."""
        loops, callbacks = deepcopy(trainer.fit_loop.state_dict()), trainer.callbacks  # type: ignore[attr-defined]
        if not validating:
            begin_batch(loops, trainer.num_training_batches, ended)
        return {
            "loops": loops,
            "validating": validating,
            "ended": ended,
            "should_stop": trainer.should_stop,
            "random": random_states(),
            "logs": [logger.position() for logger in trainer.loggers if hasattr(logger, "position")],
            "callbacks": {callback.state_key: deepcopy(state) for callback in callbacks if (state := callback.state_dict())},
        }

    def _is_due(self, trainer: Trainer, batch_idx: int) -> bool:
        if trainer.world_size == 1:
            return monotonic() - self.saved_at >= 60 * self.every_minutes
        return batch_idx % 50 == 0 and trainer.strategy.broadcast(monotonic() - self.saved_at >= 60 * self.every_minutes)

    # Going on -------------------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit" or (restored := checkpoint.get("resumable")) is None:
            return
        if not hasattr(data := trainer.datamodule, "begin_at"):  # type: ignore[attr-defined]
            raise ValueError(
                f"{type(data).__name__} cannot begin in the middle of an epoch: give it `begin_at(epoch, batch)`, or derive it from"
                " HuggingFaceData"
            )
        epoch, batch = restored["loops"]["epoch_progress"]["current"]["processed"], restored["loops"][BATCHES]["current"]["completed"]
        data.begin_at(epoch, batch)
        loggers: list[Any] = [logger for logger in trainer.loggers if hasattr(logger, "position")]
        for logger, position in zip(loggers, restored["logs"], strict=True):
            logger.rewind(position, cut=not restored["ended"])
        self._restored = restored
        if restored["validating"]:
            checkpoint["loops"]["fit_loop"] = one_step_less(restored["loops"])

    def _validate(self, trainer: Trainer, place: dict[str, Any]) -> None:
        """The validation that was interrupted, as Lightning would have run it after the batch before; then on to the next batch."""
        put_back(trainer, place["loops"])
        set_random_states(place["random"])
        trainer.should_stop = place["should_stop"]
        epochs: Any = trainer.fit_loop
        epochs.epoch_loop.on_advance_end(epochs._data_fetcher)
        if epochs.done:
            epochs.on_advance_end()
            self._restored = None
        else:
            self._restored = self.place(trainer)
            epochs.load_state_dict(deepcopy(self._restored["loops"]))
            epochs.update_restart_stage()


def is_training(trainer: Trainer) -> bool:
    """In a fit, and past its sanity check."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def begin_batch(loops: dict[str, Any], num_batches: float, ended: bool) -> None:
    """Makes the counters those of the beginning of the next batch, from those of any moment between two batches, or (`ended`) of a
    training's end, so that a run can also be made longer."""
    batches, epochs = loops[BATCHES], loops["epoch_progress"]
    total, current = batches["total"], batches["current"]
    if ended and current["completed"] < num_batches:  # the epoch was broken off; Lightning has counted it as a whole one
        for progress in epochs.values():
            progress["processed"] -= 1
            progress["completed"] -= 1
    elif ended:
        for progress in epochs.values():
            progress["ready"] += 1
            progress["started"] += 1
        current["completed"] = 0
        batches["is_last_batch"] = False
    for progress in (total, current):
        progress["started"] = progress["processed"] = progress["completed"]
        progress["ready"] = progress["completed"] + 1


def one_step_less(loops: dict[str, Any]) -> dict[str, Any]:
    """The same counters with the last step undone, or Lightning would leave at once where only the last validation is missing."""
    loops = deepcopy(loops)
    for path in STEPS:
        progress: Any = loops
        for key in path:
            progress = progress[key]
        progress["total"]["completed"] -= 1
    return loops


def put_back(trainer: Trainer, loops: dict[str, Any]) -> None:
    """Sets the counters, whatever Lightning has made of them while it restarted."""
    epochs = trainer.fit_loop
    epochs.load_state_dict(deepcopy(loops))
    for loop in (epochs, epochs.epoch_loop, epochs.epoch_loop.val_loop):
        loop.on_iteration_done()  # what is loaded is not restarted once more


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators, as plain values and tensors."""
    name, keys, *rest = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    states = {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    return states | {"cuda": torch.cuda.get_rng_state_all()} if torch.cuda.is_available() else states


def set_random_states(states: dict[str, Any]) -> None:
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])


def size_of(pl_module: LightningModule) -> int:
    """Bytes of a checkpoint, about: weights, their averages and two moments of each."""
    tensors: list[Tensor] = [*pl_module.parameters(), *pl_module.buffers()]
    trained = [parameter for parameter in pl_module.parameters() if parameter.requires_grad]
    return sum(tensor.nbytes for tensor in tensors) + 3 * sum(parameter.nbytes for parameter in trained)
