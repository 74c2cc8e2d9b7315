"""What needs no training: the curves of the runs' schedules, and samplers run with the exact denoiser of Gaussian data.

Data N(0, s^2) has a denoiser in closed form, and every sampler is linear, so that the spread of its output is exact.
Whatever a sampler's output then lacks in spread is the fault of schedule, sampler and number of steps alone.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

from callbacks.allowlist import imported
from experiments.page.charts import colour
from experiments.page.groups import Comparison, words

SCHEDULES = "lightning_modules.diffusion.schedules"
PUBLISHED = ("LinearBetas", "ScaledLinearBetas", "Cosine", "Sigmoid", "OffsetCosine", "RectifiedFlow")
DATA_STD = 0.5
STEPS = (2, 5, 10, 20, 50, 100, 250, 1000)
FLOOR = 1e-5  # errors below are drawn there
POINTS = 201


@dataclass(frozen=True)
class Curve:
    """alpha-bar over the clock of one schedule; `colour` is its group's, or the text's where groups share it."""

    label: str
    colour: str
    t: list[float]
    alpha_bar: list[float]
    share_of_noise: float


@dataclass(frozen=True)
class Error:
    """|std - s| after `num_steps` of a sampler with the exact denoiser."""

    schedule: str
    sampler: str
    num_steps: int
    std: float
    error: float
    colour: str | None  # of the group that uses the schedule; None for a schedule shown for comparison


def first_step_is_a_guess(comparison: Comparison) -> list[str]:
    """Return the groups that predict eps with a schedule that ends below an alpha-bar of 1e-6."""
    import torch

    found = []
    for group in comparison.groups:
        arguments = group.runs[0].config.get("model", {}).get("init_args", {})
        spec, predicted = arguments.get("schedule"), arguments.get("parameterization") or {}
        if spec and str(predicted.get("class_path", "")).endswith(".Eps"):
            alpha, _ = _built(spec)(torch.ones(1, dtype=torch.float64))
            if alpha.item() ** 2 < 1e-6:
                found.append(group.label)
    return found


def schedule_curves(comparison: Comparison) -> list[Curve]:
    """Return one curve for each distinct schedule of the runs."""
    import torch

    curves = []
    t = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    for label, tint, spec in _schedules_of(comparison):
        alpha, _ = _built(spec)(t)
        alpha_bar = alpha.double().square()
        share = float((alpha_bar < 0.01).double().mean())
        curves.append(Curve(label, tint, [round(x, 4) for x in t.tolist()], alpha_bar.tolist(), share))
    return curves


def log_snr(config: dict[str, Any], times: Sequence[float]) -> dict[float, float]:
    """Return {t: log10(alpha^2 / sigma^2)} of the schedule in a run's config, where it is finite; empty without a schedule."""
    import torch

    spec = _schedule_spec(config.get("model"))
    if spec is None or not times or not _is_buildable(spec):
        return {}
    alpha, sigma = _built(spec)(torch.tensor(times, dtype=torch.float64))
    ratios = (alpha.double() / sigma.double()).square().log10().tolist()
    return {t: ratio for t, ratio in zip(times, ratios, strict=True) if math.isfinite(ratio)}


def exact_errors(comparison: Comparison) -> list[Error]:
    """Return the error of every schedule x sampler x number of steps: the runs' schedules, then the other published ones."""
    ours = _schedules_of(comparison)
    if not ours:
        return []
    rows: list[Error] = []
    known = {spec["class_path"].rsplit(".", 1)[-1] for _, _, spec in ours}
    others = [(words(name), None, {"class_path": f"{SCHEDULES}.{name}"}) for name in PUBLISHED if name not in known]
    for label, tint, spec in [*ours, *others]:
        if _is_buildable(spec):
            rows += [
                Error(label, sampler, num_steps, std, abs(std - DATA_STD), tint)
                for sampler, num_steps, std in _spreads(json.dumps(spec, sort_keys=True))
            ]
    return rows


@cache
def _spreads(spec: str) -> list[tuple[str, int, float]]:
    """Return (sampler, steps, std of its output) for one schedule, given as JSON."""
    import torch

    from lightning_modules.diffusion import samplers
    from lightning_modules.diffusion.exact import final_std

    schedule = _built(json.loads(spec))
    named = {
        "DDIM, the same as Euler": samplers.DDIM(),
        "Ancestral (DDPM), the same as Euler a": samplers.Ancestral(),
        "Heun, two denoisings a step": samplers.Heun(),
        "DPM-Solver++ (2M)": samplers.DPMSolverPP2M(),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of tiny operations: on a busy machine, threads that wait for one another cost up to 80 times more
    try:
        return [
            (name, num_steps, std)
            for name, sampler in named.items()
            for num_steps in STEPS
            if num_steps <= (schedule.num_steps or math.inf) and math.isfinite(std := final_std(sampler, schedule, num_steps, DATA_STD))
        ]
    finally:
        torch.set_num_threads(threads)


def _schedules_of(comparison: Comparison) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, colour, spec) of each distinct schedule; it bears its group's name and colour if each group has its own."""
    specs = {group.label: _schedule_spec(group.runs[0].config.get("model")) for group in comparison.groups}
    distinct = {json.dumps(spec, sort_keys=True): spec for spec in specs.values() if spec is not None and _is_buildable(spec)}
    if len(distinct) == len(comparison.groups) > 1:
        return [(group.label, colour(group.index), spec) for group in comparison.groups if (spec := specs[group.label])]
    tints = [colour(0)] if len(comparison.groups) == 1 else ["@ink", "@muted", *map(colour, range(8))]
    return [(words(spec["class_path"]), tint, spec) for spec, tint in zip(distinct.values(), cycle(tints))]


def _schedule_spec(model: Any) -> dict[str, Any] | None:
    return next(_specs(model), None)


def _specs(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if str(value.get("class_path", "")).startswith(SCHEDULES + "."):
            yield value
            return
        for item in value.values():
            yield from _specs(item)


def _is_buildable(spec: dict[str, Any]) -> bool:
    """Whether a recorded schedule can still be made: a run may be older than its class."""
    try:
        _built(spec)
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    return True


def _built(spec: dict[str, Any]) -> Any:
    arguments = {
        key: _built(item) if isinstance(item, dict) and "class_path" in item else item
        for key, item in (spec.get("init_args") or {}).items()
    }
    return imported(spec["class_path"])(**arguments)
