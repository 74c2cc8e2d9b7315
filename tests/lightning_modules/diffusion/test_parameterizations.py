"""What each target is, and that x0 and eps come back from it, variance preserving or not."""

import pytest
import torch

from lightning_modules.diffusion.parameterizations import X0, Eps, Parameterization, V, Velocity
from lightning_modules.diffusion.schedules import Cosine, RectifiedFlow, Schedule

EVERY = [Eps(), X0(), V(), Velocity()]
X, NOISE = torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
T = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)


def test_targets() -> None:
    x0, eps, alpha, sigma = torch.tensor([[3.0], [5.0], [0.6], [0.8]])
    targets = [parameterization.target(x0, eps, alpha, sigma).item() for parameterization in EVERY]
    assert targets == pytest.approx([5.0, 3.0, 0.6 * 5 - 0.8 * 3, 2.0])


@pytest.mark.parametrize("parameterization", EVERY, ids=str)
@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=str)
def test_x0_and_eps_come_back(parameterization: Parameterization, schedule: Schedule) -> None:
    alpha, sigma = schedule(T, like=X)
    x_t = alpha * X + sigma * NOISE
    output = parameterization.target(X, NOISE, alpha, sigma)
    assert torch.allclose(parameterization.x0(output, x_t, alpha, sigma), X, atol=1e-10)
    assert torch.allclose(parameterization.eps(output, x_t, alpha, sigma), NOISE, atol=1e-10)


@pytest.mark.parametrize("parameterization", EVERY, ids=str)
@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=str)
def test_gain_is_the_derivative(parameterization: Parameterization, schedule: Schedule) -> None:
    alpha, sigma = schedule(T)
    output = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    parameterization.x0(output, torch.ones(6, dtype=torch.float64), alpha, sigma).sum().backward()
    assert output.grad is not None
    assert torch.allclose(parameterization.x0_gain(alpha, sigma), output.grad.abs())


@pytest.mark.parametrize("parameterization", [X0(), V(), Velocity()], ids=str)
def test_pure_noise_is_no_trouble(parameterization: Parameterization) -> None:
    alpha, sigma = torch.zeros(1), torch.ones(1)
    output = parameterization.target(torch.full((1,), 0.5), torch.full((1,), 2.0), alpha, sigma)
    assert parameterization.x0(output, torch.full((1,), 2.0), alpha, sigma).item() == 0.5
