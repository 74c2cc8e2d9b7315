import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lightning_modules.losses.variational import importance_weighted_bound, kl_to_standard_normal, linear_warm_up, log_normal


def test_kl_equals_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(7, 5, generator=generator).double(), torch.randn(7, 5, generator=generator).double()
    theirs = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(kl_to_standard_normal(mu.float(), logvar.float()), theirs.float(), atol=1e-5, rtol=1e-6)
    assert kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


def test_log_normal_equals_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    x, mu, logvar = torch.randn(3, 7, 5, generator=generator).double()
    torch.testing.assert_close(log_normal(x, mu, logvar), Normal(mu, (logvar / 2).exp()).log_prob(x).sum(1))
    torch.testing.assert_close(log_normal(x), Normal(0.0, 1.0).log_prob(x).sum(1))


def test_importance_weighted_bound():
    weights = torch.tensor([[0.5, 2.0], [1.5, 2.0], [4.0, 2.0]])
    torch.testing.assert_close(importance_weighted_bound(weights.log()), torch.tensor([2.0, 2.0]).log())
    assert importance_weighted_bound(torch.tensor([[-2000.0], [-2000.0 + math.log(3)]])).item() == pytest.approx(-2000 + math.log(2))


def test_warm_up():
    assert [linear_warm_up(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert linear_warm_up(0, 0) == 1
