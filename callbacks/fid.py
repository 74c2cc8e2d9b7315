"""Fréchet distance (FID, where the network is the published one) and kernel distance (KID) between real and generated
images."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluation import Evaluation, RealImages, declaration, draw, sampling_declaration
from callbacks.extractors import Extractor
from callbacks.frechet import Gaussian, RunningGaussian, frechet_distance, kernel_distance
from callbacks.media import declare, trouble_with
from callbacks.progress import track
from callbacks.protocols import Samples

MAX_FEATURES = 10_000  # kept for KID; beyond it a Gaussian alone
CACHE_VERSION = "1"  # raise it when the same key would hold other numbers


@dataclass(frozen=True)
class Reference:
    """What is kept of real images: the Gaussian of all their features, and the features of the first 10,000."""

    gaussian: Gaussian
    features: Tensor  # N D float32


class FrechetDistance(Evaluation):
    """Logs `val/fd_<extractor>` (`val/fid` for the published Inception alone) and `val/kid_<extractor>` from one pass
    of features.

    The generated images ask for the labels of the real ones, and image i always starts from the same noise. Once a run,
    `val/real_floor_fd_<extractor>` says what a perfect model would reach: the distance of as many real images of
    another split (train; for split train, validation), with the same labels. In test the keys begin with test/ and the
    split is test.

    Args:
        extractor: the feature network.
        num_generated: images to draw; a Fréchet distance falls with their number, compare like with like.
        num_real: images of the split to hold them against; by default all.
        split: train, validation or test.
        batch_size: images drawn and looked at in one go; no influence on the value.
        kid: whether to log the kernel distance too (mean over 100 subsets of at most 1,000).
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
        kid: bool = True,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_generated < 2 or (num_real is not None and num_real < 4):
            raise ValueError(
                f"FrechetDistance: {num_generated} generated and {num_real} real images are too few; take 1000 or more"
            )
        self.extractor, self.num_generated, self.num_real = extractor, num_generated, num_real
        self.split, self.batch_size, self.kid, self.seed = split, batch_size, kid, seed
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else self.split)
        num_real = min(self.num_real or len(real), len(real))
        reference = real_reference(self.extractor, real, num_real, self.batch_size, pl_module.device)
        generated = generated_features(
            trainer,
            pl_module,
            self.extractor,
            real,
            self.num_generated,
            asker=self,
            batch_size=self.batch_size,
            seed=self.seed,
            what=f"{stage}: drawing {self.num_generated} images for {self.extractor.key}",
        )
        key = f"{stage}/{self.extractor.key}"
        pl_module.log(key, frechet_distance(Gaussian.fit(generated), reference.gaussian))
        kid_key = f"{stage}/kid_{self.extractor.name}"
        if self.kid:
            # On the model's device: a hundred products of 1000 x D matrices.
            device = pl_module.device if pl_module.device.type == "cuda" else torch.device("cpu")
            pl_module.log(kid_key, kernel_distance(generated.to(device), reference.features.to(device))[0])
        if key in self._declared:
            return
        self._declared.add(key)
        other = RealImages.of(trainer, "validation" if real.split == "train" else "train")
        others = other.matching(real.labels(self.num_generated))
        perfect = real_reference(self.extractor, others, len(others), self.batch_size, pl_module.device)
        floor = frechet_distance(perfect.gaussian, reference.gaussian)
        pl_module.log(f"{stage}/real_floor_{self.extractor.key}", floor)
        about = {
            "num_generated": self.num_generated,
            "num_real": num_real,
            **self.extractor.about(),
            **declaration(trainer, real),
            **sampling_declaration(trainer, pl_module, self.seed),
            "labels": "those of the real images",
        }
        dim = generated.shape[1]
        warning = {}
        if min(self.num_generated, num_real) <= dim:
            warning["warning"] = (
                f"{min(self.num_generated, num_real)} images for {dim} features: the covariance is singular and the "
                "value depends strongly on the number of images"
            )
            print(f"FrechetDistance, {key}: {warning['warning']}", file=sys.stderr)
        declare(trainer, key, about | warning)
        if self.kid:
            subset = min(1000, self.num_generated, len(reference.features))
            declare(trainer, kid_key, about | {"kernel": "(x.y / D + 1)^3, unbiased", "subset_size": subset})


def generated_features(
    trainer: Trainer,
    pl_module: Any,
    extractor: Extractor,
    real: RealImages,
    num: int,
    *,
    asker: object,
    batch_size: int,
    seed: int,
    what: str,
    num_steps: int | None = None,
    start: float = 1.0,
) -> Tensor:
    """Features [num, D] on the CPU of images drawn for the labels of the real ones; ValueError if one is NaN or not
    in [-1, 1]."""
    features = []
    labels = real.labels(num)
    for images in draw(
        trainer,
        pl_module,
        labels,
        real.shape,
        seed=seed,
        batch_size=batch_size,
        what=what,
        num_steps=num_steps,
        start=start,
    ):
        if trouble := trouble_with(images):
            raise ValueError(
                f"{type(asker).__name__}: the images of {type(pl_module).__name__}.sample cannot be measured: {trouble}"
            )
        features.append(extractor(images).cpu())
    return torch.cat(features)


def real_reference(
    extractor: Extractor, real: RealImages, num: int, batch_size: int, device: torch.device
) -> Reference:
    """Of the first `num` real images (in their shuffled order); from the disk where it has been computed before."""
    identity = {"version": CACHE_VERSION, "images": real.sha256(num), "num": num, **extractor.about()}
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "features" / f"{real.title}-{real.split}-{extractor.name}-{name}.safetensors"
    reference = _load(path, num)
    if reference is None:
        starts = track(range(0, num, batch_size), f"features of {num} real images by {extractor.name}")
        batches = (extractor(real.images(begin, min(begin + batch_size, num)).to(device)) for begin in starts)
        reference = _gather(batches, num)
        _save(path, reference)
    return reference


def real_features(extractor: Extractor, real: RealImages, num: int, batch_size: int, device: torch.device) -> Tensor:
    """Features float32 [num, D] on the CPU of the first `num` real images, however many: kept on the disk by parts of
    10,000 at most, equal ones (a Gaussian needs two)."""
    parts = [real.take(places) for places in np.array_split(np.arange(num), -(-num // MAX_FEATURES))]
    return torch.cat([real_reference(extractor, part, len(part), batch_size, device).features for part in parts])


def cache_folder() -> Path:
    """Where statistics of real images are kept: PRACTICUM_CACHE, else practicum/ in the Hugging Face cache."""
    if os.environ.get("PRACTICUM_CACHE"):
        return Path(os.environ["PRACTICUM_CACHE"]).expanduser()
    return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "practicum"


def _gather(batches: Iterable[Tensor], num: int) -> Reference:
    """One pass over the features of `num` images."""
    kept: list[Tensor] = []
    running: RunningGaussian | None = None
    seen = 0
    for batch in batches:
        batch = batch.cpu()
        if not torch.isfinite(batch).all():
            raise ValueError("the features of the real images hold NaN or infinite values")
        if num > MAX_FEATURES:
            running = running or RunningGaussian(batch.shape[1])
            running.update(batch)
        kept.append(batch[: max(0, MAX_FEATURES - seen)])
        seen += len(batch)
    features = torch.cat(kept)
    return Reference(running.gaussian() if running else Gaussian.fit(features), features)


def _save(path: Path, reference: Reference) -> None:
    """Writes beside and renames: another run reads the whole file or none."""
    from safetensors.torch import save_file

    gaussian = reference.gaussian
    tensors = {"features": reference.features}
    if gaussian.covariance is not None:  # else the features are few enough to fit it again
        tensors |= {"mean": gaussian.mean, "covariance": gaussian.covariance}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
    os.replace(beside, path)


def _load(path: Path, num: int) -> Reference | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        print(f"{path} is damaged ({error}): computing it again", file=sys.stderr)
        return None
    if "covariance" in tensors:
        gaussian = Gaussian(num, tensors["mean"], covariance=tensors["covariance"])
    else:
        gaussian = Gaussian.fit(tensors["features"])
    return Reference(gaussian, tensors["features"])
