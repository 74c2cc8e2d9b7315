"""Has the model learned its training images by heart? Samples beside the training images nearest to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from callbacks.class_accuracy import wilson
from callbacks.evaluation import Evaluation, RealImages, declaration, draw, sampling_declaration
from callbacks.extractors import Extractor
from callbacks.fid import real_features
from callbacks.media import GUTTER, declare, grid, log_image, log_table, to_float, to_uint8, trouble_with
from callbacks.precision_recall import squared_distances
from callbacks.progress import track
from callbacks.protocols import Samples


@dataclass(frozen=True)
class Neighbours:
    """Of each of N points: the nearest training point, and of that one the nearest other training point."""

    nearest: Tensor  # int64 N
    distance: Tensor  # N float64, to the nearest
    second: Tensor  # int64 N, the nearest other of the nearest
    apart: Tensor  # N float64, from the nearest to its nearest other

    @property
    def memorised(self) -> Tensor:
        """bool [N]: closer to a training point than that one is to any other, or equal to it."""
        return (self.distance < self.apart) | (self.distance == 0)

    @property
    def ratio(self) -> Tensor:
        """[N]: distance over apart, below 1 where memorised."""
        return self.distance / self.apart.clamp(min=torch.finfo(torch.float64).tiny)


def neighbours(points: Tensor, training: Tensor, what: str = "nearest neighbours", chunk: int = 4096) -> Neighbours:
    """Of points [N, D] among training points [M, D], M >= 2, any dtype, on one device: the test of authenticity of Alaa
    et al. 2022 (2102.08921, section 3).

    Nearest is found in float32, `chunk` training points at a time (so that points as near as rounding may stand in for
    each other); the distances to what was found are exact.
    """
    nearest = _nearest(points, training, None, what, chunk)
    which, back = nearest.unique(return_inverse=True)
    second = _nearest(training[which], training, which, what, chunk)[back]
    return Neighbours(
        nearest,
        _apart(points, training[nearest]),
        second,
        _apart(training[nearest], training[second]),
    )


def _nearest(points: Tensor, training: Tensor, itself: Tensor | None, what: str, chunk: int) -> Tensor:
    """int64 [N]: the nearest training point, other than `itself` [N]."""
    middle = training[:chunk].float().mean(0)
    points = points.float() - middle
    best = torch.full((len(points),), torch.inf, device=points.device)
    index = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for start in track(range(0, len(training), chunk), what):
        squared = squared_distances(points, training[start : start + chunk].float() - middle)
        if itself is not None:
            inside = (itself >= start) & (itself < start + chunk)
            squared[inside, itself[inside] - start] = torch.inf
        closest, place = squared.min(1)
        index = torch.where(closest < best, place + start, index)
        best = torch.minimum(best, closest)
    return index


def _apart(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() - y.double()).square().sum(1).sqrt()


class NearestNeighbours(Evaluation):
    """Logs `val/memorised`, the share of samples closer to a training image than that image is to any other training
    image, and the picture `val/nearest_neighbours`: the `num_shown` most suspicious samples, under each the training
    image nearest to it, under that the nearest other training image.

    Fresh images of the same distribution are that close too, now and then: `val/real_floor_memorised`, once a run, is
    the share for as many real images of the split, which the model has not been trained on. A share above it is
    memorisation, or samples blurred towards the mean of many images: look at the picture. The table
    `val/memorised_by_source` has both with Wilson's 95 % intervals, and the mean distance.

    The distance is Euclidean, in pixels (0..255) or, where there is an extractor, of its features; then the keys end
    in _<extractor>. Mirrored copies count as other images.

    Args:
        extractor: the feature network; by default pixels.
        num_generated: images to draw, for the labels of the real ones.
        num_train: training images to look among; by default all. A model may have learned any of them.
        num_shown: samples in the picture.
        split: validation or test, of the real images to compare with.
        batch_size: images drawn and looked at in one go; no influence on the value.
        seed: of the noise.
        only_last: ask at the last validation of a fit alone.
    """

    protocols = (Samples,)

    def __init__(
        self,
        extractor: Extractor | None = None,
        num_generated: int = 1000,
        num_train: int | None = None,
        num_shown: int = 10,
        split: str = "validation",
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_generated < 2:
            raise ValueError(f"NearestNeighbours: num_generated {num_generated} is too few; take 1000 or more")
        if not 1 <= num_shown <= num_generated:
            raise ValueError(
                f"NearestNeighbours: {num_shown} of {num_generated} samples cannot be shown; take num_shown from 1 to "
                "num_generated"
            )
        if num_train is not None and num_train < 2:
            raise ValueError(f"NearestNeighbours: num_train {num_train} is too few; leave it out for all images")
        if split == "train":
            raise ValueError("NearestNeighbours: split train is what is looked among; take validation or test")
        self.extractor, self.num_generated, self.num_train = extractor, num_generated, num_train
        self.num_shown = num_shown
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._training: Tensor | None = None  # M D; uint8 pixels or features
        self._held_out: dict[str, Neighbours] = {}  # of the real images, by stage

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        train = RealImages.of(trainer, "train")
        real = RealImages.of(trainer, "test" if stage == "test" else self.split)
        num_train = min(self.num_train or len(train), len(train))
        if self._training is None:
            self._training = self._points(train, num_train, pl_module.device).cpu()
        training = self._training.to(pl_module.device)
        drawn = torch.cat(list(self._draw(trainer, pl_module, real, stage)))
        what = f"{stage}: {self.num_generated} samples among {num_train} training images"
        found = neighbours(self._of(drawn, pl_module.device), training, what)
        ending = "" if self.extractor is None else f"_{self.extractor.name}"
        key = f"{stage}/memorised{ending}"
        pl_module.log(key, found.memorised.float().mean())
        first = stage not in self._held_out
        if first:
            num_real = min(self.num_generated, len(real))
            held_out = self._points(real, num_real, pl_module.device)
            what = f"{stage}: {num_real} real images among {num_train} training images"
            self._held_out[stage] = neighbours(held_out, training, what)
            pl_module.log(f"{stage}/real_floor_memorised{ending}", self._held_out[stage].memorised.float().mean())
        rows = [_row("samples", found), _row("held-out real images", self._held_out[stage])]
        log_table(trainer, f"{key}_by_source", ["images", "share", "low", "high", "mean distance", "num_images"], rows)
        self._show(trainer, f"{stage}/nearest_neighbours{ending}", drawn, train, found)
        if first:
            about = {
                "num_generated": self.num_generated,
                "num_train": num_train,
                "num_real": rows[1][-1],
                "space": "pixels, 0 to 255" if self.extractor is None else "features",
                **({} if self.extractor is None else self.extractor.about()),
                "interval": f"Wilson 95 %, in the table {key}_by_source",
                **declaration(trainer, real),
                **sampling_declaration(trainer, pl_module, self.seed),
                "labels": "those of the real images",
            }
            declare(trainer, key, about)

    def _draw(self, trainer: Trainer, pl_module: Any, real: RealImages, stage: str) -> Iterator[Tensor]:
        """Samples as uint8 [B, C, H, W] on the CPU, as they would be written to a file."""
        what = f"{stage}: drawing {self.num_generated} images for nearest neighbours"
        labels = real.labels(self.num_generated)
        batches = draw(trainer, pl_module, labels, real.shape, seed=self.seed, batch_size=self.batch_size, what=what)
        for images in batches:
            if trouble := trouble_with(images):
                raise ValueError(
                    f"NearestNeighbours: the images of {type(pl_module).__name__}.sample cannot be compared: {trouble}"
                )
            yield to_uint8(images).cpu()

    def _of(self, images: Tensor, device: torch.device) -> Tensor:
        """Points [N, D] on `device` of uint8 images."""
        if self.extractor is None:
            return images.flatten(1).to(device)
        return torch.cat([self.extractor(to_float(batch, device)) for batch in images.split(self.batch_size)])

    def _points(self, real: RealImages, num: int, device: torch.device) -> Tensor:
        """Points [num, D] on `device` of the first real images."""
        if self.extractor is not None:
            return real_features(self.extractor, real, num, self.batch_size, device).to(device)
        parts = [to_uint8(real.images(start, min(start + 4096, num))) for start in range(0, num, 4096)]
        return torch.cat(parts).flatten(1).to(device)

    def _show(self, trainer: Trainer, key: str, drawn: Tensor, train: RealImages, found: Neighbours) -> None:
        worst = found.ratio.argsort(stable=True)[: self.num_shown].cpu()
        places = [found.nearest.cpu()[worst].numpy(), found.second.cpu()[worst].numpy()]
        images = [to_float(drawn[worst]), *(train.take(place).images(0, len(place)) for place in places)]
        columns = min(10, len(worst))
        pictures: list[NDArray[np.uint8]] = []
        for rows in zip(*(image.split(columns) for image in images), strict=True):
            blank = rows[0].new_full((columns - len(rows[0]), *rows[0].shape[1:]), GUTTER / 127.5 - 1)
            picture = grid(torch.cat([part for row in rows for part in (row, blank)]), columns, padding=6)
            pictures += [picture, np.full_like(picture[:12], GUTTER)]  # threes stand apart
        ratios = found.ratio.cpu()[worst]
        caption = (
            f"step {trainer.global_step}; rows in threes: sample, nearest training image, nearest other training "
            f"image of that; most suspicious first: the sample is {ratios[0]:.2f} to {ratios[-1]:.2f} times as far"
        )
        log_image(trainer, key, np.concatenate(pictures[:-1]), caption)


def _row(name: str, found: Neighbours) -> list[Any]:
    num, num_memorised = len(found.distance), int(found.memorised.sum())
    low, high = wilson(num_memorised, num)
    return [name, num_memorised / num, low, high, found.distance.mean().item(), num]
