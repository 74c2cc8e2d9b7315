"""Fréchet algebra against torchmetrics' eigenvalues and scipy's matrix square root at D = 2048; both sides start at
the same statistics.

Run alone: python -m tests.benchmarks.bench_frechet
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from callbacks.frechet import Gaussian, frechet_distance

DIM, ROUNDS = 2048, 2


def cpu_seconds(run: Callable[[], float]) -> tuple[float, float]:
    """CPU time of one call, and what it returned."""
    begin = time.process_time()
    value = run()
    return time.process_time() - begin, value


def features(num: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(99)) / DIM**0.5
    return (
        (torch.randn(num, DIM, generator=generator) * torch.logspace(0, -1.5, DIM) @ mix + 0.1 * seed).relu().double()
    )


def measure() -> list[dict[str, Any]]:
    """Rows {"what", "ours", "theirs", "ratio", "target", "holds"} in CPU seconds, one thread, minimum of interleaved
    rounds."""
    import scipy.linalg
    from torchmetrics.image.fid import _compute_fid

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        control = torch.randn(1000, 1000, dtype=torch.float64)
        x, y = Gaussian.fit(features(2500, 0)), Gaussian.fit(features(2500, 1))
        few_x, few_y = features(500, 0), features(500, 1)
        assert x.covariance is not None and y.covariance is not None
        cov_x, cov_y = x.covariance, y.covariance

        def by_scipy() -> float:
            root = scipy.linalg.sqrtm((cov_x @ cov_y).numpy())
            gap = (x.mean - y.mean).square().sum().item()
            return float(gap + cov_x.trace().item() + cov_y.trace().item() - 2 * root.trace().real)

        sides: dict[str, Callable[[], float]] = {
            "control": lambda: (control @ control @ control @ control).sum().item(),
            "ours": lambda: frechet_distance(x, y),
            "torchmetrics": lambda: _compute_fid(x.mean, cov_x, y.mean, cov_y).item(),
            "scipy": by_scipy,
            "ours, N < D": lambda: frechet_distance(Gaussian.fit(few_x), Gaussian.fit(few_y)),
            "torchmetrics, N < D": lambda: _compute_fid(
                few_x.mean(0), few_x.T.cov(), few_y.mean(0), few_y.T.cov()
            ).item(),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        values: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, run in sides.items():
                taken, values[name] = cpu_seconds(run)
                seconds[name].append(taken)
    finally:
        torch.set_num_threads(threads)

    steady = max(seconds["control"]) <= 1.25 * min(seconds["control"])
    rows = []
    for what, ours, theirs, target in [
        (f"Fréchet distance at D={DIM}, against torchmetrics", "ours", "torchmetrics", 2.0),
        (f"Fréchet distance at D={DIM}, against scipy sqrtm", "ours", "scipy", 5.0),
        (
            f"Fréchet distance at D={DIM} of 500 samples, against torchmetrics",
            "ours, N < D",
            "torchmetrics, N < D",
            20.0,
        ),
    ]:
        equal = abs(values[ours] - values[theirs]) <= 1e-6 * abs(values[theirs])
        ratio = min(seconds[theirs]) / min(seconds[ours])
        row = {
            "what": what,
            "ours": min(seconds[ours]),
            "theirs": min(seconds[theirs]),
            "ratio": ratio,
            "target": target,
        }
        rows.append(
            row | {"holds": equal and ratio >= target if steady else None}
        )  # None: void, the machine was not steady
    return rows


if __name__ == "__main__":
    for row in measure():
        print(row)
