import math

import pytest
import torch
from torch import nn

from lightning_modules.losses.adversarial import (
    Minimax,
    NonSaturating,
    NormalAlpha,
    UniformAlpha,
    gradient_penalty,
    log_losses,
    wasserstein_loss,
)


def images(num: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(num, 2, 3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("alpha", [UniformAlpha(), NormalAlpha()], ids=repr)
@pytest.mark.parametrize("length", [0.2, 1.0, 3.0])
def test_penalty_of_a_linear_critic(alpha, length):
    weight = images(1, seed=1)[0]
    weight = length * weight / weight.norm()
    penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)) + 7, images(5), images(5, seed=2), alpha(5))
    assert penalty.item() == pytest.approx((length - 1) ** 2, abs=1e-6)


def test_penalty_of_a_quadratic_critic():
    """D(x) = a |x|^2 / 2 has gradient a x, and the penalty is of the points between, each with its own alpha."""
    real, fake, alpha = images(4), images(4, seed=2), torch.tensor([0.0, 1.0, 0.3, -0.7])
    penalty = gradient_penalty(lambda x: 1.5 * x.square().sum((1, 2, 3)) / 2, real, fake, alpha.view(4, 1, 1, 1))
    expected = [(1.5 * (a * x + (1 - a) * g).norm().item() - 1) ** 2 for a, x, g in zip(alpha.tolist(), real, fake, strict=True)]
    assert penalty.item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_penalty_reaches_the_weights_of_the_critic():
    """For D(x) = w.x the penalty's gradient is 2 (|w| - 1) w / |w|: a derivative of a derivative."""
    critic = nn.Linear(18, 1)
    gradient_penalty(lambda x: critic(x.flatten(1))[:, 0], images(5), images(5, seed=2), UniformAlpha()(5)).backward()
    weight = critic.weight.detach()
    torch.testing.assert_close(critic.weight.grad, 2 * (weight.norm() - 1) * weight / weight.norm())


@pytest.mark.parametrize("alpha", [UniformAlpha(), NormalAlpha()], ids=repr)
def test_alpha_is_one_per_image(alpha):
    """Seen by the critic: each point lies on the line through its two images, and no two images share a place on it."""
    torch.manual_seed(0)
    real, fake, seen = images(50), images(50, seed=2), []

    def critic(x):
        seen.append(x.detach())
        return x.sum((1, 2, 3))

    gradient_penalty(critic, real, fake, alpha(50))
    place = (seen[0] - fake) / (real - fake)                                                  # B C H W
    torch.testing.assert_close(place, place[:, :1, :1, :1].expand_as(place), atol=2e-3, rtol=2e-3)
    assert len(place[:, 0, 0, 0].unique()) == 50


def test_uniform_stays_on_the_segment_and_a_third_of_the_lectures_does():
    torch.manual_seed(0)
    uniform, normal = UniformAlpha()(200_000), NormalAlpha()(200_000)
    assert ((uniform >= 0) & (uniform <= 1)).all()
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    outside = ((normal < 0) | (normal > 1)).float().mean().item()
    assert outside == pytest.approx(1 - (math.erf(1 / math.sqrt(2)) / 2), abs=0.005)          # 0.6587
    assert outside == pytest.approx(0.659, abs=0.005)
    assert normal.mean().item() == pytest.approx(1, abs=0.01)                                 # around the real image, as in the lecture


def test_losses_in_closed_form():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 1.5, 1.0])
    assert wasserstein_loss(real, fake).item() == pytest.approx(1.0 - 0.5)
    d_real, d_fake = log_losses(real, fake)
    assert d_real.item() == pytest.approx(-real.sigmoid().log().mean().item(), rel=1e-6)
    assert d_fake.item() == pytest.approx(-(1 - fake.sigmoid()).log().mean().item(), rel=1e-6)
    assert Minimax()(fake).item() == pytest.approx((1 - fake.sigmoid()).log().mean().item(), rel=1e-6)
    assert NonSaturating()(fake).item() == pytest.approx(-fake.sigmoid().log().mean().item(), rel=1e-6)
    assert sum(log_losses(torch.zeros(3), torch.zeros(3))).item() == pytest.approx(2 * math.log(2))


def test_a_sure_discriminator_leaves_a_gradient_to_one_of_the_two():
    for loss, gradient in ((Minimax(), 0.0), (NonSaturating(), -1.0)):
        score = torch.tensor([-20.0], requires_grad=True)
        loss(score).backward()
        assert score.grad.item() == pytest.approx(gradient, abs=1e-6)


def test_penalty_is_in_full_precision_in_a_run_of_less():
    torch.manual_seed(0)
    critic, alpha = nn.Linear(18, 1), UniformAlpha()(5)
    plain = gradient_penalty(lambda x: critic(x.flatten(1))[:, 0], images(5), images(5, seed=2), alpha)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_run = gradient_penalty(lambda x: critic(x.flatten(1))[:, 0], images(5), images(5, seed=2).bfloat16(), alpha)
        in_run.backward()
    assert in_run.item() == pytest.approx(plain.item(), rel=1e-6)
    assert critic.weight.grad.dtype == torch.float32
