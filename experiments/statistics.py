"""What the evidence allows to say: intervals over seeds, differences paired by seed, and the sentence of the verdict."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and the bounds of its t-interval; infinite bounds where there is one value only."""

    mean: float
    low: float
    high: float


class Band(NamedTuple):
    """A mean curve and its pointwise 95 % t-interval over `n` runs."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int


@dataclass(frozen=True)
class Comparison:
    """The differences a - b over the seeds that both have: their mean, its 95 % t-interval and two-sided p."""

    mean: float
    low: float
    high: float
    n: int
    wins: int  # seeds whose difference has the sign of the mean
    seeds: tuple[Hashable, ...]
    p: float  # of the paired t-test; after `holm` the corrected one
    num_comparisons: int = 1

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at the 5 % level."""
        return self.p < 1 - CONFIDENCE


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values and its 95 % t-interval (Student 1908)."""
    mean, half, _ = _t(values)
    return Interval(mean, mean - half, mean + half)


def band(curves: Sequence[Sequence[tuple[int, float]]]) -> Band:
    """Mean and interval of several runs' (step, value) curves, at the steps that all of them have.

    Where a run holds a step twice (validated again), its last value counts.
    """
    values = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*map(set, values))) if values else []
    points = [interval([value[step] for value in values]) for step in steps]
    return Band(steps, [point.mean for point in points], [p.low for p in points], [p.high for p in points], len(values))


def paired_difference(a: Mapping[Any, float], b: Mapping[Any, float]) -> Comparison:
    """Compares two {seed: value} by the differences a - b over the seeds in both, with a paired t-test.

    Raises ValueError where they share no seed or a value is not finite.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError(f"no seed in both groups: {sorted(a)} and {sorted(b)}; train both with the same seeds")
    if broken := [seed for seed in seeds if not (math.isfinite(a[seed]) and math.isfinite(b[seed]))]:
        raise ValueError(f"seeds {broken}: a value is not finite, so a run diverged; it cannot be ranked")
    differences = [a[seed] - b[seed] for seed in seeds]
    mean, half, p = _t(differences)
    wins = sum(difference * mean > 0 for difference in differences)
    return Comparison(mean, mean - half, mean + half, len(seeds), wins, tuple(seeds), p)


def holm(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The same comparisons with p corrected for their number (Holm 1979, step-down)."""
    corrected: dict[str, Comparison] = {}
    running = 0.0
    for rank, (label, comparison) in enumerate(sorted(comparisons.items(), key=lambda item: item[1].p)):
        running = max(running, min(1.0, (len(comparisons) - rank) * comparison.p))
        corrected[label] = replace(comparison, p=running, num_comparisons=len(comparisons))
    return {label: corrected[label] for label in comparisons}


def against_reference(groups: Mapping[str, Mapping[Any, float]], reference: str) -> dict[str, Comparison]:
    """Every other group against the reference, {label: group - reference}, corrected by Holm's method.

    Raises ValueError where there is no such group.
    """
    if reference not in groups:
        raise ValueError(f"reference {reference!r}: no such group; there are {', '.join(groups)}")
    return holm({label: paired_difference(group, groups[reference]) for label, group in groups.items() if label != reference})


def verdict(label_a: str, label_b: str, metric: str, comparison: Comparison, lower_is_better: bool) -> str:
    """What the comparison of a with b allows to say, in one sentence whose subject is the better one.

    "cosine lower by 3.1 [1.2, 5.0] FD, 5 of 5 seeds (0, 1, 2, 3, 4)", or that no difference is shown.
    """
    seeds = f"({', '.join(map(str, comparison.seeds))})"
    count = f"{comparison.n} seed{'s' if comparison.n > 1 else ''} {seeds}"
    mean, low, high = comparison.mean, comparison.low, comparison.high
    correction = f", corrected for {comparison.num_comparisons} comparisons" if comparison.num_comparisons > 1 else ""
    if not comparison.shown:
        digits = _digits(mean, low, high)
        bounds = f"[{low:.{digits}f}, {high:.{digits}f}]" if comparison.n > 1 else "without an interval"
        return f"no difference in {metric} shown with {count}{correction}: {label_a} minus {label_b} {mean:.{digits}f} {bounds}"
    subject = label_a if (mean < 0) == lower_is_better else label_b
    low, high = sorted((abs(low), abs(high)))
    digits = _digits(mean, low, high)
    return (
        f"{subject} {'lower' if lower_is_better else 'higher'} by {abs(mean):.{digits}f} "
        f"[{low:.{digits}f}, {high:.{digits}f}] {metric}, {comparison.wins} of {count}{correction}"
    )


def comparable(abouts: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> str | None:
    """None if all values were measured alike, else the sentence that refuses to rank them and names the difference."""
    labels = list(labels) or [f"run {number}" for number in range(1, len(abouts) + 1)]
    unlike = []
    for key in sorted({key for about in abouts for key in about} - {"seed"}):
        found: dict[str, str] = {}
        for about, label in zip(abouts, labels, strict=True):
            found.setdefault(str(about.get(key, "not declared")), label)
        if len(found) > 1:
            unlike.append(f"{key} is " + " and ".join(f"{value} for {label}" for value, label in found.items()))
    return f"not ranked, because measured unlike: {'; '.join(unlike)}" if unlike else None


def _t(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, half the width of its 95 % t-interval, and the two-sided p of a mean of zero."""
    from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]  # scipy.stats takes 1.2 s longer to import

    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, math.inf, 1.0
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    if error == 0:
        return mean, 0.0, 1.0 if mean == 0 else 0.0
    return mean, half, 2 * float(stdtr(n - 1, -abs(mean) / error))


def _digits(*values: float) -> int:
    """Decimals that show two digits of the largest finite value: 1 to 4."""
    largest = max((abs(value) for value in values if math.isfinite(value) and value != 0), default=1.0)
    return min(4, max(1, 1 - math.floor(math.log10(largest))))
