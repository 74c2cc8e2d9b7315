"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """`guided(x_t, t)` = u + scale * (c - u), from the conditional prediction c and the unconditional u.

    predict: (x_t [B, ...], t [B], condition [B, ...]) -> prediction [B, ...]: eps, x0 or v alike, but before x0 is
    clipped.
    condition, null_condition: [B, ...]; the null may also be one row, to be repeated. A negative prompt takes its
    place.
    scale: 0 is unconditional, 1 conditional (either asks for B predictions), more exaggerates (2B in one pass). The
    paper's w is scale - 1.
    """

    predict: Callable[[Tensor, Tensor, Tensor], Tensor]
    condition: Tensor
    null_condition: Tensor
    scale: float

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        null = self.null_condition.expand_as(self.condition)
        if self.scale == 1:
            return self.predict(x_t, t, self.condition)
        if self.scale == 0:
            return self.predict(x_t, t, null)
        both = self.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([self.condition, null]))  # 2B ...
        c, u = both.chunk(2)
        return u + self.scale * (c - u)
