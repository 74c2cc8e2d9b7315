"""Encoders and decoders of variational autoencoders.

An encoder maps an image [B, C, H, W] in [-1, 1] to mu and logvar [B, D] of a Gaussian over latents, a decoder a latent [B, D] to
[B, P*C, H, W], P parameters of the pixel's distribution. Where `num_classes` is a number, both take a one-hot label [B, K] besides.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLPEncoder(nn.Module):
    """Fully connected layers on the pixels, the label beside them."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 16,
                 width: int = 512, depth: int = 2) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.layers = perceptron(channels * image_size**2 + (num_classes or 0), width, depth)
        self.head = nn.Linear(width, 2 * latent_dim)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = image.flatten(1)                                                                  # B CHW
        x = self.layers(x if label is None else torch.cat([x, label], 1))                     # B width
        mu, logvar = self.head(x).chunk(2, dim=1)                                             # B D, B D
        return mu, logvar


class MLPDecoder(nn.Module):
    """Fully connected layers from the latent, the label beside it, to the pixels."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 16,
                 width: int = 512, depth: int = 2, parameters_per_channel: int = 1) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.parameters_per_channel = parameters_per_channel
        self.layers = perceptron(latent_dim + (num_classes or 0), width, depth)
        self.head = nn.Linear(width, parameters_per_channel * channels * image_size**2)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.layers(z if label is None else torch.cat([z, label], 1))                     # B width
        return self.head(x).unflatten(1, (-1, self.image_size, self.image_size))              # B PC H W


class ConvEncoder(nn.Module):
    """Three maps: patches of 2 x 2, half, and a quarter of the side; a label shifts the features of the first map.

    A one-hot label that is added through a 1 x 1 convolution is the same as label planes beside the image, and costs nothing.
    """

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 16,
                 width: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.side = quarter(image_size)
        self.enter = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.label: Any = nn.Linear(num_classes, width, bias=False) if num_classes else None
        self.down = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.hidden = nn.Linear(2 * width * self.side**2 + (num_classes or 0), hidden)
        self.head = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        margin = 4 * self.side - self.image_size
        x = F.pixel_unshuffle(F.pad(image, (0, margin, 0, margin), value=-1.0), 2)            # B 4C H/2 W/2
        x = self.enter(x)                                                                     # B width H/2 W/2
        if label is not None:
            x = x + self.label(label)[:, :, None, None]
        x = F.silu(self.down(F.silu(x))).flatten(1)                                           # B 2*width*H/4*W/4
        x = F.silu(self.hidden(x if label is None else torch.cat([x, label], 1)))             # B hidden
        mu, logvar = self.head(x).chunk(2, dim=1)                                             # B D, B D
        return mu, logvar


class ConvDecoder(nn.Module):
    """The way back: a quarter of the side, half, and patches of 2 x 2."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 16,
                 width: int = 32, hidden: int = 256, parameters_per_channel: int = 1) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.parameters_per_channel, self.side = parameters_per_channel, quarter(image_size)
        self.hidden = nn.Linear(latent_dim + (num_classes or 0), hidden)
        self.map = nn.Linear(hidden + (num_classes or 0), 2 * width * self.side**2)
        self.up = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.leave = nn.Conv2d(width, 4 * parameters_per_channel * channels, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = F.silu(self.hidden(z if label is None else torch.cat([z, label], 1)))             # B hidden
        x = F.silu(self.map(x if label is None else torch.cat([x, label], 1)))                # B 2*width*H/4*W/4
        x = F.silu(self.up(x.unflatten(1, (-1, self.side, self.side))))                       # B width H/2 W/2
        return F.pixel_shuffle(self.leave(x), 2)[:, :, :self.image_size, :self.image_size]    # B PC H W


def perceptron(num_inputs: int, width: int, depth: int) -> nn.Sequential:
    """`depth` fully connected layers of `width`, each with its nonlinearity."""
    widths = [num_inputs, *[width] * depth]
    return nn.Sequential(*[layer for before, after in pairwise(widths)
                           for layer in (nn.Linear(before, after), nn.SiLU())])


def quarter(image_size: int) -> int:
    """A quarter of the side, rounded up."""
    return -(-image_size // 4)
