"""Real images and what the model makes of them, one above the other."""

from __future__ import annotations

import sys

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, precision
from callbacks.media import grid, log_image, trouble_with
from callbacks.protocols import Reconstructs


class ReconstructionGrid(Evaluation):
    """Logs `val/reconstructions`: `rows` pairs of rows, `columns` real images above their reconstructions, always the
    same images."""

    protocols = (Reconstructs,)
    of_data = ()

    def __init__(self, columns: int = 10, rows: int = 3, only_last: bool = False) -> None:
        super().__init__(only_last)
        if columns < 1 or rows < 1:
            raise ValueError(f"ReconstructionGrid: {columns} columns and {rows} rows; take at least 1 of each")
        self.columns, self.rows = columns, rows

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        model: Reconstructs = pl_module  # type: ignore[assignment]  # checked in setup
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        columns = min(self.columns, len(real))
        num = columns * min(self.rows, len(real) // columns)
        _, batch = next(real.batches(num, num, pl_module.device))
        with torch.no_grad(), precision(trainer):
            again = model.reconstruct(batch["image"], batch["label"]).float()
        pairs = zip(batch["image"].split(columns), again.split(columns), strict=True)
        rows = torch.cat([row for pair in pairs for row in pair])
        caption = f"step {trainer.global_step}; real images above their reconstructions"
        if trouble := trouble_with(again):
            caption = f"WARNING: {trouble}; {caption}"
            print(f"ReconstructionGrid, {stage}/reconstructions: {trouble}", file=sys.stderr)
        log_image(trainer, f"{stage}/reconstructions", grid(rows, columns, padding=6), caption)
