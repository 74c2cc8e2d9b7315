"""How much the loss at a noise level counts."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.diffusion.parameterizations import Parameterization


class Weighting(ABC):
    """A weight per image on the squared error of the parameterization's own target."""

    @abstractmethod
    def __call__(self, alpha: Tensor, sigma: Tensor, parameterization: Parameterization) -> Tensor:
        """The weights [B], for alpha and sigma of shape [B] or [B, 1, ...]."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """Every image counts 1: the simple loss (Ho et al. 2020, eq. 14)."""

    def __call__(self, alpha: Tensor, sigma: Tensor, parameterization: Parameterization) -> Tensor:
        return torch.ones_like(alpha).flatten()


@dataclass(frozen=True)
class MinSNR(Weighting):
    """min(SNR, gamma) on the error of x0, SNR = (alpha / sigma) ** 2 (Hang et al. 2023).

    On eps that is min(SNR, gamma) / SNR and on v min(SNR, gamma) / (SNR + 1), because an error of the output is an
    error of x0 times `x0_gain`.
    """

    gamma: float = 5.0

    def __call__(self, alpha: Tensor, sigma: Tensor, parameterization: Parameterization) -> Tensor:
        snr = (alpha / sigma) ** 2
        return (snr.clamp(max=self.gamma) * parameterization.x0_gain(alpha, sigma) ** 2).flatten()
