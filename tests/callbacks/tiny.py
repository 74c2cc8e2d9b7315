"""Real, tiny parts for the tests of callbacks: a data module of 8-pixel images and models that offer the protocols in
closed form."""

import json
from typing import ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks.media import to_float


class TinyData(pl.LightningDataModule):
    """Grey 8-pixel images of 4 classes: class k is bright in quadrant k, plus noise."""

    title = "quadrants"
    fingerprint = "quadrants-1"
    class_names: ClassVar = ["top left", "top right", "bottom left", "bottom right"]

    def __init__(self, num: int = 200, channels: int = 1, batch_size: int = 20) -> None:
        super().__init__()
        self.num, self.channels, self.batch_size = num, channels, batch_size

    def images(self, split: str) -> np.ndarray:
        rng = np.random.default_rng(1 + len(split))
        images = rng.normal(60, 15, (self.num, self.channels, 8, 8))
        for index, label in enumerate(self.labels(split)):
            images[index, :, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 120
        return images.clip(0, 255).round().astype(np.uint8)

    def labels(self, split: str) -> np.ndarray:
        return np.arange(self.num) % 4

    def _loader(self, split: str) -> DataLoader:
        images, labels = to_float(self.images(split)), torch.from_numpy(self.labels(split))
        samples = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
        return DataLoader(samples, batch_size=self.batch_size, generator=torch.Generator())

    def train_dataloader(self) -> DataLoader:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")


def _randn(shape: tuple[int, ...], generator) -> Tensor:
    if isinstance(generator, list):
        return torch.stack([torch.randn(shape[1:], generator=one) for one in generator])
    return torch.randn(shape, generator=generator)


class TinyModel(pl.LightningModule):
    """Draws class images plus noise: `spread` = 15 / 127.5 and `shift` = 0 sample the very distribution of TinyData."""

    def __init__(self, spread: float = 15 / 127.5, shift: float = 0.0, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Linear(1, 1)
        self.spread, self.shift, self.learning_rate = spread, shift, learning_rate

    def training_step(self, batch, batch_idx: int) -> Tensor:
        return self.network(batch["image"].flatten(1)[:, :1]).square().mean()

    def validation_step(self, batch, batch_idx: int) -> None:
        pass

    def test_step(self, batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)

    def sampling_settings(self):
        return {"sampler": "closed form", "num_steps": 1, "conditional": True}

    def sample(self, batch, *, generator=None, num_steps=None, start=1.0) -> Tensor:
        shape = tuple(batch["image"].shape)
        images = torch.full(shape, 60 / 127.5 - 1)
        for image, label in zip(images, batch["label"].tolist(), strict=True):
            image[:, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 120 / 127.5
        extra = 0.0 if num_steps is None else 1.0 / num_steps  # fewer steps, worse images
        noise = self.spread * _randn(shape, generator)
        return (images + self.shift + extra + (1 - start) * 0.5 + noise).clamp(-1, 1)

    def classify(self, images: Tensor) -> Tensor:
        quadrants = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4)
        return quadrants.flatten(1)

    def features(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)

    def bits_by_term(self, batch, *, num_terms: int, generator=None) -> dict[str, Tensor]:
        pixels = batch["image"].flatten(1).mean(1)
        return {"pixels": pixels, "terms": torch.full_like(pixels, num_terms)}

    def loss_at(self, batch, t: Tensor, *, generator=None) -> Tensor:
        return 1 - t

    def noising(self, images: Tensor, t: Tensor, *, generator=None) -> Tensor:
        t = t.view(-1, 1, 1, 1)
        return (1 - t) * images + t * _randn(tuple(images.shape), generator)

    def denoising_path(self, batch, *, generator=None, num_frames: int) -> Tensor:
        images = self.sample(batch, generator=generator)
        return torch.stack([images * (frame + 1) / num_frames for frame in range(num_frames)])


def trainer(callbacks: list, **arguments) -> pl.Trainer:
    """A real trainer on the CPU that writes nothing."""
    arguments = {"logger": False, "enable_checkpointing": False, "max_epochs": 1, "num_sanity_val_steps": 2} | arguments
    return pl.Trainer(
        accelerator="cpu", callbacks=callbacks, enable_progress_bar=False, enable_model_summary=False, **arguments
    )


class Record(Logger):
    """A logger that keeps in memory what it is given, by the methods that a RunRecord has."""

    name = version = "record"

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[tuple[int, dict]] = []
        self.images: list[tuple[str, Image.Image, str]] = []
        self.tables: dict[str, list[tuple[list[str], list[list]]]] = {}
        self.about: dict[str, list[dict]] = {}

    def log_metrics(self, metrics, step=None) -> None:
        self.metrics.append((step, {key: value for key, value in metrics.items() if key != "epoch"}))

    def log_hyperparams(self, *args, **kwargs) -> None:
        pass

    def log_image(self, key, images, step=None, caption=None) -> None:
        self.images.append((key, images[0], caption[0]))

    def log_table(self, key, columns=None, data=None, step=None) -> None:
        self.tables.setdefault(key, []).append((columns, data))

    def log_about(self, key, about) -> None:
        self.about.setdefault(key, []).append(json.loads(json.dumps(about)))

    def values(self, key: str) -> list[tuple[int, float]]:
        return [(step, metrics[key]) for step, metrics in self.metrics if key in metrics]
