"""Does a conditional sample show its class? A classifier of our own is the judge."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, declaration, draw, sampling_declaration
from callbacks.extractors import Classifier
from callbacks.media import declare, log_table, trouble_with
from callbacks.protocols import Samples, sampling_settings


class ClassAccuracy(Evaluation):
    """Logs `val/class_accuracy`, the share of conditional samples that the judge puts into the class they were asked
    for, labels balanced; and the table `val/class_accuracy_by_class` with Wilson's 95 % intervals and the judge's own
    accuracy on real images.

    `judge` is the folder of a finished run of the classifier. Raises ValueError if it knows another number of classes
    than the data, if the model samples without condition, or if a sample is NaN or not in [-1, 1].
    """

    protocols = (Samples,)

    def __init__(
        self,
        judge: str | Path,
        num_images: int = 1000,
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_images < 1:
            raise ValueError(f"ClassAccuracy: {num_images} images; take at least 1")
        self.judge = Classifier(judge)
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self._declared: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not sampling_settings(pl_module).get("conditional", True):
            raise ValueError(
                f"ClassAccuracy: {type(pl_module).__name__} samples without a class here; take the callback out"
            )
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        known = self.judge.classify(real.images(0, 1)).shape[1]
        if known != len(real.class_names):
            raise ValueError(
                f"ClassAccuracy: the judge {self.judge.run} knows {known} classes and {real.title} has "
                f"{len(real.class_names)}: train a judge with `practicum fit classifier --data {real.title}`"
            )

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        num_classes = len(real.class_names)
        labels = torch.arange(self.num_images) % num_classes
        said = []
        for images in draw(
            trainer,
            pl_module,
            labels,
            real.shape,
            seed=self.seed,
            batch_size=self.batch_size,
            what=f"{stage}: drawing {self.num_images} images for class accuracy",
        ):
            if trouble := trouble_with(images):
                raise ValueError(
                    f"ClassAccuracy: the images of {type(pl_module).__name__}.sample cannot be judged: {trouble}"
                )
            said.append(self.judge.classify(images).argmax(1).cpu())
        right = torch.cat(said) == labels
        key = f"{stage}/class_accuracy"
        pl_module.log(key, right.float().mean())
        rows = [_row(name, right[labels == label]) for label, name in enumerate(real.class_names)]
        rows = [row for row in rows if row[-1]] + [
            _row("all", right),
            _row("judge on real images", self._on_real(real)),
        ]
        log_table(trainer, f"{key}_by_class", ["class", "accuracy", "low", "high", "num_images"], rows)
        if key not in self._declared:
            self._declared.add(key)
            about = {
                "num_images": self.num_images,
                "judge": self.judge.name,
                "judge_weights_sha256": self.judge.weights_sha256,
                "interval": f"Wilson 95 %, in the table {key}_by_class",
                **declaration(trainer, real),
                **sampling_declaration(trainer, pl_module, self.seed),
            }
            declare(trainer, key, about)

    def _on_real(self, real: RealImages) -> torch.Tensor:
        num = min(1000, len(real))
        device = next(self.judge.network.parameters()).device
        said = [
            self.judge.classify(batch["image"]).argmax(1) == batch["label"]
            for _, batch in real.batches(num, self.batch_size, device)
        ]
        return torch.cat(said).cpu()


def wilson(num_right: int, num: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927): within [0, 1] and honest for shares near 1."""
    z = 1.959964
    share, spread = num_right / num, z**2 / num
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * (share * (1 - share) / num + z**2 / (4 * num**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _row(name: str, right: torch.Tensor) -> list[str | float | int]:
    num, num_right = len(right), int(right.sum())
    if not num:
        return [name, 0.0, 0.0, 1.0, 0]
    low, high = wilson(num_right, num)
    return [name, num_right / num, low, high, num]
