"""A picture as a grid of cells, each of which says whether it lies in an object, where its middle is, and what it is."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.second(F.relu(self.norm1(self.first(x))))))


class ObjectGrid(nn.Module):
    """Image [B, C, S, S] in [-1, 1] -> objectness [B, G, G] and offset [B, 2, G, G] in cells, and the logits [B, K, G, G] of
    each attribute, by name; `features` gives the map [B, D, G, G] before the last layer.

    `attributes` names the classes of each attribute. The side S is halved until G = `cells` are left.
    """

    def __init__(self, attributes: Mapping[str, Sequence[str]], channels: int = 3, image_size: int = 32, cells: int = 8,
                 width: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.attributes = {name: list(names) for name, names in attributes.items()}
        self.channels, self.image_size, self.cells = channels, image_size, cells
        halvings = (image_size // cells).bit_length() - 1
        if halvings < 1 or cells << halvings != image_size:
            raise ValueError(f"image_size {image_size}: a grid of {cells} cells takes {cells} times 2, 4, 8, ...; "
                             "set --data.image_size 32, or other --model.network.cells")
        parts: list[nn.Module] = []
        before = channels
        for number in range(halvings):
            after = width << min(number, 1)
            parts += [nn.Conv2d(before, after, 5 if number == 0 else 3, stride=2, padding=2 if number == 0 else 1, bias=False),
                      nn.BatchNorm2d(after), nn.ReLU(), *(Residual(after) for _ in range(depth))]
            before = after
        self.features = nn.Sequential(*parts)
        self.dim = before
        self.sizes = [1, 2, *(len(names) for names in self.attributes.values())]
        self.head = nn.Conv2d(before, sum(self.sizes), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        objectness, offset, *logits = self.head(self.features(x)).split(self.sizes, 1)
        return objectness[:, 0], offset, dict(zip(self.attributes, logits, strict=True))
