"""One checkpoint of a run, its newest."""

import os
from datetime import timedelta
from pathlib import Path
from time import monotonic

from lightning.pytorch import Callback, LightningModule, Trainer


class LastCheckpoint(Callback):
    """Writes `path` after validation, if `every` has passed since the last time, and when training ends or is interrupted.

    The file is replaced in one step: a reader, or a crash, finds the former checkpoint or the new one.
    """

    def __init__(self, path: Path, every: timedelta = timedelta(minutes=5)) -> None:
        self.path, self.every = path, every
        self.saved_at = monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and monotonic() - self.saved_at > self.every.total_seconds():
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.state.fn == "fit" and trainer.global_step > 0:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        beside = self.path.with_suffix(f".{os.getpid()}.part")
        trainer.save_checkpoint(beside)
        if trainer.is_global_zero:
            os.replace(beside, self.path)
        self.saved_at = monotonic()
