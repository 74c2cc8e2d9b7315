"""Distributions over the clock."""

import pytest
import torch

from lightning_modules.diffusion.timesteps import LogitNormal, Timesteps, Uniform


def test_uniform_quantiles_and_range() -> None:
    t = Uniform()(200_000, generator=torch.Generator().manual_seed(0))
    assert t.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=5e-3)
    assert t.dtype == torch.float32
    # never 0, where there is no noise and the SNR has no bound
    assert t.equal(1 - torch.rand(200_000, generator=torch.Generator().manual_seed(0)))


def test_logit_normal_quantiles() -> None:
    """Quantile p is sigmoid(mean + std * z_p) with z_p the normal's: z = -1.2816, 0, 1.2816 for 10, 50, 90 %."""
    quantiles = torch.tensor([0.1, 0.5, 0.9])
    t = LogitNormal()(200_000, generator=torch.Generator().manual_seed(0))
    assert t.quantile(quantiles).tolist() == pytest.approx([0.2173, 0.5, 0.7827], abs=5e-3)
    t = LogitNormal(mean=-1.0, std=0.5)(200_000, generator=torch.Generator().manual_seed(0))
    assert t.quantile(quantiles).tolist() == pytest.approx([0.1624, 0.2689, 0.4111], abs=5e-3)


@pytest.mark.parametrize("timesteps", [Uniform(), LogitNormal()], ids=str)
def test_the_generator_decides(timesteps: Timesteps) -> None:
    before = torch.get_rng_state()
    first, again = (timesteps(8, "cpu", torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.equal(again)
    assert torch.get_rng_state().equal(before)
