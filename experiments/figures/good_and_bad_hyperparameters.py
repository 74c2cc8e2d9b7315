"""Good and bad hyperparameters: the best and the worst trial of a sweep by its own metric, drawn from the same noise"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.catalogue import Mistake
from experiments.drawing import Drawn
from experiments.figures import _trained as shared
from experiments.runs import Run, load_runs

RUNS = {"trials": "sweep:hyperparameters_digits"}
ROWS, SEED = 8, 0


def draw(runs: dict[str, Path]) -> Drawn:
    sweep = yaml.safe_load((runs["trials"] / "sweep.yaml").read_text())
    metric, goal = sweep["metric"]["name"], sweep["metric"].get("goal", "minimize")
    trials = ranked(finished(runs["trials"]), metric, goal)
    if len(trials) < 2:
        raise Mistake(f"sweep {runs['trials']}: {len(trials)} finished trials with {metric}, of which no best and worst can be told;"
                      " let more finish")
    varied = [key for key in sweep["parameters"] if len({str(asked.get(key)) for _, asked in trials}) > 1]
    best, worst = (shared.Trained(run.folder, "sample", conditional=True) for run, _ in (trials[0], trials[-1]))
    classes, left_out = shared.shown_classes(best.classes)
    labels = torch.arange(len(classes)).repeat(ROWS)

    figure = shared.page(0.5 * 2 * len(classes) + 1.2, 0.5 * ROWS + 1.1)
    for ax, model, word, (_, asked) in zip(figure.subplots(1, 2), (best, worst), ("best", "worst"), (trials[0], trials[-1]), strict=True):
        shared.show_grid(ax, model.sampled(labels, SEED), len(classes))
        said = ", ".join(f"{key.rsplit('.', 1)[-1]} {asked[key]}" for key in varied)
        ax.set_title(f"{word}: {said}\n{metric.removeprefix('val/')} {model.run.last(metric):.3g}",
                     fontsize=11, color=shared.INK, linespacing=1.5)
    end = "highest" if goal == "maximize" else "lowest"
    shared.titled(figure, "Good and bad hyperparameters, the same noise",
                  f"{best.title}, {best.kind}: of {len(trials)} trials the {end} {metric.removeprefix('val/')} and the other end"
                  f"{best.says_judge}{left_out}")
    table = [{"run": run.id, metric: run.last(metric), **{key: asked[key] for key in varied}} for run, asked in trials]
    return Drawn(figure, {"data": best.title, "metric": metric, "goal": goal, "seed": SEED, "trials": table})


def finished(sweep: Path) -> list[tuple[Run, dict[str, Any]]]:
    """The finished trials of a sweep's folder, each with its parameters."""
    trials = [json.loads(line) for line in (sweep / "trials.jsonl").read_text().splitlines()]
    by_folder = {trial["folder"]: trial["parameters"] for trial in trials if trial["state"] == "finished"}
    return [(load_runs(sweep / folder)[0], asked) for folder, asked in by_folder.items()]


def ranked(trials: list[tuple[Run, dict[str, Any]]], metric: str, goal: str) -> list[tuple[Run, dict[str, Any]]]:
    """The trials that have a finite value of `metric`, the best first."""
    values = [(run.last(metric), run, asked) for run, asked in trials]
    known = [(value, run, asked) for value, run, asked in values if value is not None and math.isfinite(value)]
    return [(run, asked) for _, run, asked in sorted(known, key=lambda one: one[0], reverse=goal == "maximize")]
