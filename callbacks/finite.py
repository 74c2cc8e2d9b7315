"""A guard against NaN and Inf: training stops before they reach a weight, and they are never saved."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

SHOWN = 8  # names of parameters, or numbers of rows, in the message; the report holds all


class NonFiniteError(FloatingPointError):
    """Training met a NaN or an Inf: one line, and in `report` the step, the losses, and all the parameters and rows."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class FiniteGuard(Callback):
    """Raises `NonFiniteError` before an update from a loss or gradients that hold a NaN or an Inf, and instead of saving such weights.

    Guards every optimiser, those stepped by hand too, at the cost of one read of the gradients and one wait for the device an update.
    Statistics that the forward pass of a bad batch has spoilt (batch norm's) are put back, so that the weights can be saved as they stand.
    What the error says in short is written in full to the file `report`, where one is given. Where losses are scaled (16-mixed) only
    they are looked at: the scaler leaves out an update whose gradients overflow.
    """

    def __init__(self, report: Path | None = None) -> None:
        self.report = report
        self._stopped = False
        self._losses: list[tuple[int, Tensor]] = []  # since the last update: batch of the epoch, loss
        self._infinite_by_design: set[str] = set()  # buffers such as the mask of an attention
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []  # the buffers as they were before the batch

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._losses, self._stopped = [], False
        self._infinite_by_design = set(non_finite(pl_module.state_dict()))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._buffers = [*pl_module.buffers()]
        self._kept = [buffer.detach().clone() for buffer in self._buffers]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append((trainer.fit_loop.epoch_loop.batch_idx, loss.detach()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        losses, self._losses = self._losses, []
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        gradients = [] if scaled else [weight.grad for weight in weights_of(optimizer) if weight.grad is not None]
        if all_finite([*gradients, *(loss for _, loss in losses)]):
            return
        named = dict(pl_module.named_parameters())
        stepped = {id(weight) for weight in weights_of(optimizer)}
        spoilt = {} if scaled else non_finite({name: weight.grad for name, weight in named.items() if id(weight) in stepped})
        guilty = [(batch, loss) for batch, loss in losses if not loss.isfinite().all()]
        if guilty:
            number = f" of optimiser {optimizer_number(trainer, optimizer)}" if len(trainer.optimizers) > 1 else ""
            what = f"the loss{number} is {guilty[0][1].item()}"
        elif spoilt:
            what = f"the gradient of {listed(spoilt)} holds NaN or Inf"
        else:
            return  # large, but finite: their squares overflowed
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)
        step, epoch = trainer.fit_loop.epoch_loop.total_batch_idx + 1, trainer.current_epoch
        batches = sorted({batch for batch, _ in guilty or losses})
        rows = [row for batch in batches for row in rows_of_batch(trainer, epoch, batch)]
        where = f"batch {listed(batches)} of epoch {epoch}" + (f" (rows {listed(rows)} of the training data)" if rows else "")
        raise self._error(
            f"step {step}: {what} in {where}; stopped before the update. A smaller learning rate or, where there is one optimiser,"
            " --trainer.gradient_clip_val 1 may help",
            {"step": step, "epoch": epoch, "batches": batches, "rows": rows, "losses": [str(loss.item()) for _, loss in losses],
             "parameters": spoilt},
        )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuses NaN and Inf in the weights, their averages and the optimisers, but for what was so before training."""
        found: dict[str, str] = {}
        for part in ("state_dict", "current_model_state"):
            found |= {name: count for name, count in non_finite(checkpoint.get(part, {})).items() if name not in self._infinite_by_design}
        moments = dict(tensors_in(checkpoint.get("optimizer_states", [])))
        found |= {f"optimiser {name}": count for name, count in non_finite(moments).items()}
        if found:
            step = trainer.fit_loop.epoch_loop.total_batch_idx + 1
            raise self._error(f"step {step}: {listed(found)} holds NaN or Inf; not saved: the former checkpoint stays",
                              {"step": step, "parameters": found})

    def _error(self, message: str, report: dict[str, Any]) -> NonFiniteError:
        if self._stopped:  # a last checkpoint is refused: what stopped the training is told already
            return NonFiniteError(message, report)
        self._stopped = True
        if self.report is not None:
            self.report.parent.mkdir(parents=True, exist_ok=True)
            self.report.write_text(json.dumps(report, indent=1) + "\n")
            message += f"; in full: {self.report}"
        return NonFiniteError(message, report)


def weights_of(optimizer: Optimizer) -> list[Tensor]:
    """The parameters that an optimiser steps."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def optimizer_number(trainer: Trainer, optimizer: Optimizer) -> int:
    """1, 2, ... in the order of `configure_optimizers`."""
    return 1 + [other.param_groups is optimizer.param_groups for other in trainer.optimizers].index(True)


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether the sum of all norms is finite: then every number is. The cheapest question that a NaN cannot pass, on CPU and GPU."""
    return not tensors or bool(torch.stack(torch._foreach_norm(tensors)).sum().isfinite())


def non_finite(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Which of the tensors hold a NaN or an Inf, and how many: {"network.weight": "3 of 288"}."""
    floating = {name: value.detach() for name, value in tensors.items() if isinstance(value, Tensor) and value.is_floating_point()}
    if all_finite([*floating.values()]):
        return {}
    counts = {name: int((~value.isfinite()).sum()) for name, value in floating.items()}
    return {name: f"{count} of {floating[name].numel()}" for name, count in counts.items() if count}


def tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested dicts and lists, with the way to it: "0.state.3.exp_avg"."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from tensors_in(item, f"{name}.{key}".lstrip("."))


def rows_of_batch(trainer: Trainer, epoch: int, batch: int) -> list[int]:
    """The rows of the training data that stand in a batch, where their order is a function of the epoch (`datamodules.order`)."""
    order = copy.copy(getattr(trainer.train_dataloader, "sampler", None))
    if order is None or not hasattr(order, "begin_at"):
        return []
    order.begin_at(epoch, batch)
    return next(iter(order)).rows.tolist()


def listed(names: Iterable[Any]) -> str:
    """The first few, and how many more."""
    names = [str(name) for name in names]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
