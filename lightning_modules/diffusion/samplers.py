"""From noise to an image, by a denoiser: six published samplers and the one loop that runs them all.

A sampler sees a denoiser `x0_hat = denoiser(x_t, t)` and a schedule, never a model. Before the loop it writes down
its chain as `Step`s, each of them one linear update; the loop only asks the denoiser and adds up. Nothing divides by
alpha, so chains may begin at pure noise (alpha = 0). The caller switches gradients off.

    ours                diffusers                          k-diffusion, web UIs     the same numbers as
    Ancestral()         DDPMScheduler (fixed_small)                                 DDIM(eta=1), EulerAncestral()
    DDIM(eta)           DDIMScheduler (eta)
    Euler()             EulerDiscreteScheduler             sample_euler             DDIM(eta=0)
    EulerAncestral()    EulerAncestralDiscreteScheduler    "Euler a"                Ancestral()
    Heun()              HeunDiscreteScheduler              sample_heun
    DPMSolverPP2M()     DPMSolverMultistepScheduler        sample_dpmpp_2m

diffusers' `clip_sample` belongs to the denoiser here. Its Euler, Euler ancestral and Heun schedulers keep x_t / alpha
instead of x_t; times alpha, they are the formulas below. Its timestep j is our t = (j + 1) / T.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_modules.diffusion.noise import Generators, randn
from lightning_modules.diffusion.schedules import CONTINUOUS_STEPS, Schedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
Spacing = Literal["leading", "trailing", "linspace"]
Progress = Callable[[Sequence["Step"]], Iterable["Step"]]


class Level(NamedTuple):
    """A noise level of the chain: the clock, and x_t = alpha * x0 + sigma * eps there."""

    t: float
    alpha: float
    sigma: float


class Step(NamedTuple):
    """Ask the denoiser for x0_hat at clock `t`; x becomes the sum of what the coefficients are named after, times them.

    `change` multiplies x0_hat minus the x0_hat of the step before, `noise` fresh noise.
    """

    t: float
    x: float
    x0: float
    noise: float = 0.0
    change: float = 0.0


class Sampler(ABC):
    """`sampler(denoiser, noise, schedule=..., num_steps=...)` -> images.

    spacing: which of the schedule's T steps a chain of fewer steps visits (Lin et al. 2023, table 2): "trailing"
    begins at T (so that noise is what the model expects there), "leading" ends at 1 and begins below T, "linspace"
    does both ends.
    """

    spacing: Spacing

    @abstractmethod
    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        """The updates that lead through `levels`, from the noisiest to the clean image, Level(0, 1, 0)."""

    def chain(self, schedule: Schedule, num_steps: int, start: float = 1.0) -> list[Step]:
        """The whole chain of updates; arguments as in the call."""
        clock = spaced(self.spacing, num_steps, schedule.num_steps or CONTINUOUS_STEPS, start)
        alpha, sigma = schedule.levels(torch.tensor(clock, dtype=torch.float64))
        return list(self.steps([*map(Level, clock, alpha.tolist(), sigma.tolist()), Level(0.0, 1.0, 0.0)]))

    def __call__(
        self,
        denoiser: Denoiser,
        noise: Tensor,
        *,
        schedule: Schedule,
        num_steps: int,
        generator: Generators = None,
        start: float = 1.0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Images [B, ...] from `noise` [B, ...], the x_t of the first level.

        denoiser: (x_t [B, ...], t [B] in (0, 1]) -> the predicted clean image [B, ...].
        num_steps: length of the chain from t = 1; of it the last `start` * num_steps steps are made, from t = `start`.
        generator: as in `noise.randn`, for the fresh noise of the stochastic samplers.
        progress: wraps the list of steps, as tqdm does.
        """
        steps = self.chain(schedule, num_steps, start)
        return follow(steps, denoiser, noise, lambda: randn(noise.shape, generator, noise.device), progress)


def follow(
    steps: Sequence[Step], denoiser: Denoiser, x: Tensor, draw: Callable[[], Tensor], progress: Progress | None = None
) -> Tensor:
    """Runs a chain from `x` [B, ...]; `draw()` gives the fresh noise of a step."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    clock = torch.tensor([step.t for step in steps], dtype=dtype, device=x.device)
    times = iter(clock[:, None].repeat(1, len(x)))  # B
    previous = x
    for step in progress(steps) if progress else steps:
        x0 = denoiser(x, next(times))
        x = step.x * x + step.x0 * x0
        if step.noise:
            x = x + step.noise * draw()
        if step.change:
            x = x + step.change * (x0 - previous)
        previous = x0
    return x


def spaced(spacing: Spacing, num_steps: int, total: int, start: float = 1.0) -> list[float]:
    """The clock values, falling, at which a chain of `num_steps` of `total` steps asks the denoiser.

    With `start` < 1 the chain is a proportionally shorter one over [0, start]: what is left when its beginning is
    skipped.
    """
    if not 1 <= num_steps <= total:
        raise ValueError(f"num_steps={num_steps}: the schedule has {total} steps, ask for 1 to {total}")
    if not 0 < start <= 1:
        raise ValueError(f"start={start}: the clock runs from 0 (clean) to 1 (noise), start in (0, 1]")
    last, num = max(1, round(start * total)), max(1, round(start * num_steps))
    if spacing == "leading":
        visited = [1 + i * (last // num) for i in range(num)]
    elif spacing == "trailing" or num == 1:
        visited = [round(last * i / num) for i in range(1, num + 1)]
    elif spacing == "linspace":
        visited = [1 + round((last - 1) * i / (num - 1)) for i in range(num)]
    else:
        raise ValueError(f"spacing={spacing!r}: choose leading, trailing or linspace")
    return [k / total for k in reversed(visited)]


@dataclass(frozen=True)
class Ancestral(Sampler):
    """Draws from the posterior q(x_s | x_t, x0_hat) (Ho et al. 2020, eq. 6 and 7; for any alpha and sigma, Kingma et
    al. 2021, appendix A)."""

    spacing: Spacing = "trailing"

    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        for (t, alpha_t, sigma_t), (_, alpha_s, sigma_s) in pairwise(levels):
            alpha_ts = alpha_t / alpha_s  # q(x_t | x_s) = N(alpha_ts * x_s, variance_ts)
            variance_ts = sigma_t**2 - alpha_ts**2 * sigma_s**2
            yield Step(
                t,
                x=alpha_ts * sigma_s**2 / sigma_t**2,
                x0=alpha_s * variance_ts / sigma_t**2,
                noise=math.sqrt(variance_ts) * sigma_s / sigma_t,
            )


@dataclass(frozen=True)
class DDIM(Sampler):
    """x_s = alpha_s * x0_hat + sqrt(sigma_s ** 2 - up ** 2) * eps_hat + up * noise (Song et al. 2020, eq. 12 and 16).

    up = `eta` * the posterior's standard deviation: eta = 0 is deterministic, eta = 1 is Ancestral.
    """

    eta: float = 0.0
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta}: choose 0 (deterministic) to 1 (the noise of DDPM)")

    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        for (t, alpha_t, sigma_t), (_, alpha_s, sigma_s) in pairwise(levels):
            up = self.eta * sigma_s / sigma_t * math.sqrt(sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2)
            along = math.sqrt(max(0.0, sigma_s**2 - up**2)) / sigma_t  # eps_hat = (x_t - alpha_t * x0_hat) / sigma_t
            yield Step(t, x=along, x0=alpha_s - along * alpha_t, noise=up)


@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method for dx/ds = (x - x0_hat) / s, where s = sigma / alpha and x = x_t / alpha (Karras et al. 2022,
    algorithm 1).

    The same numbers as DDIM(eta=0); with RectifiedFlow, x + (t_next - t) * velocity.
    """

    spacing: Spacing = "trailing"

    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        return (_euler(here, there) for here, there in pairwise(levels))


def _euler(here: Level, there: Level) -> Step:
    ratio = there.sigma / here.sigma
    return Step(here.t, x=ratio, x0=there.alpha - ratio * here.alpha)


def _shrinkage(here: Level, there: Level) -> float:
    """s_there / s_here for s = sigma / alpha; 0 from pure noise and to the clean image."""
    return there.sigma * here.alpha / (there.alpha * here.sigma)


@dataclass(frozen=True)
class EulerAncestral(Sampler):
    """ "Euler a": Euler's step down to s_down, then fresh noise up to s_next (k-diffusion, `get_ancestral_step`).

    s_up = s_next * sqrt(1 - (s_next / s) ** 2) and s_down = s_next ** 2 / s, s = sigma / alpha; the same numbers as
    Ancestral.
    """

    spacing: Spacing = "trailing"

    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        for here, there in pairwise(levels):
            q = _shrinkage(here, there)
            yield Step(
                here.t,
                x=q * there.sigma / here.sigma,
                x0=there.alpha * (1 - q**2),
                noise=there.sigma * math.sqrt(1 - q**2),
            )


@dataclass(frozen=True)
class Heun(Sampler):
    """Euler's step, then the mean of the slopes at its two ends (Karras et al. 2022, algorithm 1): 2 * num_steps - 1
    denoisings.

    The second half is x <- x + (alpha / 2) * (1 / q - 1) * (change of x0_hat), q = s_next / s. It is left out of the
    last step (as published), and of a step from s > 1000, where the first slope is of no use and 1 / q has no bound.
    """

    spacing: Spacing = "trailing"

    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        for here, there in pairwise(levels):
            yield _euler(here, there)
            if there.sigma > 0 and here.sigma <= 1000 * here.alpha:
                yield Step(there.t, x=1.0, x0=0.0, change=there.alpha / 2 * (1 / _shrinkage(here, there) - 1))


@dataclass(frozen=True)
class DPMSolverPP2M(Sampler):
    """Euler's step with x0_hat drawn on along its last change: DPM-Solver++(2M) (Lu et al. 2022).

    h = -log(s_next / s) is the step in log SNR / 2; x0_hat + (h / (2 * h_before)) * (change of x0_hat) stands for
    x0_hat. The first step has no h_before and the last an endless h: they are Euler's. (diffusers' lists for "leading"
    and "linspace" leave out the last level of a chain of num_steps + 1; ours are those of the other samplers.)
    """

    spacing: Spacing = "trailing"

    def steps(self, levels: Sequence[Level]) -> Iterator[Step]:
        h_before = math.inf
        for here, there in pairwise(levels):
            euler = _euler(here, there)
            q = _shrinkage(here, there)
            h = -math.log(q) if q else math.inf
            yield euler._replace(change=euler.x0 * h / (2 * h_before) if h < math.inf else 0.0)
            h_before = h
