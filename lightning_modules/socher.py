"""Zero-shot learning through cross-modal transfer (Socher et al. 2013, 1301.3666): images are mapped onto the vectors of words.

Minimises sum_y sum_(x of y) ||w_y - th2 tanh(th1 x)||^2 over the classes that are seen, beside the cross-entropy of a softmax on
the same features x. A picture that no seen class's Gaussian N(w_y, s_y^2 I) holds for likely is new: then the nearest word
vector among the unseen classes names it, else the softmax. Deviations: x are the features of a convolutional network that
learns with the rest (there: fixed ones, learnt without labels); s_y is a running mean of training.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import Batch
from lightning_modules.base import Model

MOMENTUM = 0.02         # of the running spread of a class, per batch


class Socher(Model):
    """`network.features(images [B, C, H, W] in [-1, 1]) -> [B, F]`, `network.head(features) -> logits [B, K]`; `words()` -> [K, D].

    `unseen` names classes without a training image; it follows the data. `hidden`: width of the tanh layer.
    """

    threshold = None            # of novelty: what share of the training images is to pass decides

    def __init__(self, network: nn.Module, words: nn.Module, unseen: Sequence[str] = (), hidden: int = 128,
                 optimizer: OptimizerCallable = torch.optim.AdamW, lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.network: Any = network
        self.words: Any = words
        num_classes, width = words().shape
        head: Any = network.head
        names: Any = words.class_names
        self.theta1 = nn.Linear(head.in_features, hidden, bias=False)
        self.theta2 = nn.Linear(hidden, width, bias=False)
        self.seen: Tensor
        self.spread: Tensor
        self.register_buffer("seen", torch.tensor([name not in unseen for name in names]), persistent=False)
        self.register_buffer("spread", torch.ones(num_classes) / width)                       # s_y^2, K

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.seen[batch["label"]]                                                      # others have no loss
        label, features = batch["label"][rows], self.network.features(batch["image"])[rows]   # B, B F
        distance = (self.words()[label] - self.mapped(features)).square().sum(1)              # B
        if self.training:
            self.update(distance.detach(), label)
        logits = self.logits(self.network.dropout(features))
        num = max(1, len(label))
        regression, softmax = distance.sum() / num, F.cross_entropy(logits, label, reduction="sum") / num
        return {"loss": regression + softmax, "regression": regression, "softmax": softmax,
                "accuracy": (logits.argmax(1) == label).sum() / num}

    def mapped(self, features: Tensor) -> Tensor:
        """th2 tanh(th1 x) [B, D]."""
        return self.theta2(torch.tanh(self.theta1(features)))

    def logits(self, features: Tensor) -> Tensor:
        """[B, K], minus infinity for the unseen classes."""
        return self.network.head(features).masked_fill(~self.seen, -torch.inf)

    def update(self, distance: Tensor, label: Tensor) -> None:
        """Moves the running s_y^2 = mean of ||w_y - f||^2 / D of each class that the batch holds."""
        for own in label.unique():
            self.spread[own].lerp_(distance[label == own].mean() / self.words().shape[1], MOMENTUM)

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in the space of the words, [B, D]."""
        return self.mapped(self.network.features(images))

    @torch.no_grad()
    def recognise(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, K], comparable among the seen classes (log p of the softmax) and among the unseen ones (minus the squared
        distance to the word), and the novelty [B]: minus the highest log density of a seen class's Gaussian."""
        features = self.network.features(images)
        words = self.words()
        distance = (self.mapped(features)[:, None] - words).square().sum(2)                   # B K
        scores = torch.where(self.seen, self.logits(features).log_softmax(1), -distance)
        density = -0.5 * (distance / self.spread + words.shape[1] * (2 * torch.pi * self.spread).log())
        return scores, -density.masked_fill(~self.seen, -torch.inf).amax(1)
