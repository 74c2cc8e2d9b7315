"""Softmax over rows and columns against a sigmoid for each cell; accuracy, its paired differences and memory over batch sizes"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.catalogue import Mistake
from experiments.drawing import Drawn
from experiments.figures import _trained as shared
from experiments.figures.cosine_to_probability import softmax
from experiments.figures.cross_entropy_both_ways import COSINES, SCALE
from experiments.runs import Run, load_runs
from experiments.statistics import Comparison, holm, interval, paired_difference, verdict

RUNS = {"study": "sweep:siglip_vs_clip", "bias": "sweep:siglip_bias"}
BIAS = -6.0     # of the worked example: logits SCALE * cosine + BIAS
METRIC, MEMORY = "val/zero_shot_scenes", "val/step_memory_mb"
COLOURS = {"CLIP": "#0072b2", "SigLIP": "#d55e00"}
Group = Mapping[Any, Mapping[int, float]]       # of a setting, of a seed


def draw(runs: dict[str, Path]) -> Drawn:
    study, bias = (finished(folder) for folder in runs.values())
    accuracy = {kind: grouped([run for run in study if kind_of(run) == kind], batch_of, METRIC, 100) for kind in COLOURS}
    memory = {kind: grouped([run for run in study if kind_of(run) == kind], batch_of, MEMORY, 1) for kind in COLOURS}
    starts = grouped(bias, bias_of, METRIC, 100)
    batches = sorted(set.intersection(*(set(group) for group in accuracy.values())))
    if not batches or len(starts) != 2:
        raise Mistake(f"figure siglip_and_clip: no batch size of both losses in {runs['study']}, or not two biases in {runs['bias']}")
    differences = {batch: paired_difference(accuracy["SigLIP"][batch], accuracy["CLIP"][batch]) for batch in batches}

    figure = shared.page(13.6, 7.6)
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.15], hspace=0.04)
    top, bottom = halves
    panels: Any = top.subplots(1, 3)
    cells(panels[0], softmax(SCALE * COSINES), "CLIP: softmax of each row …", "each row sums to 1", COLOURS["CLIP"], rows=True)
    cells(panels[1], softmax(SCALE * COSINES.T).T, "… and of each column", "each column sums to 1", COLOURS["CLIP"], rows=False)
    pairs = 1 / (1 + np.exp(-(SCALE * COSINES + BIAS)))
    cells(panels[2], pairs, "SigLIP: a sigmoid of each cell", f"no sum: do these two belong together?  b = {BIAS:g}".replace("-", "−"),
          COLOURS["SigLIP"])
    charts: Any = bottom.subplots(1, 4, width_ratios=[1.35, 1.1, 0.75, 0.9])
    lines(charts[0], accuracy, "zero-shot accuracy in %", names=True)
    charts[0].set_ylim(bottom=0)
    paired(charts[1], differences)
    beside(charts[2], starts)
    lines(charts[3], memory, "memory of a step in MiB")
    charts[3].set_yscale("log")
    titles = ("Accuracy at equal examples seen", "SigLIP − CLIP, by seed", "Start of SigLIP's bias", "Memory")
    for ax, title in zip(charts, titles, strict=True):
        ax.set_title(title, fontsize=11, color=shared.INK, loc="left", weight="bold")
    seeds = len(differences[batches[0]].seeds)
    shared.titled(figure, "SigLIP and CLIP: what the losses ask, and what batches they need",
                  f"{answer(differences)}; {seeds} seeds, bands and bars 95 % t-intervals; scenes of one object, small towers, the same "
                  "learning rate throughout")
    corrected = holm({str(batch): difference for batch, difference in differences.items()})
    return Drawn(figure, {
        "accuracy": accuracy, "step_memory_mb": memory, "accuracy_by_bias": starts,
        "siglip_minus_clip": {batch: told(difference) for batch, difference in differences.items()},
        "verdict": {batch: verdict("SigLIP", "CLIP", "points of zero-shot accuracy", difference, lower_is_better=False)
                    for batch, difference in corrected.items()},
        "bias_minus_10_less_prior_odds": told(paired_difference(*starts.values())), "claim": answer(differences)})


def finished(folder: Path) -> list[Run]:
    """The finished runs of a sweep; the last of those with equal parameters."""
    return [run for run in load_runs(folder) if run.state == "finished"]


def kind_of(run: Run) -> str:
    return str(run.config["model"]["class_path"]).rpartition(".")[2]


def batch_of(run: Run) -> int:
    return int(run.config["data"]["init_args"]["batch_size"])


def bias_of(run: Run) -> str:
    bias = run.config["model"]["init_args"].get("bias")
    return "−ln(N − 1)" if bias is None else f"{bias:g}".replace("-", "−")


def grouped(runs: list[Run], setting: Any, key: str, factor: float) -> dict[Any, dict[int, float]]:
    """The last value of a metric, by setting and seed."""
    found: dict[Any, dict[int, float]] = {}
    for run in runs:
        value = run.last(key)
        if value is not None and run.seed is not None:
            found.setdefault(setting(run), {})[run.seed] = round(factor * value, 4)
    return dict(sorted(found.items(), key=lambda item: (str(type(item[0])), item[0])))


def told(difference: Comparison) -> dict[str, Any]:
    """A difference as JSON holds it: no interval without a second seed."""
    bounds = [difference.low, difference.high] if math.isfinite(difference.low) else None
    return {"mean": difference.mean, "interval": bounds, "seeds": list(difference.seeds), "p": difference.p}


def answer(differences: Mapping[int, Comparison]) -> str:
    """What becomes of the claim that SigLIP does better at small batches: at which sizes which is ahead, after Holm's correction."""
    corrected = holm({str(batch): difference for batch, difference in differences.items()})
    said = []
    for name, sign in (("SigLIP", 1), ("CLIP", -1)):
        ahead = [batch for batch, difference in corrected.items() if difference.shown and difference.mean * sign > 0]
        if ahead:
            said.append(f"{name} ahead at N = {', '.join(ahead)}")
    undecided = [batch for batch, difference in corrected.items() if not difference.shown]
    if undecided:
        said.append(f"no difference shown at N = {', '.join(undecided)}")
    return "; ".join(said)


def cells(ax: Any, values: np.ndarray, title: str, subtitle: str, colour: str, rows: bool | None = None) -> None:
    """The worked example's probabilities [N, N], each cell as dark as it is probable; frames around what is normalised together."""
    num = len(values)
    for row, column in np.ndindex(num, num):
        value = values[row, column]
        ax.add_patch(Rectangle((column - 0.46, row - 0.4), 0.92, 0.8, facecolor=colour, alpha=0.06 + 0.8 * float(value), linewidth=0))
        if rows is None:
            ax.add_patch(Rectangle((column - 0.46, row - 0.4), 0.92, 0.8, fill=False, edgecolor=colour, linewidth=1.3))
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=11, color="white" if value > 0.55 else shared.INK,
                weight="bold" if row == column else "normal")
    for place in range(num if rows is not None else 0):
        corner, size = ((-0.5, place - 0.45), (num, 0.9)) if rows else ((place - 0.49, -0.47), (0.98, num - 0.06))
        ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.6))
    ax.set(xlim=(-0.62, num - 0.38), ylim=(num - 0.4, -0.6), xticks=range(num), yticks=range(num))
    ax.set_xticklabels([f"text {place + 1}" for place in range(num)])
    ax.set_yticklabels([f"picture {place + 1}" for place in range(num)])
    ax.tick_params(length=0, labelsize=9.5, labelcolor=shared.GREY)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=12, color=colour, weight="bold", loc="left", pad=20)
    ax.text(0, 1.035, subtitle, transform=ax.transAxes, fontsize=9.5, color=shared.GREY)


def lines(ax: Any, groups: Mapping[str, Group], label: str, names: bool = False) -> None:
    """Mean, band and single runs of each loss over the batch sizes."""
    for kind, group in groups.items():
        places = list(group)
        means = [interval(list(values.values())) for values in group.values()]
        ax.plot(places, [mean.mean for mean in means], color=COLOURS[kind], linewidth=2, marker="o", markersize=4)
        if all(math.isfinite(mean.low) for mean in means):
            low, high = [mean.low for mean in means], [mean.high for mean in means]
            ax.fill_between(places, low, high, color=COLOURS[kind], alpha=0.15, linewidth=0)
        for place, values in group.items():
            ax.scatter([place] * len(values), list(values.values()), color=COLOURS[kind], s=7, alpha=0.6, linewidths=0)
        if names:
            ax.plot([], [], color=COLOURS[kind], linewidth=2, marker="o", markersize=4, label=kind)
    if names:
        ax.legend(frameon=False, fontsize=10, labelcolor=shared.INK)
    over_batches(ax, sorted({place for group in groups.values() for place in group}))
    ax.set_ylabel(label)
    shared.quiet(ax)


def paired(ax: Any, differences: Mapping[int, Comparison]) -> None:
    """Each batch size's mean difference with its interval."""
    for batch, difference in differences.items():
        colour = COLOURS["SigLIP" if difference.mean > 0 else "CLIP"]
        if math.isfinite(difference.low):
            ax.plot([batch, batch], [difference.low, difference.high], color=colour, linewidth=2, alpha=0.6)
        ax.scatter([batch], [difference.mean], color=colour, s=30, zorder=3)
        ax.annotate(f"{difference.mean:+.1f}".replace("-", "−"), (batch, difference.mean), (7, 0), textcoords="offset points", va="center",
                    fontsize=9.5, color=shared.INK)
    ax.axhline(0, color=shared.GREY, linewidth=0.8, zorder=0)
    over_batches(ax, list(differences))
    ax.set_ylabel("points of accuracy")
    shared.quiet(ax)


def beside(ax: Any, starts: Mapping[str, Mapping[int, float]]) -> None:
    """The accuracies of each start of the bias, runs of one seed joined."""
    for seed in sorted(set.intersection(*(set(values) for values in starts.values()))):
        ax.plot(range(len(starts)), [values[seed] for values in starts.values()], color=COLOURS["SigLIP"], linewidth=1, marker="o",
                markersize=5, alpha=0.7)
    ax.set(xlim=(-0.4, len(starts) - 0.6), xticks=range(len(starts)), ylabel="zero-shot accuracy in %")
    ax.set_xticklabels(list(starts))
    ax.set_ylim(bottom=0)
    shared.quiet(ax)
    ax.tick_params(axis="x", labelsize=10, labelcolor=shared.INK)


def over_batches(ax: Any, batches: list[int]) -> None:
    """Batch sizes along a logarithmic axis, each by its number."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(batches))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{batch:,}" for batch in batches])
    ax.set_xlim(min(batches) / 1.4, max(batches) * 1.9)
    ax.set_xlabel("batch size N")
