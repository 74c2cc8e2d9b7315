"""Min-SNR weights against the formulas of its paper."""

import pytest
import torch
from torch import Tensor

from lightning_modules.diffusion.parameterizations import X0, Eps, Parameterization, V, Velocity
from lightning_modules.diffusion.schedules import Cosine, RectifiedFlow
from lightning_modules.diffusion.weightings import MinSNR, Uniform

T = torch.linspace(0.05, 0.999, 50)


def snr_and_weight(parameterization: Parameterization, gamma: float) -> tuple[Tensor, Tensor]:
    alpha, sigma = Cosine()(T)
    return (alpha / sigma) ** 2, MinSNR(gamma)(alpha, sigma, parameterization)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr(gamma: float) -> None:
    snr, weight = snr_and_weight(X0(), gamma)
    assert torch.allclose(weight, torch.minimum(snr, torch.tensor(gamma)))
    snr, weight = snr_and_weight(Eps(), gamma)
    assert torch.allclose(weight, torch.minimum(snr, torch.tensor(gamma)) / snr)
    snr, weight = snr_and_weight(V(), gamma)
    assert torch.allclose(weight, torch.minimum(snr, torch.tensor(gamma)) / (snr + 1))


@pytest.mark.parametrize("parameterization", [X0(), V(), Velocity()], ids=str)
def test_the_same_loss_whatever_is_predicted(parameterization: Parameterization) -> None:
    alpha, sigma = RectifiedFlow()(T)
    x_t, output, wrong = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    loss = MinSNR()(alpha, sigma, parameterization) * (output - wrong) ** 2
    error = parameterization.x0(output, x_t, alpha, sigma) - parameterization.x0(wrong, x_t, alpha, sigma)
    assert torch.allclose(loss, MinSNR()(alpha, sigma, X0()) * error**2, rtol=1e-3, atol=1e-5)


def test_one_weight_per_image() -> None:
    alpha, sigma = Cosine()(T, like=torch.ones(50, 3, 2, 2))
    for weighting in (Uniform(), MinSNR()):
        assert weighting(alpha, sigma, V()).shape == (50,)
    assert Uniform()(alpha, sigma, V()).eq(1).all()


def test_extremes_are_finite() -> None:
    alpha, sigma = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert MinSNR(5.0)(alpha, sigma, V()).tolist() == [0, 0]
    assert MinSNR(5.0)(alpha, sigma, X0()).tolist() == [5, 0]
