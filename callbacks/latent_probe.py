"""How much of the label a latent tells: a linear probe."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, declaration, precision
from callbacks.media import declare
from callbacks.progress import track
from callbacks.protocols import Encodes


class LatentProbe(Evaluation):
    """Logs `val/label_probe`, the share of real images whose label a logistic regression tells from the mean latent mu.

    It learns from `num_train` images of the training split and is asked about `num_images` of the other one. A
    conditional model is told the labels when it encodes; what of them then stands in mu is leakage, and chance is the
    share of the most frequent class (it stands in the declaration). Raises ValueError if mu is NaN or infinite.
    """

    protocols = (Encodes,)

    def __init__(
        self, num_train: int = 5000, num_images: int = 2000, batch_size: int = 500, only_last: bool = False
    ) -> None:
        super().__init__(only_last)
        if num_train < 2 or num_images < 1:
            raise ValueError(f"LatentProbe: {num_train} images to learn from and {num_images} to ask; take 2 and 1 at least")
        self.num_train, self.num_images, self.batch_size = num_train, num_images, batch_size
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        train, real = RealImages.of(trainer, "train"), RealImages.of(trainer, "test" if stage == "test" else "validation")
        known, known_labels = self._mus(trainer, pl_module, train, self.num_train, stage)
        asked, asked_labels = self._mus(trainer, pl_module, real, self.num_images, stage)
        if not np.isfinite(known).all() or not np.isfinite(asked).all():
            raise ValueError(f"LatentProbe: {type(pl_module).__name__}.encode gives NaN or infinite latents")
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, known_labels)
        key = f"{stage}/label_probe"
        pl_module.log(key, float((probe.predict(asked) == asked_labels).mean()))
        if key not in self._declared:
            self._declared.add(key)
            about = {
                "num_images": len(asked),
                "num_train": len(known),
                "probe": "logistic regression on standardised mu",
                "latent_dim": asked.shape[1],
                "chance": round(float(np.bincount(asked_labels).max() / len(asked)), 4),
                **declaration(trainer, real),
            }
            declare(trainer, key, about)

    def _mus(
        self, trainer: Trainer, pl_module: LightningModule, images: RealImages, num: int, stage: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """mu [N, D] and labels [N] of the first `num` images, or of all there are."""
        model: Encodes = pl_module  # type: ignore[assignment]  # checked in setup
        num, mus = min(num, len(images)), []
        batches = images.batches(num, self.batch_size, pl_module.device)
        for _, batch in track(batches, f"{stage}: latents of {num} images", total=-(-num // self.batch_size)):
            with torch.no_grad(), precision(trainer):
                mus.append(model.encode(batch["image"], batch["label"])[0].double().cpu())
        return torch.cat(mus).numpy(), images.labels(num).numpy()
