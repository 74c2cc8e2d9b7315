"""A classifier's accuracy on each class."""

from __future__ import annotations

import re

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.class_accuracy import wilson
from callbacks.evaluation import Evaluation, RealImages
from callbacks.media import log_table
from callbacks.protocols import Classifies


class AccuracyByClass(Evaluation):
    """Logs `val/accuracy_of_<class>`, the share of the split's images of each class that the model puts into it, and the
    table `val/accuracy_by_class` with Wilson's 95 % intervals."""

    protocols = (Classifies,)

    def __init__(self, batch_size: int = 500, only_last: bool = False) -> None:
        super().__init__(only_last)
        self.batch_size = batch_size

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        with torch.no_grad():
            said = [
                pl_module.classify(batch["image"]).argmax(1).cpu()  # type: ignore[operator]
                for _, batch in real.batches(len(real), self.batch_size, pl_module.device)
            ]
        labels = real.labels(len(real))
        right = torch.cat(said) == labels
        rows: list[list[str | float | int]] = []
        for label, name in enumerate(real.class_names):
            ours = right[labels == label]
            if len(ours):
                short = re.sub(r"\W+", "_", name).strip("_")  # a slash would begin another group of metrics
                pl_module.log(f"{stage}/accuracy_of_{short}", ours.float().mean())
                rows.append([name, float(ours.float().mean()), *wilson(int(ours.sum()), len(ours)), len(ours)])
        log_table(trainer, f"{stage}/accuracy_by_class", ["class", "accuracy", "low", "high", "num_images"], rows)
