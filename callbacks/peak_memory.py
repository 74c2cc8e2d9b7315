"""How much memory a step of training takes."""

from __future__ import annotations

import os
from itertools import accumulate
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

from callbacks.media import declare

MEASURED = 1  # the second step: the optimiser has its state by then


class PeakMemory(Callback):
    """Logs `val/step_memory_mb`: the most that tensors take during the second step of training, beyond what stands
    between two steps (weights, optimiser, batch), in MiB: activations, gradients and the matrices of the loss.

    On a GPU as its allocator counts; on a CPU by adding up every allocation that the profiler saw, so that neither
    libraries nor an earlier run in the same process count.
    """

    def __init__(self) -> None:
        self.mebibytes: float | None = None
        self._profile: Any = None
        self._before: int | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.mebibytes is not None or trainer.global_step < MEASURED:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
            self._before = torch.cuda.memory_allocated(pl_module.device)
        else:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its notes on graphics cards that are not there
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False)
            self._profile.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._profile is not None:
            self._profile.stop()
            self.mebibytes, self._profile = peak_of(self._profile) / 2**20, None
        elif self._before is not None:
            peak = torch.cuda.max_memory_allocated(pl_module.device)
            self.mebibytes, self._before = (peak - self._before) / 2**20, None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.mebibytes is None:
            return
        pl_module.log("val/step_memory_mb", self.mebibytes)
        counted = "the GPU's allocator" if pl_module.device.type == "cuda" else "the profiler's allocations"
        declare(trainer, "val/step_memory_mb", {"unit": "MiB", "of": "the second step of training", "counted_by": counted})


def peak_of(profiled: Any) -> int:
    """The largest number of bytes that stood at once, above those at the start."""
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(0, *accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
