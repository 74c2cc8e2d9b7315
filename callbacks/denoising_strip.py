"""Two strips as on the slides: real images on their way into noise, and noise on its way to images."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, conditions, per_image_generators, precision
from callbacks.media import grid, log_image
from callbacks.protocols import Denoises, Samples


class DenoisingStrip(Evaluation):
    """Logs `val/noising` (real validation images at even clock times from 0 to 1) and `val/denoising` (what the model
    takes the clean image for, along the chain), a row per class, `num_frames` columns, the same noise each time."""

    protocols = (Samples, Denoises)

    def __init__(self, num_frames: int = 10, max_rows: int = 10, seed: int = 0, only_last: bool = False) -> None:
        super().__init__(only_last)
        if num_frames < 2 or max_rows < 1:
            raise ValueError(f"DenoisingStrip: {num_frames} frames and {max_rows} rows; take at least 2 and 1")
        self.num_frames, self.max_rows, self.seed = num_frames, max_rows, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        model: Denoises = pl_module  # type: ignore[assignment]  # checked in setup
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        images = real.one_per_class(self.max_rows).to(pl_module.device)
        num, times = len(images), torch.linspace(0, 1, self.num_frames)
        with torch.no_grad(), precision(trainer):
            noisy = [
                model.noising(
                    images,
                    torch.full((num,), float(t), device=images.device),
                    generator=per_image_generators(self.seed, 0, num),
                )
                for t in times
            ]
            batch = conditions(torch.arange(num) % len(real.class_names), real.shape, pl_module.device)
            path = model.denoising_path(
                batch, generator=per_image_generators(self.seed, 0, num), num_frames=self.num_frames
            )
        for key, frames, caption in (
            ("noising", torch.stack(noisy), "real images, left t = 0, right t = 1"),
            ("denoising", path, "predictions of the clean image, from noise (left) to the sample (right)"),
        ):
            strip = frames.float().transpose(0, 1).flatten(0, 1)  # B*F C H W
            log_image(trainer, f"{stage}/{key}", grid(strip, self.num_frames), caption)
