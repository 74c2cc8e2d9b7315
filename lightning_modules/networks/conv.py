"""A small residual convolutional network: the reader of little pictures."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class Level(nn.Module):
    """A 3x3 convolution and a residual one [B, in_channels, H, W] -> [B, out_channels, H, W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.refine = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.enter(x)))
        return F.relu(x + self.norm2(self.refine(x)))


class ConvNet(nn.Module):
    """Image [B, C, H, W] in [-1, 1] -> logits [B, K]; `features` gives the [B, D] before the last layer (D = 8 * width).

    Each level but the first halves the map. Any H and W.
    """

    def __init__(self, channels: int = 3, num_classes: int = 10, width: int = 16,
                 multipliers: Sequence[int] = (1, 2, 4, 8), dropout: float = 0.1) -> None:
        super().__init__()
        self.channels, self.num_classes = channels, num_classes
        widths = [width * multiplier for multiplier in multipliers]
        self.levels = nn.ModuleList(Level(before, after) for before, after in pairwise([channels, *widths]))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        for number, level in enumerate(self.levels):
            if number:
                x = F.max_pool2d(x, 2, ceil_mode=True)                                        # B C ceil(H/2) ceil(W/2)
            x = level(x)
        return x.mean((2, 3))                                                                 # B D

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)))
