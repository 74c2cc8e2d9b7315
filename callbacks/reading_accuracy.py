"""How well a reader reads real pictures: each attribute of each object, by the number of objects."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.agreement import Verdict, attributes_read
from callbacks.class_accuracy import wilson
from callbacks.evaluation import Evaluation, RealImages, declaration, precision
from callbacks.media import declare, log_table
from callbacks.progress import track
from callbacks.protocols import Reads

COLUMNS = ["about", "objects", "accuracy", "low", "high", "num"]


class ReadingAccuracy(Evaluation):
    """Logs `val/<attribute>_read`, the share of objects of real pictures of which the model reads the attribute, and
    `val/count_read`, the share of pictures of which it finds the right number of objects; `val/read` is the smallest of them.
    The table `val/reading` has them by number of objects, with Wilson's 95 % intervals.

    An object that is not found (within a tenth of the side) has nothing right.
    """

    protocols = (Reads,)
    of_data = ("objects",)

    def __init__(self, num_images: int = 2000, batch_size: int = 256, only_last: bool = False) -> None:
        super().__init__(only_last)
        if num_images < 1:
            raise ValueError(f"ReadingAccuracy: {num_images} images; take at least 1")
        self.num_images, self.batch_size = num_images, batch_size
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        split = "test" if stage == "test" else "validation"
        real = RealImages.of(trainer, split)
        num = min(self.num_images, len(real))
        objects = trainer.datamodule.objects(split)  # type: ignore[attr-defined]
        true = [objects[row] for row in real.rows(num)]
        verdicts: list[tuple[int, Verdict]] = []
        model: Any = pl_module
        for start in track(range(0, num, self.batch_size), f"{stage}: reading {num} pictures"):
            stop = min(start + self.batch_size, num)
            with torch.no_grad(), precision(trainer):
                read = model.read(real.images(start, stop).to(pl_module.device))
            for here, found in zip(true[start:stop], read, strict=True):
                verdicts += [(len(here), verdict) for verdict in attributes_read(here, found)]
        rows = by_number(verdicts)
        shares = {about: accuracy for about, objects, accuracy, *_ in rows if objects == "all"}
        for about, share in shares.items():
            pl_module.log(f"{stage}/{about}_read", share)
        pl_module.log(f"{stage}/read", min(shares.values()))
        log_table(trainer, f"{stage}/reading", COLUMNS, rows)
        if stage not in self._declared:
            self._declared.add(stage)
            interval = f"Wilson 95 %, in the table {stage}/reading"
            declare(trainer, f"{stage}/read", {"num_images": num, "interval": interval, **declaration(trainer, real)})


def by_number(verdicts: list[tuple[int, Verdict]]) -> list[list[Any]]:
    """Rows of COLUMNS from (number of objects, verdict): each subject for all pictures, then for each number of objects."""
    rows = []
    for objects in ["all", *sorted({number for number, _ in verdicts})]:
        for about in dict.fromkeys(verdict.about for _, verdict in verdicts):
            held = [one.holds for number, one in verdicts if one.about == about and objects in ("all", number)]
            if held:
                rows.append([about, objects, sum(held) / len(held), *wilson(sum(held), len(held)), len(held)])
    return rows
