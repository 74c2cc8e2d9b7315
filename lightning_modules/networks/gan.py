"""The two players of a GAN for small pictures: noise becomes an image, an image becomes a score."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def one_hot(label: Tensor | None, num_classes: int | None, like: Tensor) -> list[Tensor]:
    """[[B, K]] of labels [B]; nothing where there are no classes: to be joined to other inputs."""
    return [] if num_classes is None or label is None else [F.one_hot(label, num_classes).to(like)]


def quarter(image_size: int) -> int:
    """The side of the map after two halvings."""
    if image_size < 8 or image_size % 4:
        raise ValueError(f"image_size {image_size}: the networks of GANs halve it twice; set --data.image_size "
                         f"{max(8, 4 * round(image_size / 4))}")
    return image_size // 4


class Generator(nn.Module):
    """Noise z [B, Z] and label [B], one-hot beside it, -> image [B, C, S, S] in [-1, 1], S a multiple of 4.

    No norm looks at the batch: an image depends on its own noise and label alone.
    """

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = 10, latent_dim: int = 64,
                 width: int = 32) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes, self.latent_dim = channels, image_size, num_classes, latent_dim
        side = quarter(image_size)
        self.enter = nn.Sequential(nn.Linear(latent_dim + (num_classes or 0), 4 * width * side**2),
                                   nn.Unflatten(1, (4 * width, side, side)))
        self.layers = nn.Sequential(
            nn.GroupNorm(8, 4 * width), nn.ReLU(), nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width), nn.ReLU(), nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.GroupNorm(8, width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        z = torch.cat([z, *one_hot(label, self.num_classes, z)], dim=1)                       # B Z+K
        return self.layers(self.enter(z))                                                     # B C S S


class Critic(nn.Module):
    """Image [B, C, S, S] and label [B] -> score [B], S a multiple of 4; no norm, so that no image's score depends on another's.

    The label comes as K more channels of the image, planes of ones and zeros; with `projection` as an inner product with the
    features instead (Miyato and Koyama 2018, 1802.05637). `spectral` divides each layer by its largest singular value
    (Miyato et al. 2018, 1802.05957).
    """

    def __init__(self, channels: int = 1, image_size: int = 28, num_classes: int | None = 10, width: int = 32,
                 projection: bool = False, spectral: bool = False) -> None:
        super().__init__()
        self.num_classes, self.projection = num_classes, projection
        side = (quarter(image_size) + 1) // 2
        planes = 0 if projection else num_classes or 0
        self.layers = nn.Sequential(
            nn.Conv2d(channels + planes, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.LeakyReLU(0.2), nn.Flatten())
        self.head = nn.Linear(4 * width * side**2, 1)
        self.classes = nn.Linear(num_classes, 4 * width * side**2, bias=False) if projection and num_classes is not None else None
        if spectral:
            for layer in [*self.modules()]:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        said = one_hot(label, self.num_classes, images)                                       # [B K]
        if not self.projection:
            planes = [one[:, :, None, None].expand(-1, -1, *images.shape[2:]) for one in said]
            images = torch.cat([images, *planes], dim=1).contiguous(memory_format=torch.channels_last)     # B C+K S S
        features = self.layers(images)                                                        # B D
        score = self.head(features)[:, 0]                                                     # B
        return score if self.classes is None else score + (features * self.classes(said[0])).sum(1)
