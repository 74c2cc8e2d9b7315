"""Operations counted against open_clip's own table, and against a count by hand."""

import pytest
import torch
from torch import nn

from experiments.figures.cost_of_clip import counted, flops_of_architecture, spoken

TABLE = {"ViT-B-32": 14.78, "RN50": 18.18, "ViT-L-14": 175.33}     # docs/model_profile.csv of open_clip, forward, in GFLOP


@pytest.mark.parametrize("name", TABLE)
def test_architectures_against_the_published_table(name):
    forward, training = flops_of_architecture(name)
    assert forward / 1e9 == pytest.approx(TABLE[name], rel=1e-3)
    assert training / forward == pytest.approx(3, abs=0.03)         # but for the first layer, whose input wants no gradient


def test_two_operations_for_each_product():
    layer, x = nn.Linear(5, 7, bias=False), torch.ones(3, 5, requires_grad=True)
    assert counted(lambda: layer(x)) == 2 * 3 * 5 * 7
    assert counted(lambda: layer(x).sum().backward()) == 3 * 2 * 3 * 5 * 7


def test_numbers_in_words():
    assert [spoken(number) for number in (12.8e9, 3.84e5, 2.5e6)] == ["12.8 billion", "384,000", "2.5 million"]
