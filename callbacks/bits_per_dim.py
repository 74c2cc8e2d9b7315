"""Bits per dimension: the measure in which the cosine paper claims its gain."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation import Evaluation, RealImages, declaration, per_image_generators
from callbacks.media import declare
from callbacks.progress import track
from callbacks.protocols import BoundsLikelihood


class BitsPerDim(Evaluation):
    """Logs `val/bits_per_dim`, the mean variational bound of real images, and its parts as `val/bits_by_term/...`.

    The images, the terms and their noise are the same each time. Raises ValueError if the bound is NaN or infinite.
    """

    protocols = (BoundsLikelihood,)

    def __init__(
        self, num_images: int = 256, num_terms: int = 20, batch_size: int = 128, seed: int = 0, only_last: bool = False
    ) -> None:
        super().__init__(only_last)
        if num_images < 1 or num_terms < 1:
            raise ValueError(f"BitsPerDim: {num_images} images and {num_terms} terms; take at least 1 of each")
        self.num_images, self.num_terms, self.batch_size, self.seed = num_images, num_terms, batch_size, seed
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        model: BoundsLikelihood = pl_module  # type: ignore[assignment]  # checked in setup
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        num = min(self.num_images, len(real))
        parts: dict[str, list[Tensor]] = {}
        batches = list(real.batches(num, self.batch_size, pl_module.device))
        for start, batch in track(batches, f"{stage}: bits per dimension of {num} images"):
            generators = per_image_generators(self.seed, start, start + len(batch["image"]))
            with torch.no_grad():  # in full precision: the bound is a sum of small differences
                for term, bits in model.bits_by_term(batch, num_terms=self.num_terms, generator=generators).items():
                    parts.setdefault(term, []).append(bits.float())
        means = {term: torch.cat(bits).mean() for term, bits in parts.items()}
        value = torch.stack([*means.values()]).sum()
        if not torch.isfinite(value):
            raise ValueError(f"BitsPerDim: the bound of {type(pl_module).__name__} is {value.item()}")
        key = f"{stage}/bits_per_dim"
        pl_module.log(key, value)
        pl_module.log_dict({f"{stage}/bits_by_term/{term}": mean for term, mean in means.items()})
        if key not in self._declared:
            self._declared.add(key)
            about = {"num_images": num, "num_terms": self.num_terms, **declaration(trainer, real)}
            declare(trainer, key, about)
