"""The pre-norm transformer of CLIP's towers (Radford et al. 2021, section 2.4), of pictures and of texts."""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): tokens [B, N, D] -> same; causal: token n sees tokens 0 to n.

    The weights start as those of CLIP's text tower of `depth` blocks.
    """

    def __init__(self, width: int, heads: int, depth: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        enter, leave = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(enter, nn.GELU(), leave)
        for layer, variance in ((self.to_qkv, 1 / width), (self.to_out, 0.5 / (width * depth)), (enter, 0.5 / width),
                                (leave, 0.5 / (width * depth))):
            nn.init.normal_(layer.weight, std=variance**0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.to_qkv(self.norm1(x)), "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)                # B heads N d
        x = x + self.to_out(rearrange(mixed, "b heads n d -> b n (heads d)"))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Sequential):
    """`depth` blocks of `width` / `head_dim` heads: tokens [B, N, D] -> same."""

    def __init__(self, width: int, depth: int, head_dim: int, causal: bool = False) -> None:
        if width % head_dim:
            raise ValueError(f"width {width} is not a multiple of head_dim {head_dim}; take width {max(1, width // head_dim) * head_dim}")
        super().__init__(*(Block(width, width // head_dim, depth, causal) for _ in range(depth)))
