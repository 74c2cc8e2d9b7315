"""The variational bound on the negative log-likelihood, in bits per dimension (Ho et al. 2020, eq. 5)."""

import math

import torch
from torch import Tensor

from lightning_modules.diffusion.noise import Generators, rand, randn
from lightning_modules.diffusion.samplers import Denoiser
from lightning_modules.diffusion.schedules import CONTINUOUS_STEPS, Schedule

NUM_BINS = 256


def bits_per_dimension(
    denoiser: Denoiser, x0: Tensor, schedule: Schedule, num_terms: int, generator: Generators = None
) -> Tensor:
    """Bits [B] per dimension that the chain needs for `x0` [B, ...]: the sum of `bits_by_term`."""
    return torch.stack([*bits_by_term(denoiser, x0, schedule, num_terms, generator).values()]).sum(0)


def bits_by_term(
    denoiser: Denoiser, x0: Tensor, schedule: Schedule, num_terms: int, generator: Generators = None
) -> dict[str, Tensor]:
    """Bits [B] per dimension that the T-step chain with the posterior's variance needs for `x0` [B, ...] of 256 levels in [-1, 1].

    The bound is L_T ("prior") + L_{T-1} + ... + L_1 ("chain") + L_0 ("decoder": the last step, whose width the schedule sets). Of the
    T - 1 terms of the chain, `num_terms` per image are evaluated and weighted so that the estimate has no bias; with
    num_terms >= T - 1 each is, once. They are taken at even distances (from one random offset per image) in log(1 + SNR), in
    which the terms of data with unit variance are equal.
    `generator` as in `noise.randn`. The chain of a schedule without steps has 1000.
    """
    num_steps = schedule.num_steps or CONTINUOUS_STEPS
    if num_steps < 2 or num_terms < 1:
        raise ValueError(f"num_steps={num_steps}, num_terms={num_terms}: the bound needs 2 steps and 1 term at least")
    clock = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    alpha, sigma = schedule.levels(clock)  # T
    snr = (alpha / sigma) ** 2  # T
    shape = (-1,) + (1,) * (x0.ndim - 1)

    def x0_hat(k: Tensor) -> Tensor:  # k [B] counts from 0, the first step
        noise = randn(x0.shape, generator, x0.device)
        x_t = alpha[k].to(x0).reshape(shape) * x0 + sigma[k].to(x0).reshape(shape) * noise
        return denoiser(x_t, clock[k].to(x0))

    first = torch.zeros(len(x0), dtype=torch.long)
    posterior_std = sigma[0] / sigma[1] * (sigma[1] ** 2 - (alpha[1] / alpha[0] * sigma[0]) ** 2).sqrt()
    decoder = -_log_bin(x0, x0_hat(first), posterior_std.item())
    chain = torch.zeros_like(decoder)
    for k, weight in zip(*_terms(snr, len(x0), num_terms, generator), strict=True):
        error = (x0 - x0_hat(k)).square().flatten(1).sum(1)  # B
        chain = chain + (weight * (snr[k - 1] - snr[k]) / 2).to(x0) * error
    nats = {"prior": _prior(x0, alpha[-1].item(), sigma[-1].item()), "chain": chain, "decoder": decoder}
    return {term: value / (x0[0].numel() * math.log(2)) for term, value in nats.items()}


def _terms(snr: Tensor, batch: int, num_terms: int, generator: Generators) -> tuple[Tensor, Tensor]:
    """Which steps k [M, B] (1 ... T - 1, from 0) are evaluated, and their weights [M, B]."""
    if num_terms >= len(snr) - 1:
        k = torch.arange(1, len(snr))[:, None].expand(-1, batch)
        return k, torch.ones(k.shape, dtype=torch.float64)
    share = (torch.log1p(snr[:-1]) - torch.log1p(snr[1:])) / (torch.log1p(snr[0]) - torch.log1p(snr[-1]))  # T - 1
    offset = rand((batch, 1), generator).double()
    points = (torch.arange(num_terms) + offset) / num_terms  # B M
    chosen = torch.searchsorted(share.cumsum(0), points.T.contiguous(), right=True).clamp(max=len(share) - 1)  # M B
    return chosen + 1, 1 / (num_terms * share[chosen])


def _prior(x0: Tensor, alpha: float, sigma: float) -> Tensor:
    """L_T = KL(N(alpha * x0, sigma ** 2) || N(0, 1)), in nats [B]."""
    return ((alpha * x0) ** 2 + sigma**2 - 1 - 2 * math.log(sigma)).flatten(1).sum(1) / 2


def _log_bin(x0: Tensor, mean: Tensor, std: float) -> Tensor:
    """-L_0: log of the mass that N(mean, std ** 2) puts on the level of x0, in nats [B] (eq. 13).

    The two outermost levels are open. Counted in the left tail, where differences of the distribution function keep
    their digits.
    """
    half = 1 / (NUM_BINS - 1)
    distance = (x0 - mean).double()
    lower = torch.where(x0 < -1 + half, -torch.inf, (distance - half) / std)
    upper = torch.where(x0 > 1 - half, torch.inf, (distance + half) / std)
    flip = lower + upper > 0
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_lower, log_upper = torch.special.log_ndtr(lower), torch.special.log_ndtr(upper)
    return (log_upper + torch.log1p(-torch.exp(log_lower - log_upper))).flatten(1).sum(1).to(x0)
