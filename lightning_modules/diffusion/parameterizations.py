"""What the network's output means: the noise, the clean image, or a mixture of the two.

Given x_t = alpha * x0 + sigma * eps, one of them determines the others. Every method is right for any alpha and
sigma, variance preserving or not; alpha and sigma broadcast against the images. In diffusers: Eps = `epsilon`, X0 =
`sample`, V = `v_prediction`, Velocity = `flow_prediction`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Parameterization(ABC):
    """The meaning of a network's output."""

    @abstractmethod
    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network has to output for this image and this noise."""

    @abstractmethod
    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean image which the output stands for."""

    @abstractmethod
    def eps(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The noise which the output stands for."""

    @abstractmethod
    def x0_gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """|d x0 / d output|: how far the clean image moves when the output does; of alpha's shape."""


@dataclass(frozen=True)
class Eps(Parameterization):
    """The output is the noise (Ho et al. 2020, eq. 12). It says nothing about x0 where alpha = 0: use V or X0 there."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x_t - sigma * output) / alpha

    def eps(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return output

    def x0_gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma / alpha


@dataclass(frozen=True)
class X0(Parameterization):
    """The output is the clean image (Ho et al. 2020, section 3.2)."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return output

    def eps(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x_t - alpha * output) / sigma

    def x0_gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha.new_ones(alpha.shape)


@dataclass(frozen=True)
class V(Parameterization):
    """The output is v = alpha * eps - sigma * x0 (Salimans & Ho 2022, section 4)."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)

    def eps(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (sigma * x_t + alpha * output) / (alpha**2 + sigma**2)

    def x0_gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma / (alpha**2 + sigma**2)


@dataclass(frozen=True)
class Velocity(Parameterization):
    """The output is eps - x0, the velocity d x_t / dt of a rectified flow (Liu et al. 2022; Esser et al. 2024)."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x0

    def x0(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x_t - sigma * output) / (alpha + sigma)

    def eps(self, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (x_t + alpha * output) / (alpha + sigma)

    def x0_gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma / (alpha + sigma)
