"""Precision and recall against torch-fidelity on the same features: the same counts."""

import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full, calculate_precision_recall_part

from callbacks.precision_recall import overlap
from tests.parity.test_frechet import features


@pytest.mark.parametrize("num_neighbours", [1, 3, 5])
@pytest.mark.parametrize("sizes", [(300, 300), (500, 200), (150, 700)])
def test_the_counts_of_torch_fidelity(sizes, num_neighbours):
    real, generated = features(sizes[0], 32, 0), features(sizes[1], 32, 1, shift=0.03)
    ours = overlap(real, generated, num_neighbours, chunk=128)
    for theirs in (calculate_precision_recall_full, calculate_precision_recall_part):
        precision, recall = theirs(generated.double(), real.double(), num_neighbours, 100)
        assert 0 < precision < 1 and 0 < recall < 1
        assert round(ours.precision * sizes[1]) == round(precision * sizes[1])
        assert round(ours.recall * sizes[0]) == round(recall * sizes[0])
        assert (ours.precision, ours.recall) == pytest.approx((precision, recall), rel=1e-6)


def test_real_feature_sizes():
    real, generated = features(400, 2048, 0), features(400, 2048, 1, shift=0.01)
    precision, recall = calculate_precision_recall_full(generated.double(), real.double(), 5)
    ours = overlap(real, generated, 5)
    assert (ours.precision, ours.recall) == pytest.approx((precision, recall), rel=1e-6)
    assert torch.isfinite(torch.tensor(ours.density))
