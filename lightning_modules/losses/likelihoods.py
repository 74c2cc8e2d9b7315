"""p(image | output of a decoder): what a pixel may be, and how sure the decoder is of it.

Each maps the decoder's output [B, P*C, H, W] (`parameters_per_channel` is P) and an image [B, C, H, W] in [-1, 1] to nats [B], summed
over pixels and channels. Randomness comes in as `uniform` numbers [B, C, H, W] in [0, 1), so that every image can have its own.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVEL = 2 / 255     # from one of the 256 levels of a pixel to the next


class Likelihood(nn.Module, ABC):
    """The base. `levels` is the number of values of a pixel that the nats count: likelihoods of unlike levels do not compare."""

    levels = 256
    parameters_per_channel = 1

    def observe(self, image: Tensor, uniform: Tensor) -> Tensor:
        """The observation [B, C, H, W] that is explained in the place of an image: by default the image itself."""
        return image

    @abstractmethod
    def log_prob(self, output: Tensor, observation: Tensor) -> Tensor:
        """log p(observation | output) in nats [B]."""

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """The mean image [B, C, H, W] in [-1, 1]."""

    @abstractmethod
    def sample(self, output: Tensor, uniform: Tensor) -> Tensor:
        """An image [B, C, H, W] in [-1, 1] drawn from p."""


class Bernoulli(Likelihood):
    """Pixels are black (-1) or white (1); the output is the logit of white.

    A grey image is observed as a draw, white with the probability of its grey: anew in each training step (dynamic binarisation,
    Burda et al. 2015). Under fixed `uniform` numbers the bound is one on the likelihood of a fixed set of binary images.
    """

    levels = 2

    def observe(self, image: Tensor, uniform: Tensor) -> Tensor:
        return self.to_image(uniform < (image + 1) / 2, image)

    def log_prob(self, output: Tensor, observation: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(output, (observation + 1) / 2, reduction="none").flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        return (output / 2).tanh()                                                            # 2 sigmoid(output) - 1

    def sample(self, output: Tensor, uniform: Tensor) -> Tensor:
        return self.to_image(uniform < output.sigmoid(), output)

    @staticmethod
    def to_image(white: Tensor, like: Tensor) -> Tensor:
        return white.to(like) * 2 - 1


class Gaussian(Likelihood):
    """N(output, scale^2), one learned `scale` for all pixels (the sigma-VAE of Rybkin et al. 2020, 2006.13202).

    An image of 256 levels is observed with uniform noise as wide as a level, and the density is taken per level, not per unit of
    [-1, 1]: the expected nats are then a lower bound on those of the 8-bit image (Theis et al. 2015, 1511.01844, section 3.1).
    """

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"Gaussian: scale {scale} is not above 0; images reach from -1 to 1, begin for instance with 0.5")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def observe(self, image: Tensor, uniform: Tensor) -> Tensor:
        return image + LEVEL * (uniform - 0.5)

    def log_prob(self, output: Tensor, observation: Tensor) -> Tensor:
        log_density = -((observation - output) / self.log_scale.exp()).square() / 2 - self.log_scale - math.log(2 * math.pi) / 2
        return (log_density + math.log(LEVEL)).flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        return output.clamp(-1, 1)

    def sample(self, output: Tensor, uniform: Tensor) -> Tensor:
        bounded = uniform.clamp(1e-7, 1 - 1e-7)
        return (output + self.log_scale.exp() * torch.special.ndtri(bounded)).clamp(-1, 1)


class DiscretisedLogistic(Likelihood):
    """The mass that a logistic distribution puts on each of 256 levels, the outermost two open (Salimans et al. 2017, 1701.05517, eq. 2).

    The output is the locations, then the log scales, [B, 2C, H, W].
    """

    parameters_per_channel = 2

    def __init__(self, min_log_scale: float = -6.0) -> None:
        super().__init__()
        self.min_log_scale = min_log_scale

    def log_prob(self, output: Tensor, observation: Tensor) -> Tensor:
        location, scale = self.parts(output)
        above, below = (observation - location + LEVEL / 2) / scale, (observation - location - LEVEL / 2) / scale
        # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)): no difference of nearly equal numbers, however far out the level lies
        bounded_above, bounded_below = observation < 1 - LEVEL / 2, observation > -1 + LEVEL / 2
        log_mass = torch.where(bounded_above, F.logsigmoid(above), 0) + torch.where(bounded_below, F.logsigmoid(-below), 0)
        both = torch.where(bounded_above & bounded_below, torch.log(-torch.expm1(-LEVEL / scale)), 0)
        return (log_mass + both).flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        """Of the logistic distribution cut to [-1, 1]: that of its levels, to within half a level."""
        location, scale = self.parts(output)
        return (scale * (F.softplus((location + 1) / scale) - F.softplus((location - 1) / scale)) - 1).clamp(-1, 1)

    def sample(self, output: Tensor, uniform: Tensor) -> Tensor:
        location, scale = self.parts(output)
        value = (location + scale * uniform.logit(eps=1e-7)).clamp(-1, 1)
        return ((value + 1) / LEVEL).round() * LEVEL - 1

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Locations and scales, [B, C, H, W] each."""
        location, log_scale = output.chunk(2, dim=1)
        return location, log_scale.clamp(min=self.min_log_scale).exp()
