"""Random numbers of which every image has its own, so that image i is the same in a batch of 1 and of 64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def randn(shape: Sequence[int], generator: Generators = None, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal float32 numbers of `shape` [B, ...] on `device`.

    generator: None (torch's global generator of the device), one `torch.Generator` (drawn where it lives, then
    moved), or one CPU generator per image (a ValueError if there are not B of them).
    """
    return _draw(torch.randn, shape, generator, device)


def rand(shape: Sequence[int], generator: Generators = None, device: torch.device | str = "cpu") -> Tensor:
    """Uniform float32 numbers in [0, 1) of `shape` [B, ...] on `device`; `generator` as for `randn`."""
    return _draw(torch.rand, shape, generator, device)


def _draw(
    draw: Callable[..., Tensor], shape: Sequence[int], generator: Generators, device: torch.device | str
) -> Tensor:
    if generator is None:
        return draw(*shape, device=device)
    if isinstance(generator, torch.Generator):
        return draw(*shape, generator=generator, device=generator.device).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} images: pass one generator per image")
    return torch.stack([draw(*shape[1:], generator=one) for one in generator]).to(device)
