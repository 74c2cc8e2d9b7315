"""The likelihood of whole images, in nats: the measure of the variational autoencoder papers."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, declaration, per_image_generators
from callbacks.media import declare
from callbacks.progress import track
from callbacks.protocols import BoundsNats


class NatsPerImage(Evaluation):
    """Logs `val/nats_per_image`, the mean of an upper bound on -log p(image), from `num_samples` importance samples of each
    image: the more, the tighter.

    Images and noise are the same each time, each image's from a seed of its own. A model of binary images is asked
    about one fixed binary draw of each. Raises ValueError if the bound is NaN or infinite.
    """

    protocols = (BoundsNats,)
    of_data = ()

    def __init__(
        self,
        num_images: int = 1000,
        num_samples: int = 64,
        batch_size: int = 250,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_images < 1 or num_samples < 1:
            raise ValueError(f"NatsPerImage: {num_images} images and {num_samples} samples; take at least 1 of each")
        self.num_images, self.num_samples, self.batch_size, self.seed = num_images, num_samples, batch_size, seed
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        model: BoundsNats = pl_module  # type: ignore[assignment]  # checked in setup
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        num = min(self.num_images, len(real))
        bounds = []
        batches = list(real.batches(num, self.batch_size, pl_module.device))
        for start, batch in track(batches, f"{stage}: nats per image of {num} images"):
            generators = per_image_generators(self.seed, start, start + len(batch["image"]))
            with torch.no_grad():  # in full precision: weights are exponentials of sums over pixels
                bounds.append(
                    model.log_likelihood_bound(batch, num_samples=self.num_samples, generator=generators).double()
                )
        value = -torch.cat(bounds).mean()
        if not torch.isfinite(value):
            raise ValueError(f"NatsPerImage: the bound of {type(pl_module).__name__} is {value.item()}")
        key = f"{stage}/nats_per_image"
        pl_module.log(key, value.float())
        if key not in self._declared:
            self._declared.add(key)
            about = {
                "num_images": num,
                "num_importance_samples": self.num_samples,
                "noise_seed": self.seed,
                **model.likelihood_settings(),
                **declaration(trainer, real),
            }
            declare(trainer, key, about)
