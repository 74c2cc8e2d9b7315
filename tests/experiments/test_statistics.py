"""Intervals and verdicts against scipy.stats and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import against_reference, band, comparable, holm, interval, paired_difference, verdict

COSINE = {0: 40.3, 1: 39.0, 2: 41.0, 3: 38.2, 4: 40.9}
LINEAR = {0: 43.0, 1: 42.5, 2: 43.6, 3: 42.2, 4: 44.1, 9: 1e9}  # seed 9 has no partner


def test_paired_difference_is_the_paired_t_test():
    comparison = paired_difference(COSINE, LINEAR)
    partners = [LINEAR[seed] for seed in COSINE]
    reference = stats.ttest_rel(list(COSINE.values()), partners)
    low, high = reference.confidence_interval(0.95)
    assert comparison.mean == pytest.approx(-3.2, rel=1e-12)
    assert (comparison.low, comparison.high) == pytest.approx((low, high), rel=1e-9)
    assert comparison.p == pytest.approx(reference.pvalue, rel=1e-9)
    assert (comparison.n, comparison.wins, comparison.seeds) == (5, 5, (0, 1, 2, 3, 4))


def test_interval_is_the_t_interval():
    values = [1.5, 2.25, 4.0, 1.0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx((2.1875, low, high), rel=1e-9)
    assert interval([2.0]) == (2.0, -math.inf, math.inf)


def test_the_interval_covers_the_truth_95_times_in_100():
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        a = dict(enumerate(generator.normal(0.3, 1.0, 5)))
        comparison = paired_difference(a, dict.fromkeys(a, 0.0))
        inside += comparison.low <= 0.3 <= comparison.high
    assert 0.938 < inside / 2000 < 0.962


def test_band_over_runs():
    curves = [[(1, 1.0), (2, 2.0), (3, 9.0)], [(1, 3.0), (2, 5.0), (2, 4.0)]]  # the second was stopped, and validated twice
    low, high = stats.t.interval(0.95, 1, 3.0, 1.0)
    assert band(curves).steps == [1, 2] and band(curves).mean == [2.0, 3.0] and band(curves).n == 2
    assert (band(curves).low[1], band(curves).high[1]) == pytest.approx((low, high))
    assert band([]).steps == []


def test_holm_against_the_published_procedure():
    groups = {
        "linear": LINEAR,
        "cosine": COSINE,
        "sigmoid": {0: 42.0, 1: 42.2, 2: 43.0, 3: 41.9, 4: 43.9},
        "same": {0: 43.1, 1: 42.4, 2: 43.7, 3: 42.0, 4: 44.2},
    }
    raw = {label: stats.ttest_rel([groups[label][s] for s in range(5)], [LINEAR[s] for s in range(5)]).pvalue for label in groups}
    corrected = against_reference(groups, "linear")
    assert list(corrected) == ["cosine", "sigmoid", "same"]
    assert corrected["cosine"].p == pytest.approx(3 * raw["cosine"])
    assert corrected["sigmoid"].p == pytest.approx(2 * raw["sigmoid"])
    assert corrected["same"].p == pytest.approx(raw["same"])
    assert paired_difference(groups["sigmoid"], LINEAR).shown and not corrected["sigmoid"].shown
    assert verdict("sigmoid", "linear", "FD", corrected["sigmoid"], True).startswith(
        "no difference in FD shown with 5 seeds (0, 1, 2, 3, 4), corrected for 3 comparisons"
    )
    equal = paired_difference({0: 1.0, 1: 3.0, 2: 1.5}, {0: 0.0, 1: 0.0, 2: 0.0})
    assert [comparison.p for comparison in holm({"a": equal, "b": equal}).values()] == pytest.approx([2 * equal.p] * 2)


def test_verdict_sentences():
    lower = paired_difference(COSINE, LINEAR)
    sentence = "cosine lower by 3.2 [2.5, 3.9] FD, 5 of 5 seeds (0, 1, 2, 3, 4)"
    assert verdict("cosine", "linear", "FD", lower, lower_is_better=True) == sentence
    assert verdict("linear", "cosine", "FD", paired_difference(LINEAR, COSINE), lower_is_better=True) == sentence
    assert verdict("cosine", "linear", "score", lower, lower_is_better=False).startswith("linear higher by 3.2 [2.5, 3.9] score")

    mixed = paired_difference({0: 1.0, 1: 0.2, 2: 3.0}, {0: 0.5, 1: 1.0, 2: 1.5})
    assert verdict("cosine", "linear", "FD", mixed, True) == (
        "no difference in FD shown with 3 seeds (0, 1, 2): cosine minus linear 0.4 [-2.5, 3.3]"
    )
    single = paired_difference({0: 1.0}, {0: 3.0, 1: 2.0})
    assert verdict("cosine", "linear", "FD", single, True) == (
        "no difference in FD shown with 1 seed (0): cosine minus linear -2.0 without an interval"
    )
    assert not paired_difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).shown
    small = paired_difference({0: 0.0101, 1: 0.0102}, {0: 0.0150, 1: 0.0152})
    assert verdict("a", "b", "KID", small, True) == "a lower by 0.0049 [0.0043, 0.0056] KID, 2 of 2 seeds (0, 1)"


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match=r"no seed in both groups: \[0, 1\] and \[2\]"):
        paired_difference({0: 1.0, 1: 1.0}, {2: 1.0})
    with pytest.raises(ValueError, match=r"seeds \[1\]: .* diverged"):
        paired_difference({0: 1.0, 1: math.nan}, {0: 1.0, 1: 2.0})
    with pytest.raises(ValueError, match="reference 'liner': no such group"):
        against_reference({"linear": LINEAR, "cosine": COSINE}, "liner")


def test_unlike_declarations_are_not_ranked():
    about = {"extractor": "digits_classifier", "num_generated": 500, "weights": "ema", "seed": 0}
    assert comparable([about, about | {"seed": 1}]) is None
    assert comparable([]) is None
    unlike = comparable([about, about | {"num_generated": 1000}, about], ["cosine", "linear", "sigmoid"])
    assert unlike == "not ranked, because measured unlike: num_generated is 500 for cosine and 1000 for linear"
    assert "weights is ema for run 1 and not declared for run 2" in str(
        comparable([about, {key: value for key, value in about.items() if key != "weights"}])
    )
