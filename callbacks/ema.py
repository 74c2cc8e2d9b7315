"""Exponential moving average of the trainable weights; validation, tests, samples and checkpoints use the average.

Lightning's own `EMAWeightAveraging` swaps at the *epoch* hooks of validation, so that an evaluator listed after it
silently measures raw weights, and it copies frozen parts. Here the swap spans `on_validation_start` to
`on_validation_end`: right in either order of callbacks. The layout of the checkpoint is Lightning's: `state_dict`
holds the average, `current_model_state` the raw weights.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor


class EMA(Callback):
    """average <- decay_n * average + (1 - decay_n) * weights after each optimiser step n = 0, 1, ...

    decay_n = min(decay, (1 + n) / (10 + n)) with `warm_up` (so that a short run does not measure its initial
    weights), else decay. The average starts as the initial weights. Buffers (batch-norm statistics) are not averaged.
    After `fit` the model holds the average.
    """

    def __init__(self, decay: float = 0.999, warm_up: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA decay {decay} is not in [0, 1): take for instance 0.999")
        self.decay = decay
        self.warm_up = warm_up
        self.num_updates = 0
        self._last_step = 0
        self._weights: list[Tensor] = []
        self._averages: list[Tensor] = []  # of the same length; holds the raw weights while swapped
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.num_updates = self._last_step = 0
            self._weights, self._averages, self._swapped = [], [], False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._averages:
            self._begin(pl_module)
        self._averages = [
            average.to(weight.device) for average, weight in zip(self._averages, self._weights, strict=True)
        ]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._last_step:  # gradients are still being accumulated
            return
        self._last_step = trainer.global_step
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates)) if self.warm_up else self.decay
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        self.num_updates += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Outside fit the model holds the average already: a checkpoint's state_dict is the average, and so is what
        # fit leaves.
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # A checkpoint of the interrupted run, or a caller, finds the raw weights.
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(False)

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_updates, self._last_step = state_dict["num_updates"], state_dict["last_step"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._averages:
            return
        # The set of weights that the model does not hold now; what is not averaged is shared, and saved once.
        other = dict(checkpoint["state_dict"])
        of_weight = {id(weight): average for weight, average in zip(self._weights, self._averages, strict=True)}
        for name, weight in pl_module.named_parameters(remove_duplicate=False):
            if name in other and id(weight) in of_weight:
                other[name] = of_weight[id(weight)]
        average, raw = (checkpoint["state_dict"], other) if self._swapped else (other, checkpoint["state_dict"])
        checkpoint["state_dict"], checkpoint["current_model_state"] = average, raw

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING or "current_model_state" not in checkpoint:
            return  # a checkpoint without averages: they start at the loaded weights
        # Lightning has loaded `state_dict` by now: the module holds the average.
        self._begin(pl_module)
        pl_module.load_state_dict(checkpoint["current_model_state"])

    def _begin(self, pl_module: LightningModule) -> None:
        self._weights = [weight for weight in pl_module.parameters() if weight.requires_grad]
        self._averages = [weight.detach().clone() for weight in self._weights]

    def _swap(self, average_in_model: bool) -> None:
        """Exchanges the model's weights with the stored ones, unless they are where they should be."""
        if self._swapped == average_in_model or not self._averages:
            return
        with torch.no_grad():
            kept = [weight.detach().clone() for weight in self._weights]
            torch._foreach_copy_(self._weights, self._averages)
            torch._foreach_copy_(self._averages, kept)
        self._swapped = average_in_model


def weights_in_use(trainer: Trainer) -> str:
    """Which weights an evaluator sees in validation and test, for its declaration: "raw", or "averaged (EMA 0.999)"."""
    decays = [callback.decay for callback in trainer.callbacks if isinstance(callback, EMA)]  # type: ignore[attr-defined]
    return f"averaged (EMA {decays[0]})" if decays else "raw"
