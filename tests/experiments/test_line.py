"""The line of classifiers and effective robustness, against closed forms."""

import numpy as np
import pytest

from experiments.figures import _line as line

SOURCE = np.linspace(0.2, 0.95, 12)


def shifted(slope: float, offset: float, source: np.ndarray = SOURCE) -> np.ndarray:
    return 1 / (1 + np.exp(-(offset + slope * np.log(source / (1 - source)))))


def test_a_planted_line_is_found_and_what_is_above_it_is_the_robustness():
    assert line.fitted(SOURCE, shifted(0.8, -1.2)) == pytest.approx((0.8, -1.2))
    on_it = float(shifted(0.8, -1.2, np.array([0.7]))[0])
    assert line.effective_robustness(SOURCE, shifted(0.8, -1.2), 0.7, on_it) == pytest.approx(0, abs=1e-9)
    assert line.effective_robustness(SOURCE, shifted(0.8, -1.2), 0.7, on_it + 0.13) == pytest.approx(0.13)


def test_the_interval_holds_the_truth_and_narrows_with_the_pictures():
    rng = np.random.default_rng(1)
    noisy = np.clip(shifted(0.8, -1.2) + rng.normal(0, 0.01, len(SOURCE)), 0.01, 0.99)
    truth = 0.6 - float(shifted(0.8, -1.2, np.array([0.8]))[0])
    widths = []
    for num in (100, 2000):
        value, low, high = line.residual_interval(SOURCE, noisy, np.arange(num) < 0.8 * num, np.arange(num) < 0.6 * num)
        assert low < value < high and low < truth < high
        widths.append(high - low)
    assert widths[1] < 0.5 * widths[0]


def test_equal_source_accuracy_is_read_off_the_nearest_classifiers():
    bent = np.where(SOURCE < 0.5, 0.05, shifted(0.8, -1.2))             # far from 0.9 they do otherwise
    assert line.at_equal_source(SOURCE, bent, 0.9) == pytest.approx(float(shifted(0.8, -1.2, np.array([0.9]))[0]))
    assert line.at_equal_source(np.array([0.6]), np.array([0.4]), 0.6) == pytest.approx(0.4)
    assert np.isfinite(line.fitted(np.array([0.0, 1.0]), np.array([0.0, 1.0]))).all(), "none and all have no logit"
