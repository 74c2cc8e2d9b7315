"""Does a class look always the same? Distances between the samples of one class, over those between its real images."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation import Evaluation, RealImages, declaration, sampling_declaration
from callbacks.extractors import Extractor
from callbacks.fid import generated_features, real_features
from callbacks.media import declare, log_table
from callbacks.precision_recall import squared_distances
from callbacks.protocols import Samples, sampling_settings


def mean_distance(features: Tensor, chunk: int = 1024) -> float:
    """Mean distance of two different ones of features [N, D], N >= 2; in float64, `chunk` rows at a time."""
    features = features.double() - features.double().mean(0)
    total = 0.0
    for start in range(0, len(features), chunk):
        squared = squared_distances(features[start : start + chunk], features)
        squared.diagonal(start).zero_()
        total += squared.sqrt_().sum().item()
    return total / (len(features) * (len(features) - 1))


class Diversity(Evaluation):
    """Logs `val/diversity_<extractor>`, the mean over the classes of how far samples of one class are apart, over how
    far its real images are: 1 where they vary as much, 0 where a class is always the same picture, above 1 where they
    vary more (noise does, so read it beside precision). The table `val/diversity_<extractor>_by_class` has each class.

    The labels are balanced. A class with fewer than two samples or two different real images is left out. Raises
    ValueError if that leaves none, or if the model samples without condition. In test the keys begin with test/ and
    the split is test.

    Args:
        extractor: the feature network. A classifier's features of one class are drawn together by its training: compare
            values of one extractor alone.
        num_generated: images to draw, of all classes together.
        num_real: images of the split to hold them against, of all classes together; by default all.
        split: train, validation or test.
        batch_size: images drawn and looked at in one go; no influence on the value.
        seed: of the noise.
        only_last: ask at the last validation of a fit alone.
    """

    protocols = (Samples,)

    def __init__(
        self,
        extractor: Extractor,
        num_generated: int = 1000,
        num_real: int | None = None,
        split: str = "validation",
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_generated < 2 or (num_real is not None and num_real < 2):
            raise ValueError(
                f"Diversity: {num_generated} generated and {num_real} real images are too few; take 100 of each class"
            )
        self.extractor, self.num_generated, self.num_real = extractor, num_generated, num_real
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._declared: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not sampling_settings(pl_module).get("conditional", True):
            raise ValueError(
                f"Diversity: {type(pl_module).__name__} samples without a class here; take the callback out"
            )

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else self.split)
        num_real = min(self.num_real or len(real), len(real))
        features = real_features(self.extractor, real, num_real, self.batch_size, pl_module.device)
        labels = real.labels(num_real)
        asked = real.matching(torch.arange(self.num_generated) % len(real.class_names))
        generated = generated_features(
            trainer,
            pl_module,
            self.extractor,
            asked,
            self.num_generated,
            asker=self,
            batch_size=self.batch_size,
            seed=self.seed,
            what=f"{stage}: drawing {self.num_generated} images for diversity",
        )
        asked_labels = asked.labels(self.num_generated)
        rows: list[list[Any]] = []
        for label, name in enumerate(real.class_names):
            ours, theirs = generated[asked_labels == label], features[labels == label]
            if len(ours) > 1 and len(theirs) > 1 and (apart := mean_distance(theirs)) > 0:
                ratio = mean_distance(ours) / apart
                rows.append([name, ratio, ratio * apart, apart, len(ours), len(theirs)])
        if not rows:
            raise ValueError(
                f"Diversity: no class has two of {self.num_generated} generated and two of {num_real} real images; "
                f"take {2 * len(real.class_names)} or more of each"
            )
        key = f"{stage}/diversity_{self.extractor.name}"
        pl_module.log(key, sum(row[1] for row in rows) / len(rows))
        columns = ["class", "ratio", "distance of samples", "distance of real images", "num_generated", "num_real"]
        log_table(trainer, f"{key}_by_class", columns, rows)
        if key not in self._declared:
            self._declared.add(key)
            about = {
                "num_generated": self.num_generated,
                "num_real": num_real,
                "num_classes": len(rows),
                **self.extractor.about(),
                **declaration(trainer, real),
                **sampling_declaration(trainer, pl_module, self.seed),
                "labels": "balanced",
            }
            declare(trainer, key, about)
