"""SigLIP (Zhai et al. 2023, 2303.15343): each picture and each caption are a question of their own, do they belong together?

Minimises -1/N sum_ij log sigmoid(z_ij (exp(t') x_i . y_j + b)), z = 1 for pairs that belong together and -1 for all else; t' and b are
learned. The sign of b is that of the paper's code. Deviations: a caption that occurs twice in the batch belongs to both images; b starts
at -ln(N - 1), the prior odds of a batch of N, where the paper's is -10 (for batches of 32,768; -10.4 by this rule).
"""

import math

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import Contrastive
from lightning_modules.losses.contrastive import siglip_loss


class SigLIP(Contrastive):
    """`network.image(images [B, C, H, W] in [-1, 1]) -> [B, D]`, `network.text(tokens [B, T], mask [B, T]) -> [B, D]`.

    `scale` is exp(t') at the start, and `bias` b; null: those of the network's trained weights, else 10, and b is set at the first
    training batch. `chunk` images at a time the loss needs
    memory in proportion to the batch, not to its square.
    """

    first_scale = 10.0
    started: Tensor

    def __init__(self, network: nn.Module, scale: float | None = None, bias: float | None = None, chunk: int | None = None,
                 optimizer: OptimizerCallable = torch.optim.AdamW, lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(network, scale, optimizer, lr_scheduler)
        self.chunk = chunk
        bias = getattr(network, "learned_bias", None) if bias is None else bias
        self.bias = nn.Parameter(torch.tensor(-10.0 if bias is None else bias))
        self.register_buffer("started", torch.tensor(bias is not None))                       # in the checkpoint: set once in a run

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        image, text, same = self.pairs(batch)                                                 # N D, N D, N
        if self.training and not self.started:
            with torch.no_grad():
                self.bias.fill_(-math.log(max(1, len(image) - 1)))
                self.started.fill_(True)
        loss = siglip_loss(image, text, self.scale, self.bias, same, chunk=self.chunk)
        return {"loss": loss, "scale": self.scale, "bias": self.bias}

    def probabilities(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Of each image [B, D] and each text [K, D], that they belong together: [B, K], whatever the other texts."""
        return (self.scale * image_embedding @ text_embedding.T + self.bias).sigmoid()

    def similarity_settings(self) -> dict[str, str | float | None]:
        """How a cosine becomes a probability, for the declaration that stands beside a metric."""
        return {"loss": "sigmoid", "scale": self.scale.item(), "bias": self.bias.item()}
