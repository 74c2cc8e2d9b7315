"""What the guard against NaN and Inf costs a training step, for the models of the configs with their batch sizes, on 28-px pictures.

One training, one thread, CPU time: the guard works in every other step and sleeps between. Theirs is the fastest of the steps without it;
ours is that and the median of what the guard took in a step, by a clock of its own: steps themselves differ by more than its 1 %.

Run alone: python -m tests.benchmarks.bench_finite_guard
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from callbacks.finite import FiniteGuard
from datamodules.order import BatchOrder, Rows
from lightning_modules.classifier import Classifier
from lightning_modules.ddpm import DDPM
from lightning_modules.diffusion.schedules import Cosine
from lightning_modules.losses.likelihoods import Bernoulli
from lightning_modules.networks.autoencoder import MLPDecoder, MLPEncoder
from lightning_modules.networks.conv import ConvNet
from lightning_modules.networks.gan import Critic, Generator
from lightning_modules.networks.unet import UNet
from lightning_modules.vae import ConditionalVAE
from lightning_modules.wgan_gp import ConditionalWGANGP

WARM_UP, TARGET = 6, 1.01
SHAPE = {"channels": 1, "image_size": 28, "num_classes": 10}


def adam(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(weights, lr=1e-4, fused=True)


MODELS: dict[str, tuple[Callable, int, int]] = {  # model, batch size, steps
    "ddpm": (lambda: DDPM(UNet(channels=1, num_classes=10, width=24, patch=2), Cosine(), optimizer=adam), 64, 60),
    "classifier": (lambda: Classifier(ConvNet(channels=1, num_classes=10, width=16), optimizer=adam), 128, 120),
    "cvae": (lambda: ConditionalVAE(MLPEncoder(**SHAPE, latent_dim=10, width=512), MLPDecoder(**SHAPE, latent_dim=10, width=512),
                                    Bernoulli(), optimizer=adam), 128, 400),
    "wgan_gp": (lambda: ConditionalWGANGP(Generator(**SHAPE, width=16), Critic(**SHAPE, width=32), optimizer=adam), 64, 40),
}


class EveryOther(FiniteGuard):
    """A guard that sleeps in odd steps, and adds up what it takes in the others."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[int, float] = defaultdict(float)

    def timed(self, work: Callable, trainer: Trainer, *arguments: Any) -> None:
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        if step % 2 == 0:
            begin = time.process_time()
            work(trainer, *arguments)
            self.seconds[step] += time.process_time() - begin

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.timed(super().on_train_batch_start, *arguments)

    def on_before_backward(self, *arguments: Any) -> None:
        self.timed(super().on_before_backward, *arguments)

    def on_before_optimizer_step(self, *arguments: Any) -> None:
        self.timed(super().on_before_optimizer_step, *arguments)


class Clock(Callback):
    """CPU time at the start of every batch."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.at.append(time.process_time())


def guarded_and_not(make: Callable, batch_size: int, steps: int) -> tuple[float, float]:
    """CPU seconds of a step with the guard, and without."""
    torch.manual_seed(0)
    rows = Rows({"image": np.random.default_rng(0).uniform(-1, 1, (2000, 1, 28, 28)).astype(np.float32), "label": np.arange(2000) % 10})
    loader = DataLoader(rows, batch_size=None, sampler=BatchOrder(len(rows), batch_size, seed=0, shuffle=True))
    clock, guard = Clock(), EveryOther()
    trainer = Trainer(max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, callbacks=[guard, clock],
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(make(), loader)
    without = float(np.diff(clock.at)[WARM_UP + 1::2].min())
    return without + float(np.median([seconds for step, seconds in guard.seconds.items() if step >= WARM_UP])), without


def measure() -> list[dict[str, Any]]:
    """One row for each model: milliseconds of a step with the guard and without."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        for name, arguments in MODELS.items():
            ours, theirs = guarded_and_not(*arguments)
            rows.append({"what": f"training step of {name} in ms with the guard against NaN, against one without", "ours": 1e3 * ours,
                         "theirs": 1e3 * theirs, "ratio": ours / theirs, "target": TARGET, "holds": ours <= TARGET * theirs})
    finally:
        torch.set_num_threads(threads)
    return rows


if __name__ == "__main__":
    for row in measure():
        print(row)
