"""The exact denoisers against slow or drawn truth."""

import pytest
import torch

from lightning_modules.diffusion.exact import GaussianDenoiser, PointsDenoiser, final_std
from lightning_modules.diffusion.samplers import DDIM, Ancestral, DPMSolverPP2M, Heun, Sampler
from lightning_modules.diffusion.schedules import Cosine, LinearBetas, RectifiedFlow, Schedule


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=str)
def test_gaussian_denoiser_is_the_regression_of_x0_on_x_t(schedule: Schedule) -> None:
    x0, eps = torch.randn(2, 1, 400_000, generator=torch.Generator().manual_seed(0))
    for clock in (0.2, 0.5, 0.9):
        t = torch.tensor([clock])
        alpha, sigma = schedule(t, like=x0)
        x_t = alpha * 0.5 * x0 + sigma * eps
        slope = (0.5 * x0 * x_t).mean() / x_t.square().mean()
        assert torch.allclose(GaussianDenoiser(schedule, 0.5)(x_t, t), slope * x_t, atol=0.02)


def test_points_denoiser_is_the_weighted_mean() -> None:
    schedule, generator = LinearBetas(), torch.Generator().manual_seed(0)
    points, x_t = torch.randn(7, 2, 3, 3, generator=generator), torch.randn(4, 2, 3, 3, generator=generator)
    t = torch.tensor([0.1, 0.3, 0.6, 1.0])
    alpha, sigma = schedule(t)
    for i, x0_hat in enumerate(PointsDenoiser(schedule, points)(x_t, t)):
        likelihood = [torch.distributions.Normal(alpha[i] * p, sigma[i]).log_prob(x_t[i]).sum() for p in points]
        weight = torch.stack(likelihood).softmax(0)
        assert torch.allclose(x0_hat, sum(w * p for w, p in zip(weight, points, strict=True)), atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", [DDIM(), DDIM(0.5), Ancestral(), Heun(), DPMSolverPP2M()], ids=str)
def test_final_std_is_what_sampling_gives(sampler: Sampler) -> None:
    schedule, generator = LinearBetas(), torch.Generator().manual_seed(0)
    noise = torch.randn(100_000, 1, generator=generator)
    images = sampler(GaussianDenoiser(schedule, 0.5), noise, schedule=schedule, num_steps=10, generator=generator)
    assert images.std().item() == pytest.approx(final_std(sampler, schedule, 10, 0.5), rel=0.01)
