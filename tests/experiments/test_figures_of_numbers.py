"""What the figures of the contrastive losses say, held against golden values and against the losses themselves."""

import numpy as np
import pytest
import torch

from experiments.figures import cosine_to_probability, cross_entropy_both_ways
from lightning_modules.losses.contrastive import clip_loss

PROBABILITIES = {"1": [0.274, 0.253, 0.243, 0.231], "10": [0.517, 0.232, 0.156, 0.0945], "100": [0.9997, 0.0003, 0, 0]}


def test_cosines_become_the_known_probabilities():
    numbers = cosine_to_probability.draw({}).numbers
    assert numbers["cosines"] == [0.32, 0.24, 0.20, 0.15]
    for scale, expected in PROBABILITIES.items():
        assert numbers["scales"][scale]["probability"] == pytest.approx(expected, abs=5.1e-4)
        assert sum(numbers["scales"][scale]["probability"]) == pytest.approx(1, abs=1e-5)


def test_the_worked_example_is_the_loss():
    """Any matrix of cosines is image @ text.T of some image and text = identity, unit vectors or not."""
    numbers = cross_entropy_both_ways.draw({}).numbers
    cosines = torch.tensor(numbers["cosines"])
    assert numbers["loss"] == pytest.approx(clip_loss(cosines, torch.eye(4), numbers["scale"]).item(), abs=1e-6)
    assert np.mean([numbers["minus_log_p_of_rows"], numbers["minus_log_p_of_columns"]]) == pytest.approx(numbers["loss"], abs=1e-6)
    assert np.sum(numbers["p_of_rows"], 1) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.sum(numbers["p_of_columns"], 0) == pytest.approx(np.ones(4), abs=1e-5)
    assert numbers["minus_log_p_of_rows"] == pytest.approx(-np.log(np.diag(numbers["p_of_rows"])), abs=1e-5)
    assert len({word for text in numbers["texts"] for word in text.split()}) == 8
