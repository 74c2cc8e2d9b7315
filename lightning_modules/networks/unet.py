"""The U-Net of DDPM and improved DDPM: residual blocks steered by time and label, attention where the map is small."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.attention import PixelAttention, start_at_zero
from lightning_modules.networks.embeddings import LabelEmbedding, TimeEmbedding


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a skip; the embedding scales and shifts the second norm (Nichol & Dhariwal 2021, section 3).

    [B, in_channels, H, W], [B, dim] -> [B, out_channels, H, W]. The last convolution starts at zero: at first the block is its skip.
    """

    def __init__(self, in_channels: int, out_channels: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.steer = nn.Linear(dim, 2 * out_channels)
        self.norm2 = nn.GroupNorm(8, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        start_at_zero(self.conv2)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.steer(embedding)[:, :, None, None].chunk(2, dim=1)                # B C 1 1
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.skip(x) + self.conv2(self.dropout(h))


class Stage(nn.Module):
    """A residual block, and attention after it where the level has it."""

    def __init__(self, in_channels: int, out_channels: int, dim: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, dim, dropout)
        self.attention = PixelAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.block(x, embedding))


class Halve(nn.Module):
    """[B, C, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)], by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(x)


class Double(nn.Module):
    """[B, C, h, w] -> [B, C, H, W], the size of `like`: nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, size=like.shape[-2:], mode="nearest"))


class UNet(nn.Module):
    """Noisy image, time and (optionally) label -> an image-shaped prediction.

    `network(x_t [B, C, H, W], t [B] in [0, 1], label [B] or None) -> [B, C, H, W]`. Any H and W; label `num_classes` is the null
    class. `multipliers` give the width of each level, from full resolution down (each level halves the map); levels named in
    `attention_levels`, and the middle, attend. `patch` > 1 works on patches of patch x patch pixels as channels, which saves
    patch**2 of the time and suits smooth pictures (Hoogeboom et al. 2023, 2301.11093, section 3.4). Sizes: width 24, (1, 2, 2):
    0.6 M parameters; width 128, (1, 2, 2, 2), two blocks a level: 38 M, the CIFAR-10 network of Ho et al. 2020 (2006.11239,
    appendix B; 36 M there, without the scales of the norms and the label).
    """

    def __init__(self, channels: int = 3, num_classes: int | None = None, width: int = 64,
                 multipliers: Sequence[int] = (1, 2, 2), blocks_per_level: int = 1,
                 attention_levels: Sequence[int] = (), dropout: float = 0.0, patch: int = 1) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"width {width} is not a multiple of 8 (group norm has 8 groups); try {8 * max(1, round(width / 8))}")
        self.channels, self.num_classes, self.patch = channels, num_classes, patch
        dim = 4 * width
        self.time = TimeEmbedding(width, dim)
        self.label = LabelEmbedding(num_classes, dim) if num_classes is not None else None
        self.stem = nn.Conv2d(channels * patch**2, width, 3, padding=1)

        widths = [width * multiplier for multiplier in multipliers]
        skips, here = [width], width
        self.down = nn.ModuleList()
        for level, there in enumerate(widths):
            for _ in range(blocks_per_level):
                self.down.append(Stage(here, there, dim, dropout, level in attention_levels))
                here = there
                skips.append(here)
            if level < len(widths) - 1:
                self.down.append(Halve(here))
                skips.append(here)

        self.middle = nn.ModuleList([Stage(here, here, dim, dropout, True), Stage(here, here, dim, dropout, False)])

        self.up = nn.ModuleList()
        for level, there in reversed(list(enumerate(widths))):
            for _ in range(blocks_per_level + 1):
                self.up.append(Stage(here + skips.pop(), there, dim, dropout, level in attention_levels))
                here = there
            if level:
                self.up.append(Double(here))

        self.norm = nn.GroupNorm(8, here)
        self.head = nn.Conv2d(here, channels * patch**2, 3, padding=1)
        start_at_zero(self.head)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        embedding = self.time(t)                                                              # B D
        if self.label is not None:
            if label is None:
                label = torch.full((len(x),), self.label.null, device=x.device)
            embedding = embedding + self.label(label)
        embedding = F.silu(embedding)

        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch, 0, -height % self.patch))
        h = self.stem(F.pixel_unshuffle(x, self.patch))                                       # B width H/patch W/patch
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, embedding)
        for layer in self.up:
            h = layer(h, skips[-1]) if isinstance(layer, Double) else layer(torch.cat([h, skips.pop()], dim=1), embedding)
        output = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
        return output[..., :height, :width]                                                   # B C H W
