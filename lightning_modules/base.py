"""What every model shares: losses become a logged step, and the optimiser; what games of two networks share, and pairs of towers."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import Batch
from lightning_modules.diffusion.noise import Generators, randn
from lightning_modules.losses.contrastive import gathered, text_ids


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
        optimizer = self.optimizer(self.trained_parameters())
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}}

    def trained_parameters(self) -> Iterable[Any]:
        """What the optimiser is given: the parameters that have a gradient, or groups of them."""
        return filter(lambda parameter: parameter.requires_grad, self.parameters())

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


class Contrastive(Model):
    """Pictures and texts as unit vectors of one space; the subclass says which pairs its loss wants near, and what a cosine means.

    `network.image(images [B, C, H, W] in [-1, 1]) -> [B, D]`, `network.text(tokens int64 [B, T], mask bool [B, T]) -> [B, D]`, of
    any length. A cosine is multiplied by a learned scale that starts at `scale`; null: at the network's `learned_scale`, where it has
    trained weights, else at `first_scale`. In several processes every image is held against the texts of all. Gains, biases and
    other vectors of parameters do not decay.
    """

    first_scale: float

    def __init__(self, network: nn.Module, scale: float | None = None, optimizer: OptimizerCallable = torch.optim.AdamW,
                 lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.network: Any = network
        scale = scale or getattr(network, "learned_scale", None) or self.first_scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, D] of images [B, C, H, W] in [-1, 1]."""
        return F.normalize(self.network.image(images), dim=1)

    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors [B, D] of texts: tokens int64 [B, T] and mask bool [B, T], true where a token stands."""
        return F.normalize(self.network.text(tokens, mask), dim=1)

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Images and texts [N, D] of the batch, of all processes, and int64 [N], equal for equal texts."""
        image, text = self.embed_images(batch["image"]), self.embed_tokens(batch["tokens"], batch["mask"])     # B D, B D
        return gathered(image), gathered(text), text_ids(gathered(batch["tokens"]))

    def trained_parameters(self) -> Iterable[Any]:
        trained = [*super().trained_parameters()]
        return [{"params": [parameter for parameter in trained if parameter.ndim > 1]},
                {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0}]


def num_rows(batch: Batch) -> int:
    """The number of samples in a batch."""
    rows: Any = next(iter(batch.values()))
    return len(rows)
