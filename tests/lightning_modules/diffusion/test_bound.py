"""The variational bound against a slow loop over torch.distributions, and against the entropy of Gaussian data."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from lightning_modules.diffusion.bound import bits_per_dimension
from lightning_modules.diffusion.exact import GaussianDenoiser, PointsDenoiser
from lightning_modules.diffusion.noise import Generators
from lightning_modules.diffusion.samplers import Denoiser
from lightning_modules.diffusion.schedules import Cosine, LinearBetas, RectifiedFlow, Schedule


def levels_of_256(num: int, std: float) -> Tensor:
    """`num` images of 3 x 8 x 8 with Gaussian pixels, rounded to the 256 levels."""
    x = std * torch.randn(num, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def slow_bound(
    denoiser: Denoiser, x0: Tensor, schedule: Schedule, num_steps: int, generator: torch.Generator
) -> Tensor:
    clock = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    alpha, sigma = schedule.levels(clock)

    def posterior(x0: Tensor, x_t: Tensor, k: int) -> Normal:  # q(x_{k-1} | x_k, x0), Kingma et al. 2021, A.2
        ratio = alpha[k] / alpha[k - 1]
        variance = sigma[k] ** 2 - ratio**2 * sigma[k - 1] ** 2
        mean = ratio * sigma[k - 1] ** 2 / sigma[k] ** 2 * x_t + alpha[k - 1] * variance / sigma[k] ** 2 * x0
        return Normal(mean, (variance * sigma[k - 1] ** 2 / sigma[k] ** 2).sqrt().expand_as(mean))

    nats = kl_divergence(Normal(alpha[-1] * x0, sigma[-1].expand_as(x0)), Normal(torch.zeros_like(x0), 1.0))
    for k in range(num_steps):
        x_k = alpha[k] * x0 + sigma[k] * torch.randn(x0.shape, generator=generator)
        x0_hat = denoiser(x_k, clock[k].expand(len(x0)))
        if k == 0:
            decoder = Normal(x0_hat, posterior(x0, x_k, 1).stddev)
            above = torch.where(x0 > 0.999, torch.ones_like(x0), decoder.cdf(x0 + 1 / 255))
            below = torch.where(x0 < -0.999, torch.zeros_like(x0), decoder.cdf(x0 - 1 / 255))
            nats = nats - (above - below).clamp(min=1e-12).log()
        else:
            nats = nats + kl_divergence(posterior(x0, x_k, k), posterior(x0_hat, x_k, k))
    return nats.flatten(1).sum(1) / (x0[0].numel() * math.log(2))


@pytest.mark.parametrize("schedule", [LinearBetas(40, 1e-3, 0.3), Cosine(40)], ids=str)
def test_all_terms_equal_the_slow_loop(schedule: Schedule) -> None:
    x0 = levels_of_256(4, 0.45)
    denoiser = GaussianDenoiser(schedule, 0.3)  # not the right one: the terms are not tiny
    fast = bits_per_dimension(denoiser, x0, schedule, 39, torch.Generator().manual_seed(0))
    slow = slow_bound(denoiser, x0, schedule, 40, torch.Generator().manual_seed(0))
    assert fast.shape == (4,)
    assert torch.allclose(fast, slow, rtol=1e-5)


@pytest.mark.parametrize("schedule", [LinearBetas(), Cosine(), RectifiedFlow()], ids=str)
def test_gaussian_data_cost_what_their_algebra_says(schedule: Schedule) -> None:
    """With the exact denoiser of N(0, s**2) every term has a closed expectation; the entropy of the data lies below."""
    std, half = 0.25, 1 / 255
    alpha, sigma = schedule.levels(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    snr, error = (alpha / sigma) ** 2, std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)
    prior = (alpha[-1] ** 2 * std**2 + sigma[-1] ** 2 - 1 - 2 * sigma[-1].log()) / 2
    middle = ((snr[:-1] - snr[1:]) / 2 * error[1:]).sum()
    decoder = Normal(0.0, (sigma[0] / sigma[1]) * (sigma[1] ** 2 - (alpha[1] / alpha[0] * sigma[0]) ** 2).sqrt())
    e = torch.linspace(-6, 6, 4001, dtype=torch.float64) * error[0].sqrt()
    cost = -(decoder.cdf(half - e.abs()) - decoder.cdf(-half - e.abs())).log()
    first = (cost * torch.softmax(-(e**2) / (2 * error[0]), 0)).sum()
    expected = ((prior + middle + first) / math.log(2)).item()

    x0 = levels_of_256(64, std).float()
    denoiser = GaussianDenoiser(schedule, std)
    bits = bits_per_dimension(denoiser, x0, schedule, 999, torch.Generator().manual_seed(0)).mean().item()
    assert bits == pytest.approx(expected, abs=0.03)
    assert bits > math.log2(std * math.sqrt(2 * math.pi * math.e) * 127.5)


@pytest.mark.parametrize(
    ("schedule", "expected"), [(LinearBetas(), 4.2262), (Cosine(), 4.1043), (RectifiedFlow(), 4.0704)], ids=str
)
def test_sixteen_levels_cost_little_more_than_four_bits(schedule: Schedule, expected: float) -> None:
    """A perfect model comes down to the entropy of the data, but for the finite steps and for eq. 13's decoder.

    With 1000 steps the sum of the middle terms is 4.2262, 4.1043 and 4.0704 bits (quadrature in float64). The decoder
    is a Gaussian that does not know the levels: right as its mean is, part of its mass lies in other bins.
    """
    levels = torch.arange(0, 256, 17)[:, None] / 127.5 - 1  # 16 1
    denoiser = PointsDenoiser(schedule, levels)
    bits = bits_per_dimension(denoiser, levels.repeat(500, 1), schedule, 999, torch.Generator().manual_seed(0))
    alpha, sigma = schedule.levels(torch.tensor([0.001, 0.002], dtype=torch.float64))
    decoder = Normal(0.0, (sigma[0] / sigma[1]) * (sigma[1] ** 2 - (alpha[1] / alpha[0] * sigma[0]) ** 2).sqrt())
    below = decoder.cdf(torch.tensor(1 / 255, dtype=torch.float64))
    waste = -(14 * (2 * below - 1).log2() + 2 * below.log2()).item() / 16
    assert bits.mean().item() - waste == pytest.approx(expected, abs=0.04)


def test_few_terms_are_unbiased_and_steady() -> None:
    """8 of 999 terms; drawn evenly from all, or at random, they would spread by 11 bits, not by .48."""
    schedule, x0 = Cosine(), levels_of_256(1, 0.25).float()
    denoiser = GaussianDenoiser(schedule, 0.4)
    exact = bits_per_dimension(denoiser, x0.repeat(64, 1, 1, 1), schedule, 999, torch.Generator().manual_seed(0))
    few = bits_per_dimension(denoiser, x0.repeat(2000, 1, 1, 1), schedule, 8, torch.Generator().manual_seed(1))
    assert few.mean().item() == pytest.approx(exact.mean().item(), rel=0.005)
    assert few.std() < 0.6


def test_image_i_has_the_same_bound_in_any_batch() -> None:
    def generators(seeds: range) -> Generators:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    schedule, x0 = Cosine(), levels_of_256(5, 0.3).float()
    denoiser = GaussianDenoiser(schedule, 0.3)
    many = bits_per_dimension(denoiser, x0, schedule, 6, generators(range(5)))
    one = bits_per_dimension(denoiser, x0[3:4], schedule, 6, generators(range(3, 4)))
    assert one[0].item() == pytest.approx(many[3].item(), rel=1e-6)


def test_black_and_white_are_open_levels() -> None:
    """A decoder that is sure of an image beyond the end of the scale pays nothing for it."""
    x0 = torch.tensor([[-1.0], [1.0]])
    bits = bits_per_dimension(lambda x, t: 1.5 * x0, x0, LinearBetas(2, 1e-4, 1e-4), 1)
    inside = bits_per_dimension(lambda x, t: 0.5 * x0, x0, LinearBetas(2, 1e-4, 1e-4), 1)
    assert bits.isfinite().all() and inside.isfinite().all()
    assert (inside > bits + 100).all()


def test_refusals() -> None:
    for schedule, num_terms in ((LinearBetas(1), 5), (Cosine(), 0)):
        with pytest.raises(ValueError, match="the bound needs"):
            bits_per_dimension(lambda x, t: x, torch.zeros(1, 1), schedule, num_terms)
