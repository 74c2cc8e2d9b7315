"""Naming what was never labelled: the class whose words are nearest to the picture (Radford et al. 2021, 2103.00020, 3.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor

from callbacks.class_accuracy import wilson
from callbacks.clips import Clip, InTraining
from callbacks.evaluation import Evaluation, RealImages, declaration
from callbacks.intervals import bootstrap, calibration_error
from callbacks.media import declare, log_table
from callbacks.progress import track
from callbacks.protocols import Embeds

INTERVAL = "bootstrap 95 % over images, 2,000 resamples"
CONFIDENCE = {"softmax": "softmax over the classes", "sigmoid": "sigmoid of the picture and its nearest class"}


@dataclass(frozen=True)
class Scores:
    """Shares of N images: named right, with the interval's ends; right among the five nearest; right in the mean over the
    classes; and how far confidence is from being right (expected calibration error, 15 bins)."""

    top1: float
    low: float
    high: float
    top5: float
    per_class: float
    ece: float


@dataclass(frozen=True)
class Named:
    """The five nearest classes (or all, if there are fewer) of N images, the confidence in the first, and the true ones."""

    nearest: Tensor  # int64 [N, 5]
    confidence: Tensor  # float32 [N]
    labels: Tensor  # int64 [N]

    @property
    def right(self) -> Tensor:
        """bool [N]."""
        return self.nearest[:, 0] == self.labels

    def scores(self) -> Scores:
        right = self.right
        low, high = bootstrap(right)
        of_classes = [right[self.labels == label].double().mean() for label in self.labels.unique()]
        return Scores(
            top1=right.double().mean().item(),
            low=low,
            high=high,
            top5=(self.nearest == self.labels[:, None]).any(1).double().mean().item(),
            per_class=torch.stack(of_classes).mean().item(),
            ece=calibration_error(self.confidence, right),
        )


def name_images(
    clip: Clip,
    real: RealImages,
    templates: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    num: int | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
) -> Named:
    """Names the first `num` images, or all, by the cosine with the words of each class: its name, with spaces for
    underscores, in every template.

    By the cosine and not the probability, of which a sigmoid makes many equal ones.
    """
    names = real.class_names if class_names is None else list(class_names)
    if len(names) != len(real.class_names):
        raise ValueError(f"class_names: {len(names)} names for the {len(real.class_names)} classes of {real.title}")
    words = clip.classifier([name.replace("_", " ") for name in names], templates)  # K D
    num = len(real) if num is None else min(num, len(real))
    nearest, confidence = [], []
    for start in track(range(0, num, batch_size), f"zero-shot: {num} pictures of {real.title}"):
        images = real.images(start, min(start + batch_size, num)).to(device)  # B C H W
        embedded = clip.embed_images(images)  # B D
        best = (embedded @ words.T).topk(min(5, len(names))).indices  # B 5
        nearest.append(best.cpu())
        confidence.append(clip.probabilities(embedded, words).gather(1, best[:, :1])[:, 0].cpu())
    return Named(torch.cat(nearest), torch.cat(confidence), real.labels(num))


def checked_templates(templates: str | Sequence[str], asker: str) -> list[str]:
    """The templates as a list; each has a {} for the name of the class."""
    listed = [templates] if isinstance(templates, str) else list(templates)
    if not listed:
        raise ValueError(f"{asker}: no template; give for instance 'a photo of a {{}}', or '{{}}' for the bare name")
    for template in listed:
        if "{}" not in template:
            raise ValueError(f"{asker}: the template {template!r} has no {{}} for the name of the class")
    return listed


def key_of(title: str, split: str, stage: str) -> str:
    """The part of a key that names data and split: the title, with the split where it is not the stage's own."""
    own = "test" if stage == "test" else "validation"
    return re.sub(r"\W+", "_", title if split == own else f"{title}_{split}")


class ZeroShot(Evaluation):
    """Logs `val/zero_shot_<title>`, the share of images whose class has the nearest words, and of the same images
    `val/zero_shot_top5_<title>` (where there are more than five classes), `val/zero_shot_per_class_<title>` (the mean over
    the classes) and `val/zero_shot_ece_<title>` (expected calibration error, 15 bins). The table
    `val/zero_shot_by_class_<title>` has each class with Wilson's 95 % interval, and all with a bootstrap interval.

    Args:
        data: Labelled data to ask about; null asks about the data of the training. Pictures of another size or with other
            channels are fitted to those of the training.
        splits: validation, test, or another split of the source, such as held_out, whose name then ends the key. When
            testing, validation stands for test.
        templates: Texts with a {} for the name of the class ("a(n) {}" minds its first letter); several are an ensemble:
            the mean of their unit vectors.
        class_names: Other words for the classes, in the order of the labels.
        num_images: How many images of each split, drawn once; null takes all.
    """

    protocols = (Embeds,)

    def __init__(
        self,
        data: LightningDataModule | None = None,
        splits: list[str] | None = None,
        templates: list[str] | None = None,
        class_names: list[str] | None = None,
        num_images: int | None = None,
        batch_size: int = 256,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        self.data, self.splits, self.class_names = data, splits or ["validation"], class_names
        self.templates = checked_templates(["a photo of a {}"] if templates is None else templates, "ZeroShot")
        if num_images is not None and num_images < 1:
            raise ValueError(f"ZeroShot: {num_images} images; take at least 1, or null for all")
        self.num_images, self.batch_size = num_images, batch_size
        self._declared: set[tuple[str, str]] = set()

    def data_of(self, trainer: Trainer) -> Any:
        return super().data_of(trainer) if self.data is None else self.data

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        clip = InTraining(trainer, pl_module, self)
        for split in self.splits:
            split = "test" if stage == "test" and split == "validation" else split
            real = RealImages.among(self.data_of(trainer), split)
            named = name_images(
                clip,
                real,
                self.templates,
                class_names=self.class_names,
                num=self.num_images,
                batch_size=self.batch_size,
                device=pl_module.device,
            )
            self._log(trainer, pl_module, stage, clip, real, named)

    def _log(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, clip: Clip, real: RealImages, named: Named
    ) -> None:
        title, scores = key_of(real.title, real.split, stage), named.scores()
        pl_module.log(f"{stage}/zero_shot_{title}", scores.top1)
        pl_module.log(f"{stage}/zero_shot_per_class_{title}", scores.per_class)
        pl_module.log(f"{stage}/zero_shot_ece_{title}", scores.ece)
        if len(real.class_names) > 5:
            pl_module.log(f"{stage}/zero_shot_top5_{title}", scores.top5)
        num = len(named.labels)
        rows: list[list[Any]] = [["all", scores.top1, scores.low, scores.high, num]]
        for label, name in enumerate(self.class_names or real.class_names):
            right = named.right[named.labels == label]
            if len(right):
                rows.append([name, right.double().mean().item(), *wilson(int(right.sum()), len(right)), len(right)])
        table = f"{stage}/zero_shot_by_class_{title}"
        log_table(trainer, table, ["class", "accuracy", "low", "high", "num_images"], rows)
        if (stage, title) not in self._declared:
            self._declared.add((stage, title))
            settings = clip.settings()
            about = {
                "num_images": num,
                "num_classes": len(real.class_names),
                "templates": self.templates,
                "class_names": "the data's" if self.class_names is None else self.class_names,
                "confidence": CONFIDENCE[settings["loss"]],
                "interval": f"{INTERVAL}, in the table {table}",
                "num_truncated": clip.num_truncated,
                **settings,
                **declaration(trainer, real),
            }
            for kind in ("", "per_class_", "ece_", "top5_"):
                declare(trainer, f"{stage}/zero_shot_{kind}{title}", about)
