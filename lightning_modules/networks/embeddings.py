"""Numbers and labels become vectors."""

import math

import torch
from torch import Tensor, nn


def sinusoidal(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Sines and cosines of a number at `dim / 2` falling frequencies [B] -> [B, dim] (Vaswani et al. 2017, section 3.5)."""
    frequencies = torch.exp(-math.log(max_period) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angles = t.float()[:, None] * frequencies[None]                                           # B dim/2
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """The noise clock t in [0, 1] -> [B, dim]; t is stretched to [0, 1000], the scale of the published models."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoidal(1000 * t, self.width))


class LabelEmbedding(nn.Embedding):
    """A label in 0 .. K-1, or K for "no label" (the null class of classifier-free guidance) -> [B, dim]."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__(num_classes + 1, dim)
        self.null = num_classes
