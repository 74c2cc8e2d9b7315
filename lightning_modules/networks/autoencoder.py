"""Encoders and decoders of variational autoencoders.

An encoder maps an image [B, C, H, W] in [-1, 1] to mu and logvar [B, D] of a Gaussian over latents, a decoder a latent [B, D] to
[B, P*C, H, W], P parameters of the pixel's distribution. Where `num_classes` is a number, both take a one-hot label [B, K] besides.
"""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Layer(nn.Module):
    """SiLU of a linear map or convolution; with classes, each has a gain and a shift of its own for every feature.

    Beside the pixels or the latent as one more input, a label is slow to be used: the latent has told the class by then, and keeps
    telling it (MNIST after 2,500 steps: 82 % of the samples show their class, with gains 97 %).
    """

    def __init__(self, linear: nn.Module, num_features: int, num_classes: int | None) -> None:
        super().__init__()
        self.linear = linear
        self.modulation: Any = None
        if num_classes is not None:
            self.modulation = nn.Linear(num_classes, 2 * num_features, bias=False)
            nn.init.normal_(self.modulation.weight, std=0.5)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        x = self.linear(x)
        if label is not None:
            gain, shift = self.modulation(label).unflatten(1, (2, -1) + (1,) * (x.ndim - 2)).unbind(1)
            x = x * (1 + gain) + shift
        return F.silu(x)


class Perceptron(nn.Module):
    """`depth` fully connected layers [B, num_inputs] -> [B, width]."""

    def __init__(self, num_inputs: int, width: int, depth: int, num_classes: int | None) -> None:
        super().__init__()
        widths = [num_inputs, *[width] * depth]
        self.layers = nn.ModuleList(Layer(nn.Linear(before, after), after, num_classes) for before, after in pairwise(widths))

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, label)
        return x


class MLPEncoder(nn.Module):
    """Fully connected layers on the pixels."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 10,
                 width: int = 512, depth: int = 2) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.layers = Perceptron(channels * image_size**2, width, depth, num_classes)
        self.head = nn.Linear(width, 2 * latent_dim)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.layers(image.flatten(1), label)                                              # B width
        mu, logvar = self.head(x).chunk(2, dim=1)                                             # B D, B D
        return mu, logvar


class MLPDecoder(nn.Module):
    """Fully connected layers from the latent to the pixels."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 10,
                 width: int = 512, depth: int = 2, parameters_per_channel: int = 1) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.parameters_per_channel = parameters_per_channel
        self.layers = Perceptron(latent_dim, width, depth, num_classes)
        self.head = nn.Linear(width, parameters_per_channel * channels * image_size**2)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.layers(z, label)                                                             # B width
        return self.head(x).unflatten(1, (-1, self.image_size, self.image_size))              # B PC H W


class ConvEncoder(nn.Module):
    """Patches of 2 x 2, a map of half the side, one of a quarter, and a fully connected layer."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 10,
                 width: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.side = quarter(image_size)
        self.enter = Layer(nn.Conv2d(4 * channels, width, 3, padding=1), width, num_classes)
        self.down = Layer(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), 2 * width, num_classes)
        self.hidden = Layer(nn.Linear(2 * width * self.side**2, hidden), hidden, num_classes)
        self.head = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        margin = 4 * self.side - self.image_size
        x = F.pixel_unshuffle(F.pad(image, (0, margin, 0, margin), value=-1.0), 2)            # B 4C H/2 W/2
        x = self.down(self.enter(x, label), label)                                            # B 2*width H/4 W/4
        x = self.hidden(x.flatten(1), label)                                                  # B hidden
        mu, logvar = self.head(x).chunk(2, dim=1)                                             # B D, B D
        return mu, logvar


class ConvDecoder(nn.Module):
    """The way back: fully connected, a quarter of the side, half, and patches of 2 x 2."""

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = None, latent_dim: int = 10,
                 width: int = 32, hidden: int = 256, parameters_per_channel: int = 1) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        self.parameters_per_channel, self.side = parameters_per_channel, quarter(image_size)
        self.hidden = Layer(nn.Linear(latent_dim, hidden), hidden, num_classes)
        self.map = Layer(nn.Linear(hidden, 2 * width * self.side**2), 2 * width * self.side**2, num_classes)
        self.up = Layer(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), width, num_classes)
        self.leave = nn.Conv2d(width, 4 * parameters_per_channel * channels, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.map(self.hidden(z, label), label)                                            # B 2*width*H/4*W/4
        x = self.up(x.unflatten(1, (-1, self.side, self.side)), label)                        # B width H/2 W/2
        return F.pixel_shuffle(self.leave(x), 2)[:, :, :self.image_size, :self.image_size]    # B PC H W


def quarter(image_size: int) -> int:
    """A quarter of the side, rounded up."""
    return -(-image_size // 4)
