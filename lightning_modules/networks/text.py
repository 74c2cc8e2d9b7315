"""Text towers: tokens [B, T], with a mask [B, T] that is true where a token stands, become one vector of `width` numbers."""

import torch
from torch import Tensor, nn

from lightning_modules.networks.transformer import Transformer


class TextTransformer(nn.Module):
    """Tokens and mask [B, T] -> features [B, width]: the last token's output, after a norm, of a causal transformer (as in CLIP).

    The last token is the one where the mask ends, whatever its id. What stands behind it is never seen, so that the padding is cut
    off first: the cost follows the longest text of the batch.
    """

    def __init__(self, vocabulary_size: int = 49408, context_length: int = 77, width: int = 128, depth: int = 4,
                 head_dim: int = 32) -> None:
        super().__init__()
        self.vocabulary_size, self.context_length, self.width, self.head_dim = vocabulary_size, context_length, width, head_dim
        self.words = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Parameter(0.01 * torch.randn(context_length, width))
        self.transformer = Transformer(width, depth, head_dim, causal=True)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(1)                                                                 # B
        tokens = tokens[:, :int(lengths.max())]                                               # B T' <= T
        x = self.transformer(self.words(tokens) + self.positions[:tokens.shape[1]])           # B T' D
        return self.norm(x[torch.arange(len(x), device=x.device), lengths - 1])               # B D


class BagOfWords(nn.Module):
    """Tokens and mask [B, T] -> features [B, width], the mean of the words' vectors: their order says nothing (CBOW)."""

    def __init__(self, vocabulary_size: int = 49408, width: int = 128) -> None:
        super().__init__()
        self.vocabulary_size, self.width = vocabulary_size, width
        self.words = nn.Embedding(vocabulary_size, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return (self.words(tokens) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)      # B D
