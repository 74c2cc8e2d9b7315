"""A classifier's accuracy on other data sets of the same classes: how far what it has learned carries."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from callbacks.class_accuracy import wilson
from callbacks.evaluation import Evaluation, RealImages
from callbacks.media import log_table
from callbacks.protocols import Classifies


class AccuracyOn(Evaluation):
    """Logs `val/accuracy_on_<name>` of each data set, the share of its test images that the model puts into their class, and the
    table `val/accuracy_on` with Wilson's 95 % intervals; at every validation, so that a run has many accuracies.

    Args:
        data: Data sets by name, with the classes of the training.
        num_images: How many test images of each.
    """

    protocols = (Classifies,)

    def __init__(
        self, data: dict[str, LightningDataModule], num_images: int = 1000, batch_size: int = 500, only_last: bool = False
    ) -> None:
        super().__init__(only_last)
        if not data or num_images < 1:
            raise ValueError(f"AccuracyOn: {len(data)} data sets, {num_images} images; give 1 of each at least")
        self.data, self.num_images, self.batch_size = data, num_images, batch_size

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        trained = trainer.datamodule  # type: ignore[attr-defined]
        for name, data in self.data.items():
            if list(data.class_names) != list(trained.class_names):  # type: ignore[attr-defined]
                raise ValueError(
                    f"AccuracyOn: the classes of {name} are not those of {trained.title}; give data sets of the same classes"
                )

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        rows: list[list[str | float | int]] = []
        for name, data in self.data.items():
            real = RealImages.among(data, "test")
            num = min(self.num_images, len(real))
            with torch.no_grad():
                hits = torch.cat([
                    (pl_module.classify(batch["image"]).argmax(1) == batch["label"]).cpu()  # type: ignore[operator]
                    for _, batch in real.batches(num, self.batch_size, pl_module.device)
                ])  # fmt: skip
            pl_module.log(f"{stage}/accuracy_on_{name}", hits.float().mean())
            rows.append([name, float(hits.double().mean()), *wilson(int(hits.sum()), num), num])
        log_table(trainer, f"{stage}/accuracy_on", ["data", "accuracy", "low", "high", "num_images"], rows)
