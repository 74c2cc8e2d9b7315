"""Denoisers that need no training: the exact posterior mean E[x0 | x_t] for data whose distribution is known."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.diffusion.samplers import Sampler, follow
from lightning_modules.diffusion.schedules import Schedule


@dataclass(frozen=True)
class GaussianDenoiser:
    """E[x0 | x_t] = alpha * std**2 * x_t / (alpha**2 * std**2 + sigma**2), for data N(0, std**2) in every pixel."""

    schedule: Schedule
    std: float

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t, like=x_t)
        return alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2) * x_t


@dataclass(frozen=True)
class PointsDenoiser:
    """E[x0 | x_t] for data drawn from `points` [N, ...]: their mean, weighted by N(x_t; alpha * point, sigma**2)."""

    schedule: Schedule
    points: Tensor

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t)  # B
        points = self.points.flatten(1).to(x_t)  # N D
        distance = (x_t.flatten(1)[:, None] - alpha[:, None, None] * points).square().sum(2)  # B N
        weight = torch.softmax(-distance / (2 * sigma[:, None] ** 2), dim=1)  # B N
        return (weight @ points).reshape(x_t.shape)


def final_std(sampler: Sampler, schedule: Schedule, num_steps: int, std: float) -> float:
    """The standard deviation of what `sampler` makes with the exact denoiser of N(0, std**2); nothing is drawn.

    Everything is linear, so that the chain is followed on the coefficients of its independent noises.
    """
    steps = sampler.chain(schedule, num_steps)
    coefficients: Iterator[Tensor] = iter(torch.eye(len(steps) + 1, dtype=torch.float64))
    return follow(steps, GaussianDenoiser(schedule, std), next(coefficients), lambda: next(coefficients)).norm().item()
