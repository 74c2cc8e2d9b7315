"""Our schedules against those of diffusers, which computes them in float32."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from torch import Tensor

from lightning_modules.diffusion.schedules import (
    Cosine,
    DiscreteSchedule,
    LinearBetas,
    RectifiedFlow,
    ScaledLinearBetas,
    Schedule,
    ZeroTerminalSNR,
)

LENGTHS = [10, 100, 1000, 4000]


def ours_and_theirs(name: str, num_steps: int) -> tuple[DiscreteSchedule, DDIMScheduler]:
    schedule: DiscreteSchedule = {
        "linear": LinearBetas(num_steps),
        "scaled_linear": ScaledLinearBetas(num_steps),
        "squaredcos_cap_v2": Cosine(num_steps),
    }[name]
    ends = {"beta_start": 8.5e-4, "beta_end": 0.012} if name == "scaled_linear" else {}
    scheduler = DDIMScheduler(num_train_timesteps=num_steps, beta_schedule=name, **ends)
    return schedule, scheduler


def alpha_bars(schedule: Schedule, num_steps: int) -> Tensor:
    alpha, sigma = schedule.levels(torch.arange(num_steps + 1, dtype=torch.float64) / num_steps)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(alpha))
    return alpha**2


@pytest.mark.parametrize("num_steps", LENGTHS)
@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_alpha_bars_and_betas(name: str, num_steps: int) -> None:
    schedule, scheduler = ours_and_theirs(name, num_steps)
    ours = alpha_bars(schedule, num_steps)
    assert (ours[1:] - scheduler.alphas_cumprod).abs().max() <= 1e-6
    assert (1 - ours[1:] / ours[:-1] - scheduler.betas).abs().max() <= 1e-6


@pytest.mark.parametrize("num_steps", LENGTHS)
@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_zero_terminal_snr(name: str, num_steps: int) -> None:
    schedule, scheduler = ours_and_theirs(name, num_steps)
    ours = alpha_bars(ZeroTerminalSNR(schedule), num_steps)
    betas = rescale_zero_terminal_snr(1 - schedule.alpha_bars[1:] / schedule.alpha_bars[:-1])
    assert ours[-1] == 0
    assert (ours[1:] - torch.cumprod(1 - betas, 0)).abs().max() <= 1e-9
    assert (ours[1:] - torch.cumprod(1 - rescale_zero_terminal_snr(scheduler.betas), 0)).abs().max() <= 5e-6  # float32


def test_float32_calls_agree_with_add_noise() -> None:
    x0, eps = torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    j = torch.tensor([0, 1, 10, 250, 500, 750, 998, 999])
    alpha, sigma = LinearBetas()((j + 1) / 1000, like=x0)
    assert alpha.shape == sigma.shape == (8, 1, 1, 1) and alpha.dtype == sigma.dtype == torch.float32
    assert (alpha * x0 + sigma * eps - DDPMScheduler().add_noise(x0, eps, j)).abs().max() <= 1e-5


def test_rectified_flow_adds_noise_as_flow_matching_does() -> None:
    x0, eps = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler = FlowMatchEulerDiscreteScheduler()
    j = torch.tensor([0, 300, 900])
    alpha, sigma = RectifiedFlow()(scheduler.timesteps[j] / 1000, like=x0)
    assert (alpha * x0 + sigma * eps - scheduler.scale_noise(x0, scheduler.timesteps[j], eps)).abs().max() <= 1e-6
