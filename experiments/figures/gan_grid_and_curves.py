"""A conditional Wasserstein GAN: samples of every class, and the four curves of its training: c_loss, c_wass, c_gp, g_loss"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.catalogue import Mistake
from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"model": "cwgan_gp_mnist"}
ROWS, SEED = 10, 0
CURVES = {"c_loss": "critic: c_wass + λ c_gp", "c_wass": "mean score of generated − real", "c_gp": "mean (|gradient| − 1)²",
          "g_loss": "generator: −mean score of generated"}
COLOURS = dict(zip(CURVES, ("#332288", "#0072b2", "#d55e00", "#117733"), strict=True))


def draw(runs: dict[str, Path]) -> Drawn:
    gan = shared.Trained(runs["model"], "sample", conditional=True)
    curves = {name: gan.run.scalars.get(f"train/{name}") for name in CURVES}
    if not all(curves.values()):
        missing = ", ".join(name for name, values in curves.items() if not values)
        raise Mistake(f"run {gan.folder}: it has logged no {missing}; give a ConditionalWGANGP's with --run model=RUN")
    classes, left_out = shared.shown_classes(gan.classes)
    images = gan.sampled(torch.arange(len(classes)).repeat(ROWS), SEED)

    tile = 0.55
    wide = max(5.5, tile * len(classes))
    figure = shared.page(wide + 6.4, tile * ROWS + 0.8)
    halves: Any = figure.subfigures(1, 2, width_ratios=[wide, 6.2], wspace=0.02)
    left, right = halves
    ax = left.subplots()
    shared.show_grid(ax, images, len(classes), column_names=classes)
    numbers = {}
    for (name, meaning), ax in zip(CURVES.items(), right.subplots(2, 2, sharex=True).flat, strict=True):
        steps, values = np.array(curves[name]).T
        steps = steps + 1                                             # a step is logged once its batch is done
        ax.plot(steps, values, color=COLOURS[name], linewidth=0.7, alpha=0.3)
        ax.plot(*smooth(steps, values), color=COLOURS[name], linewidth=1.8)
        settled = values[len(values) // 20:]                          # the first batches would flatten the rest
        low, high = settled.min(), settled.max()
        margin = 0.06 * (high - low) or 1.0
        ax.set(ylim=(min(low, 0) - margin, max(high, 0) + margin))
        ax.axhline(0, color=shared.HAIRLINE, linewidth=0.8, zorder=0)
        ax.set_title(name, fontsize=11, color=COLOURS[name], loc="left", weight="bold", pad=20)
        ax.text(0, 1.04, meaning, transform=ax.transAxes, fontsize=9, color=shared.GREY)
        shared.quiet(ax)
        if ax.get_subplotspec().is_last_row():
            ax.set_xlabel("batches", color=shared.GREY, fontsize=9)
        numbers[name] = {"step": steps.astype(int).tolist(), "value": np.round(values, 5).tolist()}
    shared.titled(figure, "A conditional GAN: samples of every class, and the game behind them",
                  f"{gan.title}, {gan.kind}{gan.says_judge}{left_out}")
    metrics = gan.measured("val/class_accuracy", "val/c_wass", *(key for key in gan.run.scalars if key.startswith(("val/fid", "val/fd_"))))
    return Drawn(figure, {"data": gan.title, "classes": classes, "rows": ROWS, "seed": SEED, "curves": numbers,
                          "penalty_weight": getattr(gan.model, "penalty_weight", None), "run_metrics": metrics})


def smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over a sliding tenth of the curve, where a whole one fits."""
    window = max(1, len(values) // 10)
    kernel = np.ones(window) / window
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
