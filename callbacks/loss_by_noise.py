"""Where along the noise clock the model errs."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, per_image_generators
from callbacks.media import log_table
from callbacks.progress import track
from callbacks.protocols import Denoises


class LossByNoise(Evaluation):
    """Logs the table `val/loss_by_noise` (t, loss): the mean loss of the same real images with the same noise at the
    middle of each of `num_bins` even bins of the clock."""

    protocols = (Denoises,)

    def __init__(
        self, num_bins: int = 20, num_images: int = 256, batch_size: int = 128, seed: int = 0, only_last: bool = False
    ) -> None:
        super().__init__(only_last)
        if num_bins < 1 or num_images < 1:
            raise ValueError(f"LossByNoise: {num_bins} bins and {num_images} images; take at least 1 of each")
        self.num_bins, self.num_images, self.batch_size, self.seed = num_bins, num_images, batch_size, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        model: Denoises = pl_module  # type: ignore[assignment]  # checked in setup
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        num = min(self.num_images, len(real))
        times = [(index + 0.5) / self.num_bins for index in range(self.num_bins)]
        sums = [0.0] * self.num_bins
        batches = list(real.batches(num, self.batch_size, pl_module.device))
        for start, batch in track(batches, f"{stage}: loss by noise level"):
            size = len(batch["image"])
            for index, time in enumerate(times):
                t = torch.full((size,), time, device=pl_module.device)
                generators = per_image_generators(self.seed, start, start + size)
                with torch.no_grad():
                    sums[index] += model.loss_at(batch, t, generator=generators).double().sum().item()
        rows = [[time, total / num] for time, total in zip(times, sums, strict=True)]
        log_table(trainer, f"{stage}/loss_by_noise", ["t", "loss"], rows)
