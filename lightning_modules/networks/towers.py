"""Two towers and the space in which their vectors meet: small ones by configuration, or any architecture of open_clip by name."""

from typing import Any

from torch import Tensor, nn


class TwoTowers(nn.Module):
    """`image(images) -> [B, D]`, `text(tokens, mask) -> [B, D]`, not normalised: I_f @ W_i and T_f @ W_t of CLIP's pseudo-code.

    Args:
        image: images [B, C, H, W] in [-1, 1] -> features [B, image.width].
        text: tokens int64 [B, T], mask bool [B, T] -> features [B, text.width].
        embedding_dim: D.
    """

    def __init__(self, image: nn.Module, text: nn.Module, embedding_dim: int = 128) -> None:
        super().__init__()
        self.image_tower: Any = image
        self.text_tower: Any = text
        self.embedding_dim = embedding_dim
        self.image_projection = nn.Linear(image.width, embedding_dim, bias=False)             # type: ignore[arg-type]
        self.text_projection = nn.Linear(text.width, embedding_dim, bias=False)               # type: ignore[arg-type]
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    def image(self, images: Tensor) -> Tensor:
        return self.image_projection(self.image_tower(images))

    def text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.text_projection(self.text_tower(tokens, mask))
