"""What the Trainer, the record, EMA, progress and the data module cost beside a bare PyTorch loop.

Both sides train the same DDPM on 6,400 pictures of 16 px: same loss, optimiser, EMA and batches of 64; no epoch ends meanwhile.
The bare loop gathers its batches from an array in memory by index.
One process, one thread, interleaved, CPU time, minimum of rounds. The step is about 50 ms.

Run alone: python -m tests.benchmarks.bench_training_step
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from callbacks.ema import EMA
from callbacks.training_progress import TrainingProgress
from datamodules.image_classes import ImageClasses
from experiments.record import RunRecord
from lightning_modules.ddpm import DDPM
from lightning_modules.diffusion.schedules import Cosine
from lightning_modules.networks.unet import UNet
from tests.benchmarks.bench_loader import pictures

BATCH, WARM_UP, STEPS, ROUNDS, TARGET = 64, 5, 30, 10, 1.03


class Clock(Callback):
    """CPU time at the start of step WARM_UP and at the end of the last one."""

    begin = seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == WARM_UP:
            self.begin = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.seconds = time.process_time() - self.begin


def model() -> DDPM:
    torch.manual_seed(0)
    network = UNet(channels=1, num_classes=10, width=24, patch=2)
    return DDPM(network, Cosine(), image_size=16, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True))


def with_trainer(data: ImageClasses, folder: Path) -> float:
    clock = Clock()
    trainer = Trainer(max_steps=WARM_UP + STEPS, accelerator="cpu", logger=RunRecord(folder, experiment="bench"), log_every_n_steps=20,
                      callbacks=[EMA(), TrainingProgress("bench", quiet=True), clock], check_val_every_n_epoch=None,
                      num_sanity_val_steps=0, limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False)
    trainer.fit(model(), datamodule=data)
    return clock.seconds / STEPS


def bare(images: torch.Tensor, labels: torch.Tensor) -> float:
    trained = model().to(memory_format=torch.channels_last).train()
    parameters = list(trained.parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    optimizer = trained.configure_optimizers()
    begin = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            begin = time.process_time()
        rows = torch.randint(len(images), (BATCH,))
        batch = {"image": images[rows].float().div_(127.5).sub_(1), "label": labels[rows]}
        optimizer.zero_grad()
        trained.losses(batch)["loss"].backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 0.001)
    return (time.process_time() - begin) / STEPS


def measure() -> list[dict[str, Any]]:
    """One row: milliseconds a step of both sides; it holds if ours is within 3 % and the control did not drift."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    control = torch.randn(600, 600)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": [], "control": []}
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = ImageClasses(str(pictures(Path(folder))), image_size=16, channels=1, batch_size=BATCH, validation_split="train")
            data.prepare_data()
            data.setup("fit")
            images, labels = torch.from_numpy(data.images("train").copy()), torch.from_numpy(data.labels("train"))
            for number in range(ROUNDS):
                begin = time.process_time()
                for _ in range(20):
                    control @ control
                seconds["control"].append(time.process_time() - begin)
                seconds["ours"].append(with_trainer(data, Path(folder) / str(number)))
                seconds["theirs"].append(bare(images, labels))
    finally:
        torch.set_num_threads(threads)
    ours, theirs = min(seconds["ours"]), min(seconds["theirs"])
    steady = max(seconds["control"]) <= 1.25 * min(seconds["control"])
    return [{"what": "training step in ms (Trainer, record, EMA, loader), against a bare PyTorch loop", "ours": 1e3 * ours,
             "theirs": 1e3 * theirs, "ratio": ours / theirs, "target": TARGET, "holds": ours <= TARGET * theirs if steady else None}]


if __name__ == "__main__":
    for row in measure():
        print(row)
