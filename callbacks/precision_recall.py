"""Are the samples good, and are they all there? Precision, recall, density and coverage of sets of features.

Each set is thickened to balls around its features, of the radius r_k(x): the distance to the k-th nearest other feature
of the same set.

precision: share of generated features in some ball of a real one.  recall: share of real features in some ball of a
generated one (Kynkäänniemi et al. 2019, 1904.06991, eq. 1).
density: mean number of real balls that a generated feature lies in, over k; it may exceed 1.  coverage: share of real
balls that hold a generated feature (Naeem et al. 2020, 2002.09797, eqs. 3 and 4). One outlier among the real images
has a large ball, which raises precision much, and these little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation import Evaluation, RealImages, declaration, sampling_declaration
from callbacks.extractors import Extractor
from callbacks.fid import generated_features, real_features
from callbacks.media import declare
from callbacks.protocols import Samples


@dataclass(frozen=True)
class Overlap:
    """How far two sets of features cover each other; shares, and `density` a mean number."""

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Tensor, generated: Tensor, num_neighbours: int = 5, chunk: int = 1024) -> Overlap:
    """Of features [N, D] and [M, D] on one device, each more than `num_neighbours`.

    In float64; a feature on the rim of a ball, as near as rounding, lies in it. `chunk` rows at a time: the memory is
    that of a few times chunk x N numbers. Raises ValueError on NaN, infinity or too few features.
    """
    for name, features in (("real", real), ("generated", generated)):
        if len(features) <= num_neighbours:
            raise ValueError(f"{len(features)} {name} images have no {num_neighbours} nearest others: take more")
        if not torch.isfinite(features).all():
            raise ValueError(f"the features of the {name} images hold NaN or infinite values")
    middle = real.double().mean(0)  # distances are of the same size as the features then, and lose no digits
    real, generated = real.double() - middle, generated.double() - middle
    rounding = 1e-12 * max(features.square().sum(1).max().item() for features in (real, generated))
    real_radii, generated_radii = (_radii(features, num_neighbours, chunk) + rounding for features in (real, generated))
    num_right, num_held = 0, 0
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for part, radii in zip(generated.split(chunk), generated_radii.split(chunk), strict=True):
        squared = squared_distances(part, real)
        in_real = squared <= real_radii
        num_right += int(in_real.any(1).sum())
        num_held += int(in_real.sum())
        covered |= in_real.any(0)
        recalled |= (squared <= radii[:, None]).any(0)
    return Overlap(
        precision=num_right / len(generated),
        recall=recalled.double().mean().item(),
        density=num_held / (num_neighbours * len(generated)),
        coverage=covered.double().mean().item(),
    )


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """[N, M] of [N, D] and [M, D], at least 0."""
    squared = (x @ y.T).mul_(-2).add_(x.square().sum(1)[:, None]).add_(y.square().sum(1))
    return squared.clamp_(min=0)


def _radii(features: Tensor, num_neighbours: int, chunk: int) -> Tensor:
    """[N]: the squared distance of each feature to its k-th nearest other."""
    radii = []
    for start in range(0, len(features), chunk):
        squared = squared_distances(features[start : start + chunk], features)
        squared.diagonal(start).fill_(torch.inf)
        radii.append(squared.kthvalue(num_neighbours, dim=1).values)
    return torch.cat(radii)


class PrecisionRecall(Evaluation):
    """Logs `val/precision_<extractor>`, `val/recall_...`, `val/density_...` and `val/coverage_...`.

    The generated images ask for the labels of the real ones. Once a run, `val/real_floor_precision_<extractor>` and so
    on say what a perfect model would reach: the values of as many real images of another split (train; for split
    train, validation), with the same labels. In test the keys begin with test/ and the split is test.

    Args:
        extractor: the feature network.
        num_generated: images to draw.
        num_real: images of the split to hold them against; by default as many as are drawn. The balls shrink as the
            images grow in number: compare values of equal numbers alone.
        num_neighbours: k of the balls' radii.
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
        num_neighbours: int = 5,
        split: str = "validation",
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_neighbours < 1:
            raise ValueError(f"PrecisionRecall: {num_neighbours} neighbours; take at least 1 (5 is usual)")
        if min(num_generated, num_real or num_generated) <= num_neighbours:
            raise ValueError(
                f"PrecisionRecall: {num_generated} generated and {num_real or num_generated} real images are too few "
                f"for {num_neighbours} neighbours; take 1000 or more"
            )
        self.extractor, self.num_generated, self.num_real = extractor, num_generated, num_real or num_generated
        self.num_neighbours, self.split, self.batch_size, self.seed = num_neighbours, split, batch_size, seed
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else self.split)
        num_real = min(self.num_real, len(real))
        device = pl_module.device
        features = real_features(self.extractor, real, num_real, self.batch_size, device)
        generated = generated_features(
            trainer,
            pl_module,
            self.extractor,
            real,
            self.num_generated,
            asker=self,
            batch_size=self.batch_size,
            seed=self.seed,
            what=f"{stage}: drawing {self.num_generated} images for precision and recall",
        )
        measured = self._overlap(features, generated, device)
        for name, value in measured.items():
            pl_module.log(f"{stage}/{name}_{self.extractor.name}", value)
        if stage in self._declared:
            return
        self._declared.add(stage)
        other = RealImages.of(trainer, "validation" if real.split == "train" else "train")
        others = other.matching(real.labels(self.num_generated))
        perfect = real_features(self.extractor, others, len(others), self.batch_size, device)
        about = {
            "num_generated": self.num_generated,
            "num_real": num_real,
            "num_neighbours": self.num_neighbours,
            **self.extractor.about(),
            **declaration(trainer, real),
            **sampling_declaration(trainer, pl_module, self.seed),
            "labels": "those of the real images",
        }
        for name, value in self._overlap(features, perfect, device).items():
            pl_module.log(f"{stage}/real_floor_{name}_{self.extractor.name}", value)
            declare(trainer, f"{stage}/{name}_{self.extractor.name}", about)

    def _overlap(self, real: Tensor, generated: Tensor, device: torch.device) -> dict[str, Any]:
        device = device if device.type == "cuda" else torch.device("cpu")  # float64
        try:
            return asdict(overlap(real.to(device), generated.to(device), self.num_neighbours))
        except ValueError as error:
            raise ValueError(f"PrecisionRecall: {error}") from error
