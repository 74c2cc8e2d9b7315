"""The grid of samples: the same noise each time, so that what changes from one to the next is the model."""

from __future__ import annotations

import sys

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, draw
from callbacks.media import grid, log_image, trouble_with
from callbacks.protocols import Samples, sampling_settings


class SampleGrid(Evaluation):
    """Logs `val/samples`, rows x columns images; a column is a class (each image a class of its own, where the
    classes outnumber them).

    Image i always starts from noise of seed `seed` + i. Images that are NaN or not in [-1, 1] are shown as they can
    be, and the caption and a line on stderr say so.
    """

    protocols = (Samples,)

    def __init__(
        self, columns: int = 10, rows: int = 10, seed: int = 0, batch_size: int = 100, only_last: bool = False
    ) -> None:
        super().__init__(only_last)
        if columns < 1 or rows < 1:
            raise ValueError(f"SampleGrid: {columns} columns and {rows} rows; take at least 1 of each")
        self.columns, self.rows, self.seed, self.batch_size = columns, rows, seed, batch_size

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        num, num_classes = self.rows * self.columns, len(real.class_names)
        place = torch.arange(num)
        labels = (place % self.columns if num_classes <= self.columns else place) % num_classes
        drawn = draw(
            trainer,
            pl_module,
            labels,
            real.shape,
            seed=self.seed,
            batch_size=self.batch_size,
            what=f"{stage}: grid of {num} samples",
        )
        images = torch.cat(list(drawn))
        caption = f"step {trainer.global_step}"
        if sampling_settings(pl_module).get("conditional", True) and num_classes <= self.columns:
            caption += "; columns: " + ", ".join(real.class_names[label] for label in labels[: self.columns])
        if trouble := trouble_with(images):
            caption = f"WARNING: {trouble}; {caption}"
            print(f"SampleGrid, {stage}/samples: {trouble}", file=sys.stderr)
        log_image(trainer, f"{stage}/samples", grid(images, self.columns, padding=6), caption)
