"""What the metrics share: when they are asked, the real images they are held against, and images drawn for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor

from callbacks.ema import weights_in_use
from callbacks.media import to_float, trouble_with
from callbacks.progress import track
from callbacks.protocols import require, sampling_settings
from datamodules.batch import Batch


class Evaluation(Callback):
    """A question asked of the model at the end of validation and of test, never in the sanity check.

    How often is the trainer's matter (`val_check_interval`, `check_val_every_n_epoch`); `only_last` asks at the last
    validation of a fit alone. A fit that ends at `max_steps` between two validations gets one more there.
    """

    protocols: ClassVar[tuple[type, ...]] = ()  # what it asks of the model
    of_data: ClassVar[tuple[str, ...]] = ("labels", "class_names")  # what it asks of the datamodule, beside images

    def __init__(self, only_last: bool = False) -> None:
        self.only_last = only_last

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks, and logs under `stage`/..., "val" or "test"."""
        raise NotImplementedError

    def data_of(self, trainer: Trainer) -> Any:
        """The datamodule that is asked about: that of the training, unless a subclass was given another."""
        return trainer.datamodule  # type: ignore[attr-defined]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for protocol in self.protocols:
            require(pl_module, protocol, self)
        data = self.data_of(trainer)
        for name in ("images", "fingerprint", "title", *self.of_data):
            if not hasattr(type(data), name) and not hasattr(data, name):
                raise ValueError(
                    f"{type(self).__name__} needs a datamodule with `{name}`, which {type(data).__name__} has not: "
                    "take another of datamodules (ImageClasses has labels, ImageCaptions captions), or leave the callback out"
                )
        if "class_names" in self.of_data and not data.class_names:
            raise ValueError(
                f"{type(self).__name__} needs classes, which {data.title} has not: name their column with "
                "--data.columns.label NAME, or leave the callback out"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.max_steps == trainer.global_step:  # -1 is no limit
            trainer.should_stop = True  # Lightning then validates before it leaves

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and (not self.only_last or is_last_validation(trainer)):
            self.evaluate(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.evaluate(trainer, pl_module, "test")


def is_last_validation(trainer: Trainer) -> bool:
    """Whether no later validation will come in this call of the trainer, as far as it can know."""
    if trainer.state.fn != TrainerFn.FITTING or trainer.should_stop:
        return True
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    if trainer.max_epochs in (None, -1):
        return False
    assert trainer.max_epochs is not None and trainer.val_check_batch is not None
    batches = trainer.num_training_batches
    left = batches - trainer.fit_loop.epoch_loop.batch_progress.current.ready  # of this epoch
    epochs_left = trainer.max_epochs - trainer.current_epoch - 1
    if trainer.check_val_every_n_epoch is None:
        return left + epochs_left * batches < trainer.val_check_batch
    return left < trainer.val_check_batch and epochs_left < trainer.check_val_every_n_epoch


@dataclass(frozen=True)
class RealImages:
    """The images of one split, in an order shuffled once with a fixed seed, so that any first N are a fair share of
    the classes."""

    split: str
    title: str
    fingerprint: str
    class_names: list[str]
    _images: NDArray[np.uint8]  # N C H W, maybe a memory map
    _labels: NDArray[np.int64]  # N
    _order: NDArray[np.int64]

    @classmethod
    def of(cls, trainer: Trainer, split: str) -> RealImages:
        """Of "train", "validation" or "test" of the training's data."""
        return cls.among(trainer.datamodule, split)  # type: ignore[attr-defined]

    @classmethod
    def among(cls, data: Any, split: str) -> RealImages:
        """Of a datamodule's "train", "validation", "test" or further split."""
        images = data.images(split)
        order = np.random.default_rng(0).permutation(len(images))
        names = list(getattr(data, "class_names", []))
        labels = data.labels(split) if names else np.zeros(len(images), dtype=np.int64)
        return cls(split, data.title, data.fingerprint, names, images, labels, order)

    def __len__(self) -> int:
        return len(self._order)

    def sha256(self, num: int) -> str:
        """Of what the first `num` images are: the data's fingerprint, the split, the shape and the places."""
        what = f"{self.fingerprint} {self.split} {self.shape} ".encode() + self._order[:num].tobytes()
        return hashlib.sha256(what).hexdigest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self._images.shape[1:]

    def rows(self, num: int) -> NDArray[np.int64]:
        """int64 [num]: which rows of the split the first `num` images are."""
        return self._order[:num]

    def images(self, start: int, stop: int) -> Tensor:
        """Images `start` to `stop` of the order as float32 [B, C, H, W] in [-1, 1]."""
        return to_float(self._images[self._order[start:stop]])

    def labels(self, num: int) -> Tensor:
        """int64 [num]: the labels of the first `num` images, beginning again where the split is smaller."""
        return torch.from_numpy(self._labels[self._order[np.arange(num) % len(self)]]).long()

    def matching(self, labels: Tensor) -> RealImages:
        """The same split in an order in which image i has label i of `labels`, as far as the split has that class.

        An image comes again only where its class has too few.
        """
        ours = self._labels[self._order]
        pools = {label: self._order[ours == label] for label in np.unique(ours)}
        taken = dict.fromkeys(pools, 0)
        order = []
        for label in labels.tolist():
            if label in pools:
                order.append(pools[label][taken[label] % len(pools[label])])
                taken[label] += 1
        return replace(self, _order=np.array(order, dtype=np.int64))

    def take(self, places: NDArray[np.int64]) -> RealImages:
        """The images at these places of the order, in this order."""
        return replace(self, _order=self._order[places])

    def one_per_class(self, num: int) -> Tensor:
        """The first image of each of the first `num` classes that the split has, float32 [B, C, H, W]."""
        labels = self._labels[self._order]
        first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:num]]
        return to_float(self._images[self._order[first]])

    def batches(self, num: int, batch_size: int, device: torch.device) -> Iterator[tuple[int, Batch]]:
        """The first `num` images and labels on `device`, each batch with the number of its first image."""
        labels = self.labels(num)
        for start in range(0, num, batch_size):
            stop = min(start + batch_size, num)
            yield start, {"image": self.images(start, stop).to(device), "label": labels[start:stop].to(device)}


def per_image_generators(seed: int, start: int, stop: int) -> list[torch.Generator]:
    """One generator per image: image i always draws from seed + i, in whatever batch it stands."""
    return [torch.Generator().manual_seed(seed + index) for index in range(start, stop)]


def conditions(labels: Tensor, shape: tuple[int, int, int], device: torch.device) -> Batch:
    """A batch that asks for one image [C, H, W] of each label [B]."""
    return {"image": torch.zeros(len(labels), *shape, device=device), "label": labels.to(device)}


def precision(trainer: Trainer) -> AbstractContextManager[Any]:
    """The run's own precision (autocast), which Lightning sets up for steps but not for callbacks."""
    return trainer.precision_plugin.forward_context()


def draw(
    trainer: Trainer,
    pl_module: Any,
    labels: Tensor,
    shape: tuple[int, int, int],
    *,
    seed: int,
    batch_size: int,
    what: str,
    num_steps: int | None = None,
    start: float = 1.0,
) -> Iterator[Tensor]:
    """Images [B, C, H, W] for labels [N], batch by batch, with a generator per image: the same whatever the batch
    size."""
    for begin in track(range(0, len(labels), batch_size), what):
        end = min(begin + batch_size, len(labels))
        with torch.no_grad(), precision(trainer):
            images = pl_module.sample(
                conditions(labels[begin:end], shape, pl_module.device),
                generator=per_image_generators(seed, begin, end),
                num_steps=num_steps,
                start=start,
            )
        yield images.float()


def captions_of(trainer: Trainer, real: RealImages, num: int) -> list[str]:
    """One of the captions of each of the first `num` images, in turn the first, the second, ..."""
    captions = trainer.datamodule.captions(real.split)  # type: ignore[attr-defined]
    return [captions[row][place % len(captions[row])] for place, row in enumerate(real.rows(num))]


def draw_captions(
    trainer: Trainer,
    pl_module: Any,
    texts: list[str],
    shape: tuple[int, int, int],
    *,
    asker: object,
    seed: int,
    batch_size: int,
    what: str,
) -> Iterator[Tensor]:
    """Images [B, C, H, W] for texts [N], batch by batch, caption i from noise of seed + i; ValueError for images that are
    NaN or not in [-1, 1]."""
    tokens, mask = trainer.datamodule.tokenizer(texts)  # type: ignore[attr-defined]
    for start in track(range(0, len(texts), batch_size), what):
        stop = min(start + batch_size, len(texts))
        batch: Batch = {
            "image": torch.zeros(stop - start, *shape, device=pl_module.device),
            "text": texts[start:stop],
            "tokens": tokens[start:stop].to(pl_module.device),
            "mask": mask[start:stop].to(pl_module.device),
        }
        with torch.no_grad(), precision(trainer):
            images = pl_module.sample(batch, generator=per_image_generators(seed, start, stop)).float()
        if trouble := trouble_with(images):
            name = type(pl_module).__name__
            raise ValueError(f"{type(asker).__name__}: the images of {name}.sample cannot be judged: {trouble}")
        yield images


def declaration(trainer: Trainer, real: RealImages) -> dict[str, Any]:
    """What every metric says beside its value: data, image size, weights. Equal for runs that may be compared."""
    channels, height, width = real.shape
    return {
        "data": real.title,
        "data_fingerprint": real.fingerprint,
        "split": real.split,
        "image_size": f"{channels}x{height}x{width}",
        "weights": weights_in_use(trainer),
    }


def sampling_declaration(trainer: Trainer, pl_module: LightningModule, seed: int) -> dict[str, Any]:
    """What a metric of drawn images says besides: sampler, steps, guidance, precision, noise."""
    return {**sampling_settings(pl_module), "precision": str(trainer.precision), "noise_seed": seed}
