"""What every model shares: losses become a logged step, and the optimiser."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from datamodules.batch import Batch


class Model(LightningModule):
    """A model that says what it minimises: `losses(batch) -> {"loss": scalar, ...}`; each entry is logged as train/... and val/...

    Validation and test losses are drawn from a generator of their own, the same one each time: they never move the generator of
    training, and two epochs differ by their weights alone.
    """

    def __init__(self, optimizer: OptimizerCallable = torch.optim.AdamW,
                 lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__()
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler

    def setup(self, stage: str) -> None:
        self.to(memory_format=torch.channels_last)      # 1.1 to 1.4 times faster convolutions, on CPU and GPU

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The numbers of one batch, "loss" the one that is minimised."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.logged("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate("test", batch, batch_idx)

    def configure_optimizers(self):
        optimizer = self.optimizer(filter(lambda parameter: parameter.requires_grad, self.parameters()))
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}}

    def evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(batch_idx)
            self.logged(stage, batch)

    def logged(self, stage: str, batch: Batch) -> Tensor:
        losses = self.losses(batch)
        self.log_dict({f"{stage}/{name}": value.detach() for name, value in losses.items()},
                      batch_size=num_rows(batch), prog_bar=stage == "train", sync_dist=stage != "train")
        return losses["loss"]


def num_rows(batch: Batch) -> int:
    """The number of samples in a batch."""
    rows: Any = next(iter(batch.values()))
    return len(rows)
