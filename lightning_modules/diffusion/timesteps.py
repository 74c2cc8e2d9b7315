"""Which noise levels a training batch sees."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.diffusion.noise import Generators, rand, randn


class Timesteps(ABC):
    """A distribution over the clock."""

    @abstractmethod
    def __call__(self, num: int, device: torch.device | str = "cpu", generator: Generators = None) -> Tensor:
        """`num` clock values, float32 in (0, 1]; `generator` as in `noise.randn`."""


@dataclass(frozen=True)
class Uniform(Timesteps):
    """Every noise level equally often (Ho et al. 2020, algorithm 1, with a continuous clock)."""

    def __call__(self, num: int, device: torch.device | str = "cpu", generator: Generators = None) -> Tensor:
        return 1 - rand((num,), generator, device)


@dataclass(frozen=True)
class LogitNormal(Timesteps):
    """logit(t) ~ N(mean, std ** 2): the middle of the clock more often (Esser et al. 2024, section 3.1)."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, num: int, device: torch.device | str = "cpu", generator: Generators = None) -> Tensor:
        return torch.sigmoid(self.mean + self.std * randn((num,), generator, device))
