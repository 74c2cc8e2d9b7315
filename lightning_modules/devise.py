"""DeViSE (Frome et al. 2013): an image's embedding shall be nearer to the word of its class than to any other word.

Minimises sum_(j != y) max(0, m - t_y M v + t_j M v) over the words t of the seen classes, v the image's features, M a linear map.
The words and M v have length one, so that the margin m is one of cosines. Deviations: the network learns with M from the
beginning (there it was trained as a classifier first), and every violated pair counts (there: one drawn pair).
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import Batch
from lightning_modules.base import Model


class DeViSE(Model):
    """`network.features(images [B, C, H, W] in [-1, 1]) -> [B, F]`; `words()` -> unit vectors [K, D].

    `unseen` names classes without a training image; it follows the data.
    """

    threshold = 0.0             # of novelty: the nearest word of all classes names the image

    def __init__(self, network: nn.Module, words: nn.Module, unseen: Sequence[str] = (), margin: float = 0.1,
                 optimizer: OptimizerCallable = torch.optim.AdamW, lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.network: Any = network
        self.words: Any = words
        self.margin = margin
        head: Any = network.head
        names: Any = words.class_names
        self.network.head = nn.Identity()                                                     # no softmax here
        self.map = nn.Linear(head.in_features, words().shape[1], bias=False)
        self.seen: Tensor
        self.register_buffer("seen", torch.tensor([name not in unseen for name in names]), persistent=False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.seen[batch["label"]]                                                      # others have no loss
        label = batch["label"][rows]                                                          # B
        cosine = (self.embed(batch["image"]) @ self.words().T)[rows]                          # B K
        own = cosine.gather(1, label[:, None])                                                # B 1
        others = self.seen & ~F.one_hot(label, len(self.seen)).bool()                         # B K
        hinge = (self.margin - own + cosine).relu().masked_fill(~others, 0).sum(1)            # B
        right = cosine.masked_fill(~self.seen, -torch.inf).argmax(1) == label
        num = max(1, len(label))
        return {"loss": hinge.sum() / num, "accuracy": right.sum() / num}

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] as unit vectors in the space of the words, [B, D]."""
        return F.normalize(self.map(self.network.dropout(self.network.features(images))), dim=1)

    @torch.no_grad()
    def recognise(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines [B, K] with the words, and the novelty [B]: by how much the nearest unseen word is nearer than the nearest seen."""
        cosine = self.embed(images) @ self.words().T
        unseen = cosine.masked_fill(self.seen, -torch.inf).amax(1)
        return cosine, unseen - cosine.masked_fill(~self.seen, -torch.inf).amax(1)
