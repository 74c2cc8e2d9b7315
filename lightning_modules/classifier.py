"""The supervised baseline: cross-entropy on labels.

Minimises -log softmax(network(x))_label. It has three uses: the baseline of the zero-shot comparisons, the judge of whether a
conditional sample shows its class, and, by its last features, the extractor of a Fréchet distance for data on which ImageNet
features say little.
"""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import Batch
from lightning_modules.base import Model


class Classifier(Model):
    """`network(images [B, C, H, W] in [-1, 1]) -> logits [B, K]`, with `network.features(images) -> [B, D]`."""

    def __init__(self, network: nn.Module, label_smoothing: float = 0.0,
                 optimizer: OptimizerCallable = torch.optim.AdamW, lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.network: Any = network
        self.label_smoothing = label_smoothing

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["image"])                                                 # B K
        smoothing = self.label_smoothing if self.training else 0.0
        return {"loss": F.cross_entropy(logits, batch["label"], label_smoothing=smoothing),
                "accuracy": (logits.argmax(1) == batch["label"]).float().mean()}

    def classify(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W] in [-1, 1]."""
        return self.network(images)

    def features(self, images: Tensor) -> Tensor:
        """The representation [B, D] before the last layer."""
        return self.network.features(images)
