"""What every model shares: losses become a logged step, and the optimiser; what every game of two networks shares."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.diffusion.noise import Generators, randn


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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
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
        self.log_losses(stage, losses, num_rows(batch))
        return losses["loss"]

    def log_losses(self, stage: str, losses: dict[str, Tensor], num_rows: int) -> None:
        self.log_dict({f"{stage}/{name}": value.detach() for name, value in losses.items()},
                      batch_size=num_rows, prog_bar=stage == "train", sync_dist=stage != "train")


class Adversarial(Model):
    """A generator and a critic of its images, each with an optimiser of its own; the subclass writes `training_step`.

    `generator(z [B, Z], label [B] or None) -> images [B, C, H, W] in [-1, 1]`, `critic(images, label) -> scores [B]`; the game is
    conditional if `generator.num_classes` is a number. One batch is one whole turn, the critic's steps and then the
    generator's. Lightning counts the steps of all optimisers in `trainer.global_step`; here only the generator's are counted,
    so that max_steps, validation, EMA and every callback count batches, as for other models, and a checkpoint never falls
    into the middle of a turn.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, optimizer: OptimizerCallable,
                 critic_optimizer: OptimizerCallable | None = None) -> None:
        super().__init__(optimizer)
        self.automatic_optimization = False
        self.generator: Any = generator
        self.critic: Any = critic
        self.critic_optimizer = critic_optimizer or optimizer

    def configure_optimizers(self):
        return [self.optimizer(self.generator.parameters()), self.critic_optimizer(self.critic.parameters())]

    def minimise(self, loss: Tensor, network: nn.Module) -> None:
        """One step of the generator's or the critic's optimiser; the other network gets no gradient."""
        optimizer: Any = self.optimizers()[network is self.critic]      # type: ignore[index]
        optimizer.zero_grad()
        self.manual_backward(loss, inputs=list(network.parameters()))
        if network is self.generator:
            optimizer.step()
        else:                                                           # the same step, past Lightning's counter
            self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)

    def generate(self, label: Tensor | None, num: int, generator: Generators = None) -> Tensor:
        """`num` images [B, C, H, W], of labels [B] if the game is conditional."""
        return self.generator(randn((num, self.generator.latent_dim), generator, self.device), label)

    def scores(self, real: Tensor, fake: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """The critic's scores [B] of real and [B] of generated images, in one pass."""
        both = self.critic(torch.cat([real, fake]), None if label is None else label.repeat(2))       # 2B
        return both[:len(real)], both[len(real):]

    @torch.no_grad()
    def sample(self, batch: Batch, *, generator: Generators = None, num_steps: int | None = None, start: float = 1.0) -> Tensor:
        """Images [B, C, H, W] in [-1, 1], one for each row of `batch`; in one step, so that num_steps and start say nothing."""
        return self.generate(self.label(batch), num_rows(batch), generator)

    def sampling_settings(self) -> dict[str, Any]:
        """How `sample` draws, for the declaration that stands beside a metric."""
        return {"sampler": "generator", "num_steps": 1, "conditional": self.generator.num_classes is not None}

    def label(self, batch: Batch) -> Tensor | None:
        return None if self.generator.num_classes is None else batch["label"].to(self.device)


def num_rows(batch: Batch) -> int:
    """The number of samples in a batch."""
    rows: Any = next(iter(batch.values()))
    return len(rows)
