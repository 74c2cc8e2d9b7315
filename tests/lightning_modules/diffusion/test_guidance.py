"""Classifier-free guidance: one pass of 2B, equal to two of B."""

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.diffusion.guidance import ClassifierFreeGuidance

B, NULL = 5, 10
X, TIME = torch.randn(B, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 1, B)
LABEL, NO_LABEL = torch.arange(B), torch.tensor([NULL])


class Network(nn.Module):
    """Every input counts; the sizes of the batches asked for are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NULL + 1, 3)
        self.batches: list[int] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        self.batches.append(len(x))
        return torch.tanh(x + t[:, None, None, None] * self.embedding(label)[:, :, None, None])


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0, 7.5])
def test_one_batched_pass_equals_two(scale: float) -> None:
    network = Network()
    c, u = network(X, TIME, LABEL), network(X, TIME, NO_LABEL.expand(B))
    network.batches.clear()
    guided = ClassifierFreeGuidance(network, LABEL, NO_LABEL, scale)(X, TIME)
    assert network.batches == [B if scale in (0, 1) else 2 * B]
    assert torch.allclose(guided, u + scale * (c - u), atol=1e-6)


def test_scale_1_is_conditional_and_0_unconditional() -> None:
    network = Network()
    assert ClassifierFreeGuidance(network, LABEL, NO_LABEL, 1)(X, TIME).equal(network(X, TIME, LABEL))
    assert ClassifierFreeGuidance(network, LABEL, NO_LABEL, 0)(X, TIME).equal(network(X, TIME, NO_LABEL.expand(B)))


def test_a_negative_prompt_takes_the_place_of_the_null() -> None:
    network, negative = Network(), LABEL.flip(0)
    c, n = network(X, TIME, LABEL), network(X, TIME, negative)
    guided = ClassifierFreeGuidance(network, LABEL, negative, 2.0)(X, TIME)
    assert torch.allclose(guided, 2 * c - n, atol=1e-6)
