"""Noise schedules: how much of the image and how much noise is in x_t = alpha * x0 + sigma * eps.

The clock runs from t = 0 (clean) to t = 1 (noise); with T steps, step k is t = k / T and `alpha(k / T) ** 2` is the
published alpha-bar after k steps. Between two steps alpha-bar is interpolated linearly (the variance of a random walk
is linear in time), except where the source gives a formula for every t.

"linear" names two schedules (CompVis' "linear" is our ScaledLinearBetas), so ours are named by formula. In diffusers:
LinearBetas = `linear`, ScaledLinearBetas = `scaled_linear`, Cosine = `squaredcos_cap_v2`, ZeroTerminalSNR =
`rescale_betas_zero_snr=True`, RectifiedFlow = `FlowMatchEulerDiscreteScheduler`; its timestep j is our t = (j + 1) / T.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

CONTINUOUS_STEPS = 1000
"""The chain length used for a schedule that publishes none (Stable Diffusion 3 counts 1000 as well)."""


class Schedule(ABC):
    """A schedule `t -> (alpha, sigma)`; `num_steps` is its published number of steps T, None where it has none."""

    num_steps: int | None

    @abstractmethod
    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, float64 of t's shape, for `t` float64 in [0, 1]."""

    def __call__(self, t: Tensor, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """alpha and sigma for `t` in [0, 1], computed in float64 and returned as float32 (float64 for float64 input).

        Both have t's shape; with `like` of shape [B, ...] and t [B] they are [B, 1, ...], to be multiplied with it.
        """
        clock = t.cpu() if t.device.type == "mps" else t  # an Apple GPU has no float64
        alpha, sigma = self.levels(clock.double())
        shape = t.shape if like is None else (-1,) + (1,) * (like.ndim - 1)
        dtype = torch.promote_types(torch.float32, (t if like is None else like).dtype)
        return alpha.to(t.device, dtype).reshape(shape), sigma.to(t.device, dtype).reshape(shape)


class DiscreteSchedule(Schedule):
    """A schedule given by its T alpha-bars; variance preserving: alpha ** 2 + sigma ** 2 = 1."""

    num_steps: int

    @abstractmethod
    def published(self) -> Tensor:
        """The alpha-bars after 1, 2, ... T steps, float64 [T]."""

    @cached_property
    def alpha_bars(self) -> Tensor:
        """The alpha-bars after 0, 1, ... T steps, float64 [T + 1]; the first is 1: no noise."""
        if self.num_steps < 1:
            raise ValueError(f"num_steps={self.num_steps}: a schedule needs at least one step, for instance 1000")
        return torch.cat([torch.ones(1, dtype=torch.float64), self.published()])

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bars = self.alpha_bars.to(t.device)
        position = t * self.num_steps
        k = position.long().clamp(0, self.num_steps - 1)
        alpha_bar = torch.lerp(alpha_bars[k], alpha_bars[k + 1], position - k)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def from_betas(betas: Tensor) -> Tensor:
    """alpha-bar_k = prod_{i <= k} (1 - beta_i) (Ho et al. 2020, section 2)."""
    if not (betas.min() > 0 and betas.max() < 1):
        raise ValueError(f"betas from {betas.min():g} to {betas.max():g}: every beta must lie between 0 and 1")
    return torch.cumprod(1 - betas, dim=0)


def with_capped_betas(alpha_bars: Tensor) -> Tensor:
    """The alpha-bars [T] of steps 1 ... T whose betas, made from alpha-bars [T + 1], are cut at 0.999 (iDDPM, 3.2)."""
    return from_betas((1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=0.999))


@dataclass(frozen=True)
class LinearBetas(DiscreteSchedule):
    """DDPM's schedule: T betas evenly from `beta_start` to `beta_end`, used as given (Ho et al. 2020, section 4).

    The ends belong to T = 1000. For another T the iDDPM paper (Nichol & Dhariwal 2021) multiplies both by 1000 / T:
    pass them so. With the ends as they are, a chain of T = 100 stops at alpha-bar .36, far from noise.
    """

    num_steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 2e-2

    def published(self) -> Tensor:
        return from_betas(torch.linspace(self.beta_start, self.beta_end, self.num_steps, dtype=torch.float64))


@dataclass(frozen=True)
class ScaledLinearBetas(DiscreteSchedule):
    """Stable Diffusion's schedule: the square roots of the T betas are evenly spaced (in CompVis' code "linear")."""

    num_steps: int = 1000
    beta_start: float = 8.5e-4
    beta_end: float = 1.2e-2

    def published(self) -> Tensor:
        start, end = self.beta_start**0.5, self.beta_end**0.5
        return from_betas(torch.linspace(start, end, self.num_steps, dtype=torch.float64).square())


@dataclass(frozen=True)
class Cosine(DiscreteSchedule):
    """alpha-bar = f(t) / f(0), f(t) = cos((t + s) / (1 + s) * pi / 2)**2, s = `offset` (iDDPM, eq. 17)."""

    num_steps: int = 1000
    offset: float = 0.008

    def published(self) -> Tensor:
        t = torch.linspace(0, 1, self.num_steps + 1, dtype=torch.float64)
        return with_capped_betas(torch.cos((t + self.offset) / (1 + self.offset) * math.pi / 2).square())


@dataclass(frozen=True)
class Sigmoid(DiscreteSchedule):
    """alpha-bar falls as a sigmoid does from `start` to `end`, scaled to run from 1 to 0 (Jabri et al. 2022)."""

    num_steps: int = 1000
    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    def published(self) -> Tensor:
        clock = torch.linspace(self.start, self.end, self.num_steps + 1, dtype=torch.float64)
        curve = torch.sigmoid(clock / self.temperature)
        return with_capped_betas((curve[-1] - curve) / (curve[-1] - curve[0]))


@dataclass(frozen=True)
class ZeroTerminalSNR(DiscreteSchedule):
    """`schedule` with alpha shifted and scaled to end at exactly 0 and begin as before (Lin et al. 2023, algorithm 1).

    At t = 1 there is nothing of the image in x_t: a model that predicts eps learns nothing there, so use V or X0.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        if self.schedule.num_steps is None:
            raise ValueError(
                f"{self.schedule} has no steps to rescale: it ends at zero signal already, use it as it is"
            )

    @property
    def num_steps(self) -> int:  # type: ignore[override]
        assert self.schedule.num_steps is not None
        return self.schedule.num_steps

    def published(self) -> Tensor:
        alpha, _ = self.schedule.levels(torch.arange(1, self.num_steps + 1, dtype=torch.float64) / self.num_steps)
        return ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])).square()


@dataclass(frozen=True)
class OffsetCosine(Schedule):
    """The lecture book's schedule: alpha = cos(angle), sigma = sin(angle), the angle even in t (Foster, chapter 8).

    alpha runs from `max_signal` at t = 0 (so that its cleanest image keeps some noise) to `min_signal` at t = 1.
    """

    num_steps: int = 1000
    max_signal: float = 0.95
    min_signal: float = 0.02

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        first, last = math.acos(self.max_signal), math.acos(self.min_signal)
        angle = first + t * (last - first)
        return angle.cos(), angle.sin()


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """The straight line x_t = (1 - t) * x0 + t * eps (Liu et al. 2022; Esser et al. 2024)."""

    num_steps = None

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t
