import math

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from lightning_modules.losses.likelihoods import LEVEL, Bernoulli, DiscretisedLogistic, Gaussian

SHAPE = (3, 2, 4, 5)


def random(shape=SHAPE, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(likelihood, seed: int = 1) -> torch.Tensor:
    channels = SHAPE[1] * likelihood.parameters_per_channel
    return torch.randn(SHAPE[0], channels, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels() -> torch.Tensor:
    return torch.arange(256, dtype=torch.float64) * LEVEL - 1


def test_bernoulli_equals_that_of_torch():
    output, white = outputs(Bernoulli()), (random() < 0.5).double()
    theirs = TorchBernoulli(logits=output).log_prob(white).flatten(1).sum(1)
    torch.testing.assert_close(Bernoulli().log_prob(output, 2 * white - 1), theirs)
    torch.testing.assert_close(Bernoulli().mean(output), 2 * TorchBernoulli(logits=output).mean - 1)


def test_bernoulli_observes_grey_as_a_share_of_white():
    image = torch.full((1, 1, 100, 100), 0.5)
    seen = Bernoulli().observe(image, random(image.shape).float())
    assert set(seen.unique().tolist()) == {-1.0, 1.0}
    assert seen.mean().item() == pytest.approx(0.5, abs=0.03)
    black_and_white = torch.tensor([[[[-1.0, 1.0]]]])
    assert torch.equal(Bernoulli().observe(black_and_white, torch.zeros(1, 1, 1, 2)), black_and_white)
    assert torch.equal(Bernoulli().observe(black_and_white, torch.full((1, 1, 1, 2), 0.999999)), black_and_white)


def test_gaussian_equals_that_of_torch_per_level():
    likelihood = Gaussian(0.3).double()
    output, image = outputs(likelihood), random() * 2 - 1
    scale = likelihood.log_scale.exp().item()
    theirs = Normal(127.5 * output, 127.5 * scale).log_prob(127.5 * image).flatten(1).sum(1)     # one level is one unit
    torch.testing.assert_close(likelihood.log_prob(output, image), theirs)


def test_gaussian_learns_its_scale():
    likelihood = Gaussian(1.0).double()
    image = 0.1 * torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (-likelihood.log_prob(torch.zeros_like(image), image).mean() / 64).backward()
        optimizer.step()
    assert likelihood.log_scale.exp().item() == pytest.approx(image.std().item(), rel=0.02)


def test_gaussian_bounds_the_mass_of_a_level():
    """The expected log density per level under noise as wide as a level is below the log of the mass of the level."""
    likelihood, image = Gaussian(0.01).double(), torch.zeros(2000, 1, 1, 1, dtype=torch.float64)
    output = torch.full_like(image, 0.012)
    seen = likelihood.observe(image, (torch.arange(2000, dtype=torch.float64).view(-1, 1, 1, 1) + 0.5) / 2000)
    assert seen.min().item() == pytest.approx(-LEVEL / 2, rel=1e-2)
    assert seen.max().item() == pytest.approx(LEVEL / 2, rel=1e-2)
    normal = Normal(0.012, likelihood.log_scale.exp().item())
    mass = (normal.cdf(torch.tensor(LEVEL / 2)) - normal.cdf(torch.tensor(-LEVEL / 2))).log().item()
    bound = likelihood.log_prob(output, seen).mean().item()
    assert mass - 0.05 < bound < mass


def test_discretised_logistic_equals_a_slow_loop():
    likelihood = DiscretisedLogistic()
    output, level = outputs(likelihood), (random() * 256).long()
    image = levels()[level]
    total = torch.zeros(3, dtype=torch.float64)
    for place in [(b, c, h, w) for b in range(3) for c in range(2) for h in range(4) for w in range(5)]:
        b, c, h, w = place
        location, scale = output[place].item(), math.exp(output[b, c + 2, h, w].item())
        below, above = (1 / (1 + math.exp(-(image[place].item() + side - location) / scale)) for side in (-LEVEL / 2, LEVEL / 2))
        k = level[place].item()
        total[b] += math.log((1.0 if k == 255 else above) - (0.0 if k == 0 else below))
    torch.testing.assert_close(likelihood.log_prob(output, image), total, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("location", "log_scale"), [(0.0, -3.0), (-0.99, -6.0), (0.3, 2.0), (5.0, -1.0), (-1.0, -20.0)])
def test_discretised_logistic_sums_to_one_over_its_levels(location, log_scale):
    likelihood = DiscretisedLogistic()
    output = torch.tensor([location, log_scale]).view(1, 2, 1, 1).expand(256, -1, -1, -1)
    log_mass = likelihood.log_prob(output, levels().float().view(256, 1, 1, 1))
    assert torch.isfinite(log_mass).all()
    assert log_mass.double().exp().sum().item() == pytest.approx(1, abs=1e-4)
    mean = (log_mass.double().exp() * levels()).sum().item()
    assert likelihood.mean(output)[0].item() == pytest.approx(mean, abs=LEVEL / 2 + 1e-4)


def test_discretised_logistic_has_a_gradient_far_from_the_image():
    output = torch.tensor([60.0, -6.0]).view(1, 2, 1, 1).requires_grad_()
    DiscretisedLogistic().log_prob(output, torch.zeros(1, 1, 1, 1)).backward()
    assert torch.isfinite(output.grad).all()
    assert output.grad[0, 0].item() < 0


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.1).double(), DiscretisedLogistic()], ids=lambda one: type(one).__name__)
def test_samples_have_the_mean(likelihood):
    output = (outputs(likelihood) / 2)[:1]
    mean = likelihood.mean(output)
    assert mean.min() >= -1 and mean.max() <= 1
    num = 4000
    drawn = likelihood.sample(output.expand(num, -1, -1, -1), random((num, *SHAPE[1:]), seed=3))
    assert drawn.min() >= -1 and drawn.max() <= 1
    if not isinstance(likelihood, Gaussian):       # whose mean is the location, cut to the range of images
        torch.testing.assert_close(drawn.mean(0), mean[0], atol=0.06, rtol=0)
    if isinstance(likelihood, DiscretisedLogistic):
        torch.testing.assert_close((drawn + 1) / LEVEL, ((drawn + 1) / LEVEL).round(), atol=1e-6, rtol=0)


def test_a_gaussian_without_width_is_refused():
    with pytest.raises(ValueError, match="scale 0 is not above 0"):
        Gaussian(0)
