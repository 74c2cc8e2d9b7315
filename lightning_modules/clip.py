"""CLIP (Radford et al. 2021, 2103.00020): a picture and its caption meet, those of the others keep away.

Minimises the mean of two cross-entropies of the logits exp(t) x_i . y_j of a batch: which text belongs to image i, and which image to
text j; t is learned, and exp(t) is at most 100. Deviation: a caption that occurs twice in the batch is the right answer twice.
"""

import math

import torch
from torch import Tensor

from datamodules.batch import Batch
from lightning_modules.base import Contrastive
from lightning_modules.losses.contrastive import clip_loss

LARGEST = 100.0


class CLIP(Contrastive):
    """`network.image(images [B, C, H, W] in [-1, 1]) -> [B, D]`, `network.text(tokens [B, T], mask [B, T]) -> [B, D]`.

    `scale` is exp(t) at the start; null: that of the network's trained weights, else 1 / 0.07.
    """

    first_scale = 1 / 0.07

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        image, text, same = self.pairs(batch)                                                 # N D, N D, N
        return {"loss": clip_loss(image, text, self.scale, same), "scale": self.scale}

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(LARGEST))

    def probabilities(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Of each image's [B, D] texts [K, D], which is its own: [B, K], in sum 1 over the K."""
        return (self.scale * image_embedding @ text_embedding.T).softmax(1)

    def similarity_settings(self) -> dict[str, str | float | None]:
        """How a cosine becomes a probability, for the declaration that stands beside a metric."""
        return {"loss": "softmax", "scale": self.scale.item(), "bias": None}
