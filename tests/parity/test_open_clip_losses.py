"""Softmax and sigmoid loss against open_clip's, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.losses.contrastive import clip_loss, siglip_loss

BATCHES, SCALES = (1, 2, 3, 17, 64), (1.0, 10.0, 14.3, 100.0)


def leaves(num: int, scale: float, dtype: torch.dtype, bias: float = -10.0) -> list[Tensor]:
    """Image, text (pairs alike, as after some training), scale and bias, all of which want a gradient."""
    generator = torch.Generator().manual_seed(num)
    image = torch.randn(num, 24, generator=generator, dtype=torch.float64)
    text = image + torch.randn(num, 24, generator=generator, dtype=torch.float64)
    values = [F.normalize(image, dim=1), F.normalize(text, dim=1), torch.tensor(scale), torch.tensor(bias)]
    return [value.detach().to(dtype).requires_grad_() for value in values]


def with_gradients(loss: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """To 1e-6 of the largest entry in float32, whose own rounding that is; to 1e-9 in float64."""
    for name, own, other in zip(("loss", "image", "text", "scale", "bias"), ours, theirs, strict=False):
        tolerance = 1e-9 if own.dtype == torch.float64 else 1e-6 * max(1.0, other.abs().max().item())
        torch.testing.assert_close(own, other, atol=tolerance, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num", BATCHES)
def test_clip_loss(num, scale, dtype):
    inputs = leaves(num, scale, dtype)[:3]
    assert_same(with_gradients(clip_loss, inputs), with_gradients(ClipLoss(), inputs))


@pytest.mark.parametrize("bias", [-10.0, 0.0])
@pytest.mark.parametrize("chunk", [None, 1, 5, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num", BATCHES)
def test_siglip_loss(num, scale, dtype, chunk, bias):
    inputs = leaves(num, scale, dtype, bias)
    ours = with_gradients(lambda *given: siglip_loss(*given, chunk=chunk), inputs)
    assert_same(ours, with_gradients(SigLipLoss(), inputs))
