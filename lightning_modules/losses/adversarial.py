"""What the two players of a generative adversarial network minimise, and the gradient penalty that keeps a critic honest.

Scores [B] are those of the critic, or the logits of the discriminator: high for images taken for real.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


class UniformAlpha:
    """One number per image, uniform in [0, 1]: points of the segment between the two images (Gulrajani et al. 2017)."""

    def __call__(self, num: int, device: torch.device | str = "cpu") -> Tensor:
        """[num, 1, 1, 1]."""
        return torch.rand(num, 1, 1, 1, device=device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NormalAlpha(UniformAlpha):
    """1 - n for one standard normal n per image: the lecture's `real + tf.random.normal * (fake - real)`.

    A normal number lies outside [0, 1] in 65.9 % of the draws: those points of the line are not between the two images.
    """

    def __call__(self, num: int, device: torch.device | str = "cpu") -> Tensor:
        return 1 - torch.randn(num, 1, 1, 1, device=device)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """E(|grad critic(x_hat)| - 1)^2 at x_hat = alpha real + (1 - alpha) fake (Gulrajani et al. 2017, 1704.00028, equation 3).

    `critic` takes images [B, C, H, W], as `real` and `fake` are, to scores [B], each of its own image alone (no batch norm);
    alpha [B, 1, 1, 1]. In full precision, whatever the run's, and differentiable by the critic's weights.
    """
    x_hat = torch.lerp(fake.detach().float(), real.float(), alpha).requires_grad_()           # B C H W
    with torch.autocast(x_hat.device.type, enabled=False):
        gradient, = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)        # B C H W
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def wasserstein_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G) - E D(x), which the critic minimises: minus its estimate of the distance (Arjovsky et al. 2017, 1701.07875)."""
    return fake.mean() - real.mean()


class Minimax:
    """The game's own value, E log(1 - D(G)): the generator minimises what the discriminator maximises (Goodfellow et al. 2014)."""

    def __call__(self, fake: Tensor) -> Tensor:
        """The generator's loss of the logits [B] of its images."""
        return -F.softplus(fake).mean()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NonSaturating(Minimax):
    """-E log D(G): the same fixed point, but a gradient where the discriminator is sure (Goodfellow et al. 2014, section 3)."""

    def __call__(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


def log_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """-E log D(x) and -E log(1 - D(G)) of logits [B]; the discriminator minimises their sum, 2 ln 2 where it knows nothing."""
    return F.softplus(-real).mean(), F.softplus(fake).mean()
