"""Image towers: a picture becomes one vector of `width` numbers."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.conv import Level
from lightning_modules.networks.transformer import Transformer


class ViT(nn.Module):
    """Image [B, C, S, S] -> features [B, width], the class token after the last norm (Dosovitskiy et al. 2020; as in CLIP).

    The side S must be a multiple of `patch_size`.
    """

    def __init__(self, channels: int = 3, image_size: int = 32, patch_size: int = 4, width: int = 128, depth: int = 4,
                 head_dim: int = 32) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"patch_size {patch_size}: images of {image_size} pixels are not cut into whole patches; "
                             f"set --data.image_size {max(1, round(image_size / patch_size)) * patch_size}, or another patch_size")
        self.channels, self.image_size, self.patch_size, self.width, self.head_dim = channels, image_size, patch_size, width, head_dim
        num_patches = (image_size // patch_size) ** 2
        self.patches = nn.Conv2d(channels, width, patch_size, stride=patch_size, bias=False)
        self.token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positions = nn.Parameter(width**-0.5 * torch.randn(1 + num_patches, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, depth, head_dim)

    def forward(self, images: Tensor) -> Tensor:
        patches = rearrange(self.patches(images), "b d h w -> b (h w) d")                     # B N D
        x = torch.cat([self.token.expand(len(images), 1, -1), patches], dim=1) + self.positions                # B 1+N D
        return self.norm2(self.transformer(self.norm1(x))[:, 0])                              # B D


class ResNet(nn.Module):
    """Image [B, C, S, S] -> features [B, width], width the last of `widths`; each level but the first halves the map.

    As in CLIP's ResNets the mean over the map is the query of an attention over it, so that what stands where is not lost.
    """

    def __init__(self, channels: int = 3, image_size: int = 32, widths: Sequence[int] = (32, 64, 128, 256), head_dim: int = 32) -> None:
        super().__init__()
        self.channels, self.image_size, self.widths, self.width = channels, image_size, list(widths), widths[-1]
        if self.width % head_dim:
            raise ValueError(f"widths {self.widths}: the last is not a multiple of head_dim {head_dim}")
        self.levels = nn.ModuleList(Level(before, after) for before, after in pairwise([channels, *widths]))
        side = -(-image_size // 2 ** (len(widths) - 1))
        self.positions = nn.Parameter(self.width**-0.5 * torch.randn(1 + side**2, self.width))
        self.heads = self.width // head_dim
        self.to_q, self.to_kv, self.to_out = (nn.Linear(self.width, times * self.width) for times in (1, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.levels[0](images)
        for level in self.levels[1:]:
            x = level(F.max_pool2d(x, 2, ceil_mode=True))                                     # B D ceil(H/2) ceil(W/2)
        cells = rearrange(x, "b d h w -> b (h w) d")                                          # B N D
        x = torch.cat([cells.mean(1, keepdim=True), cells], dim=1) + self.positions           # B 1+N D
        q = rearrange(self.to_q(x[:, :1]), "b n (heads d) -> b heads n d", heads=self.heads)
        k, v = rearrange(self.to_kv(x), "b n (two heads d) -> two b heads n d", two=2, heads=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v)                                       # B heads 1 d
        return self.to_out(rearrange(mixed, "b heads 1 d -> b (heads d)"))                    # B D
