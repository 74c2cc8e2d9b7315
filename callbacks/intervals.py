"""How sure a measured mean is, and how well confidence agrees with being right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

NUM_RESAMPLES = 2000


def bootstrap(
    values: Tensor, statistic: Callable[[Tensor], Tensor] | None = None, seed: int = 0
) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of a statistic of [N] values, drawn again with replacement 2,000 times.

    `statistic` maps [B, N] to [B]; by default the mean. The same for the same values and seed.
    """
    generator = torch.Generator().manual_seed(seed)
    values = values.detach().double().cpu()
    parts = []
    for num in [NUM_RESAMPLES // 20] * 20:  # little memory, whatever N
        drawn = values[torch.randint(len(values), (num, len(values)), generator=generator)]
        parts.append(drawn.mean(1) if statistic is None else statistic(drawn))
    low, high = torch.cat(parts).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def calibration_error(confidence: Tensor, right: Tensor, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, 1706.04599) of answers [N]: over bins of equal width of the confidence
    in 0..1, the mean distance of the share that is right from the mean confidence."""
    confidence, right = confidence.double().cpu(), right.double().cpu()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)[1:-1]
    which = torch.bucketize(confidence, edges)
    apart = np.bincount(which, weights=(right - confidence).numpy(), minlength=num_bins)
    return float(np.abs(apart).sum() / len(confidence))
