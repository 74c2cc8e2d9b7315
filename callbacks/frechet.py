"""Distances between two sets of features: Fréchet distance of the Gaussians fitted to them, and kernel distance
(KID). Pure functions.

d^2 = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2)  (Dowson and Landau 1982; Heusel et al. 2017, 1706.08500,
eq. 6).

The last trace is a sum of square roots of eigenvalues, found without a matrix square root, in float64:

- both covariances at hand: with S_1 = L L^T, S_1 S_2 has the eigenvalues of the symmetric L^T S_2 L;
- fewer samples than dimensions: S = F^T F with F the centred features over sqrt(N - 1), and the trace is the nuclear
norm of F_1 F_2^T, an N x N problem in place of a D x D one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean [D] and covariance (unbiased, over N - 1) of N features, float64; the covariance S as itself or as a
    factor F, S = F^T F."""

    num: int
    mean: Tensor  # D
    covariance: Tensor | None = None  # D D
    factor: Tensor | None = None  # N D

    @classmethod
    def fit(cls, features: Tensor) -> Gaussian:
        """Of features [N, D], N >= 2; keeps the factor where N <= D. Raises ValueError on NaN, infinity or fewer than
        2 rows."""
        num, dim = features.shape
        if num < 2:
            raise ValueError(f"a Gaussian needs at least 2 features, not {num}")
        features = features.double()
        mean = features.mean(0)
        if not torch.isfinite(mean).all():
            raise ValueError("features hold NaN or infinite values: look at the images that they were taken from")
        factor = (features - mean) / (num - 1) ** 0.5
        if num <= dim:
            return cls(num, mean, factor=factor)
        return cls(num, mean, covariance=factor.T @ factor)

    @property
    def trace(self) -> Tensor:
        if self.factor is not None:
            return self.factor.square().sum()
        assert self.covariance is not None
        return self.covariance.trace()


class RunningGaussian:
    """Mean and covariance of features that come in batches, float64, without keeping them (Chan, Golub and LeVeque
    1979)."""

    def __init__(self, dim: int) -> None:
        self.num = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T

    def update(self, features: Tensor) -> None:
        """Takes in a batch [B, D]."""
        features = features.double().to(self.mean.device)
        num, mean = len(features), features.mean(0)
        centred, gap, total = features - mean, mean - self.mean, self.num + num
        self.scatter += centred.T @ centred + torch.outer(gap, gap) * (self.num * num / total)
        self.mean += gap * (num / total)
        self.num = total

    def gaussian(self) -> Gaussian:
        """What has been taken in so far, at least 2 features."""
        if self.num < 2:
            raise ValueError(f"a Gaussian needs at least 2 features, not {self.num}")
        return Gaussian(self.num, self.mean.clone(), covariance=self.scatter / (self.num - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """d^2 of the two Gaussians (the number that is published as FID is this square), at least 0."""
    value = (one.mean - other.mean).square().sum() + one.trace + other.trace - 2 * trace_of_root(one, other)
    if not torch.isfinite(value):
        raise ValueError("the statistics hold NaN or infinite values: no Fréchet distance")
    return max(0.0, value.item())  # rounding alone makes it negative


def trace_of_root(one: Gaussian, other: Gaussian) -> Tensor:
    """tr (S_1 S_2)^(1/2), by the cheapest of the ways above."""
    if one.factor is not None and other.factor is not None:
        return torch.linalg.svdvals(one.factor @ other.factor.T).sum()  # N1 N2
    if one.factor is not None:
        assert other.covariance is not None
        return _sum_of_roots(one.factor @ other.covariance @ one.factor.T)  # N1 N1
    if other.factor is not None:
        return trace_of_root(other, one)
    assert one.covariance is not None and other.covariance is not None
    root = _root(one.covariance)
    return _sum_of_roots(root.T @ other.covariance @ root)  # D D


def _root(covariance: Tensor) -> Tensor:
    """R with R R^T = covariance: Cholesky's, or, where the covariance is singular, the one of its eigenvectors."""
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def _sum_of_roots(matrix: Tensor) -> Tensor:
    """Sum of the square roots of the eigenvalues of a positive semi-definite matrix; what rounding made negative
    counts as 0."""
    return torch.linalg.eigvalsh((matrix + matrix.T) / 2).clamp(min=0).sqrt().sum()


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of features [N, D] and [M, D] under the kernel (x.y / D + 1)^3
    (1801.01401, eq. 3)."""
    (n, dim), m = x.shape, len(y)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T).double().div_(dim).add_(1).pow_(3)

    k_xx, k_yy = kernel(x, x), kernel(y, y)
    within_x = (k_xx.sum() - k_xx.trace()) / (n * (n - 1))
    within_y = (k_yy.sum() - k_yy.trace()) / (m * (m - 1))
    return within_x + within_y - 2 * kernel(x, y).mean()


def kernel_distance(
    x: Tensor, y: Tensor, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID: mean and standard deviation of `polynomial_mmd` over random subsets of features [N, D] and [M, D].

    A subset is at most as large as the smaller set. Where both sets are whole subsets, one estimate says all, and the
    deviation is 0.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2:
        raise ValueError(f"KID needs at least 2 features on each side, not {len(x)} and {len(y)}")
    if size == len(x) == len(y):
        return polynomial_mmd(x, y).item(), 0.0
    generator = torch.Generator().manual_seed(seed)
    values = torch.stack(
        [
            polynomial_mmd(
                x[torch.randperm(len(x), generator=generator)[:size].to(x.device)],
                y[torch.randperm(len(y), generator=generator)[:size].to(y.device)],
            )
            for _ in range(num_subsets)
        ]
    )
    return values.mean().item(), values.std(correction=0).item()
