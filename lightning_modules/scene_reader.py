"""The judge: reads which objects a picture shows, what they are like, and where.

A dense detector in the manner of CenterNet (Zhou, Wang and Krähenbühl 2019, 1904.07850): each cell of a grid minimises the
cross-entropy of "the middle of an object is near" and, where it is, those of the attributes and the distance to the middle.
Deviations: no heat map but cells within `REACH` of a middle; doubles are merged by the middle they point at.
"""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import Batch
from lightning_modules.base import Model

REACH = 0.75        # cells between a middle and the cells that answer for it: one to three of them
APART = 0.8         # cells between two middles, below which they are one object seen twice


class SceneReader(Model):
    """`network(images) -> objectness [B, G, G], offset [B, 2, G, G], {attribute: logits [B, K, G, G]}`.

    `noise`: training pictures get Gaussian noise of a standard deviation up to this, so that the judge does not mind it.
    """

    def __init__(self, network: nn.Module, noise: float = 0.0, optimizer: OptimizerCallable = torch.optim.AdamW,
                 lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.network: Any = network
        self.noise = noise

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        image, attributes = batch["image"], batch["attributes"]                               # B C H W, B K A
        if self.training and self.noise:
            image = image + self.noise * torch.rand(len(image), 1, 1, 1, device=image.device) * torch.randn_like(image)
        objectness, offset, logits = self.network(image)                                      # B G G, B 2 G G, ...
        toward = self.toward(batch["centre"])                                                 # B K 2 G G
        away = toward.norm(dim=2).masked_fill(attributes[:, :, :1, None].lt(0), torch.inf)    # B K G G
        nearest, which = away.min(1)                                                          # B G G
        answers = nearest < REACH                                                             # B G G
        rows, down, right = answers.nonzero(as_tuple=True)                                    # P
        target = toward[rows, which[answers], :, down, right]                                 # P 2
        found = F.binary_cross_entropy_with_logits(objectness, answers.float(), reduction="none").sum((1, 2)).mean()
        num = max(1, len(rows))                                                               # a batch may show no object
        placed = F.l1_loss(offset.permute(0, 2, 3, 1)[answers], target, reduction="sum") / (2 * num)
        losses = {"found": found, "placed": placed}
        for number, (name, logit) in enumerate(logits.items()):
            known = attributes[rows, which[answers], number]                                  # P
            losses[name] = F.cross_entropy(logit.permute(0, 2, 3, 1)[answers], known, reduction="sum") / num
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @torch.no_grad()
    def read(self, images: Tensor) -> list[list[dict[str, Any]]]:
        """The objects of each image [B, C, H, W] in [-1, 1]: a word for each attribute, x and y of the middle in 0..1, and
        `confidence`. Images of another size are reduced to the network's own."""
        objectness, offset, logits = self.network(self.fitted(images))
        chance = objectness.sigmoid()                                                         # B G G
        cells = self.cells(chance)
        middle = ((cells + offset) / self.network.cells).movedim(1, -1)                       # B G G 2
        classes = {name: logit.argmax(1) for name, logit in logits.items()}                   # B G G
        found: list[list[dict[str, Any]]] = [[] for _ in images]
        rows, down, right = (chance > 0.3).nonzero(as_tuple=True)
        order = chance[rows, down, right].argsort(descending=True)
        for row, y, x in zip(rows[order].tolist(), down[order].tolist(), right[order].tolist()):
            place = middle[row, y, x].tolist()
            if all(abs(complex(*place) - complex(other["x"], other["y"])) * self.network.cells > APART for other in found[row]):
                words = {name: self.network.attributes[name][known[row, y, x]] for name, known in classes.items()}
                found[row].append({**words, "x": place[0], "y": place[1], "confidence": float(chance[row, y, x])})
        return found

    def features(self, images: Tensor) -> Tensor:
        """The representation [B, D] before the last layer, averaged over the cells."""
        return self.network.features(self.fitted(images)).mean((2, 3))

    def fitted(self, images: Tensor) -> Tensor:
        size = self.network.image_size
        if images.shape[-1] == size:
            return images
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    def toward(self, centre: Tensor) -> Tensor:
        """From the middle of each cell to each object's [B, K, 2 (x, y), G, G], in cells."""
        return centre[..., None, None] * self.network.cells - self.cells(centre)

    def cells(self, like: Tensor) -> Tensor:
        """The middles of the cells [2 (x, y), G, G], in cells."""
        steps = torch.arange(self.network.cells, device=like.device) + 0.5
        return torch.stack(torch.meshgrid(steps, steps, indexing="xy"))
