"""How far a training run is, how fast it goes, and how long it will take."""

import sys
from time import monotonic
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class TrainingProgress(Callback):
    """One line that is rewritten on a terminal, or a plain line every `every` seconds where there is none."""

    def __init__(self, title: str, quiet: bool = False, every: float = 15.0) -> None:
        self.title, self.quiet = title, quiet
        self.terminal = sys.stderr.isatty()
        self.every = 0.2 if self.terminal else every
        self.started = self.shown = 0.0
        self.first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self.shown = monotonic()
        self.first_step = trainer.fit_loop.epoch_loop.total_batch_idx
        million = sum(parameter.numel() for parameter in pl_module.parameters()) / 1e6
        self.say(f"{self.title}: {million:.2f} M parameters on {pl_module.device}, {total_steps(trainer):,} steps", last=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = monotonic()
        if now - self.shown < self.every:
            return
        self.shown = now
        step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        total = total_steps(trainer)
        speed = (step - self.first_step) / (now - self.started)
        loss = trainer.callback_metrics.get("train/loss")
        shown_loss = "" if loss is None else f", loss {loss:.4f}"
        self.say(f"{self.title}: step {step:,} of {total:,}{shown_loss}, {speed:.1f} steps/s, "
                 f"{duration((total - step) / speed)} left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.say(f"{self.title}: trained {trainer.fit_loop.epoch_loop.total_batch_idx + 1:,} steps "
                 f"in {duration(monotonic() - self.started)}", last=True)

    def say(self, text: str, last: bool = False) -> None:
        if self.quiet:
            return
        if self.terminal:
            print(f"\r\033[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def total_steps(trainer: Trainer) -> int:
    """Batches of the whole run."""
    return int(trainer.estimated_stepping_batches) * trainer.accumulate_grad_batches


def duration(seconds: float) -> str:
    """90 -> "1 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
