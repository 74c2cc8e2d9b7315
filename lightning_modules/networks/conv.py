"""A small residual convolutional network: the reader of little pictures."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """Image [B, C, H, W] in [-1, 1] -> logits [B, K]; `features` gives the [B, D] before the last layer (D = 8 * width).

    Levels of a 3x3 convolution and a residual one; each but the first halves the map. Any H and W.
    """

    def __init__(self, channels: int = 3, num_classes: int = 10, width: int = 16,
                 multipliers: Sequence[int] = (1, 2, 4, 8), dropout: float = 0.1) -> None:
        super().__init__()
        self.channels, self.num_classes = channels, num_classes
        widths = [width * multiplier for multiplier in multipliers]
        self.enter = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1, bias=False)
                                   for before, after in zip([channels, *widths], widths))
        self.refine = nn.ModuleList(nn.Conv2d(after, after, 3, padding=1, bias=False) for after in widths)
        self.norms = nn.ModuleList(nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)]) for after in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        for level, (enter, refine, (norm1, norm2)) in enumerate(zip(self.enter, self.refine, self.norms)):
            if level:
                x = F.max_pool2d(x, 2, ceil_mode=True)                                        # B C ceil(H/2) ceil(W/2)
            x = F.relu(norm1(enter(x)))
            x = F.relu(x + norm2(refine(x)))
        return x.mean((2, 3))                                                                 # B D

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)))
