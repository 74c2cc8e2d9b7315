"""Self-attention over the pixels of a feature map."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def start_at_zero(layer: nn.Module) -> None:
    """Sets all parameters of a layer to zero: what it adds to a residual stream is learned from nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class PixelAttention(nn.Module):
    """Residual multi-head self-attention in which every pixel is a token [B, C, H, W] -> same (Ho et al. 2020, appendix B)."""

    def __init__(self, channels: int, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_dim)
        if channels % self.heads:
            raise ValueError(f"attention over {channels} channels cannot be split into {self.heads} heads; "
                             f"choose a width that is a multiple of {head_dim}")
        self.norm = nn.GroupNorm(8, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)
        start_at_zero(self.to_out)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        qkv = rearrange(self.to_qkv(self.norm(x)), "b (three heads d) h w -> three b heads (h w) d",
                        three=3, heads=self.heads)                                            # 3 B heads N d
        mixed = F.scaled_dot_product_attention(*qkv)                                          # B heads N d
        return x + self.to_out(rearrange(mixed, "b heads (h w) d -> b (heads d) h w", h=height))
