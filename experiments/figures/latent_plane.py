"""One class over a plane of the latent (conditional VAE): slant and stroke width, both measured on the pictures"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.catalogue import Mistake
from experiments.drawing import Drawn
from experiments.figures import _trained as shared
from experiments.figures._strokes import measure

RUNS = {"cvae": "cvae_mnist"}
SIDE, PER_CLASS, MOST = 9, 200, 1000
NAMES, UNITS = ("slant", "stroke width"), ("°", " px")


def draw(runs: dict[str, Path]) -> Drawn:
    cvae = shared.Trained(runs["cvae"], "encode", "decode", conditional=True)
    told = {label: share for label in range(len(cvae.classes)) if (share := told_by_latent(*known(cvae, label, PER_CLASS))) is not None}
    if not told:
        raise Mistake(f"run {cvae.folder}: no class has 20 training images with ink to measure; give another with --run cvae=RUN")
    label = max(told, key=lambda one: told[one].mean())
    mu, measures = known(cvae, label, MOST)
    slopes, offsets = regression(mu, measures)                                                # D 2; 2
    low, high = np.quantile(measures, [0.05, 0.95], axis=0)
    asked = np.stack(np.meshgrid(np.linspace(low[0], high[0], SIDE), np.linspace(high[1], low[1], SIDE)), -1).reshape(-1, 2)
    z = latents(asked, slopes, offsets)
    images = cvae.decoded(torch.as_tensor(z), torch.full((len(z),), label))
    shown = measure(images.numpy())
    correlation = [correlated(asked[:, axis], shown[:, axis]) for axis in (0, 1)]

    figure = shared.page(11.2, 7.2)
    halves: Any = figure.subfigures(1, 2, width_ratios=[7.4, 3.8])
    left, right = halves
    plane = left.subplots()
    by_place = shown.reshape(SIDE, SIDE, 2)
    columns, rows = mean(by_place[..., 0], 0), mean(by_place[..., 1], 1)
    shared.show_grid(plane, images, SIDE, [f"{value:.1f}{UNITS[1]}" for value in rows])
    centres = np.array(plane.get_yticks())
    plane.set_xticks(centres, [f"{value:.0f}{UNITS[0]}" for value in columns])
    plane.set_xlabel("slant of the decoded pictures, mean of the column", fontsize=10.5, color=shared.INK)
    plane.set_ylabel("stroke width of the decoded pictures, mean of the row", fontsize=10.5, color=shared.INK)
    for axis, ax in enumerate(right.subplots(2, 1)):
        scatter_asked(ax, asked[:, axis], shown[:, axis], axis, correlation[axis])
    shared.titled(figure, f"“{cvae.classes[label]}” over a plane of the latent: slant and stroke width",
                  f"{cvae.title}, {cvae.kind}; the plane is found by regression of both measures on μ of {len(mu):,} training images")
    return Drawn(figure, {
        "data": cvae.title, "class": cvae.classes[label], "class_chosen": "best told by its latent: mean cross-validated R² of the two",
        "r2": {cvae.classes[one]: dict(zip(NAMES, np.round(share, 3).tolist(), strict=True)) for one, share in told.items()},
        "num_images": len(mu), "directions": dict(zip(NAMES, shared.rounded(slopes.T), strict=True)),
        "asked": shared.rounded(asked), "measured": shared.rounded(shown), "columns_slant": shared.rounded(columns),
        "rows_stroke_width": shared.rounded(rows), "correlation": dict(zip(NAMES, np.round(correlation, 4).tolist(), strict=True))})


def known(cvae: shared.Trained, label: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """mu [N, D] of training images of a class, and their slants and widths [N, 2]; only those with ink."""
    images = cvae.of_class("train", label, num)
    if not len(images):
        return np.zeros((0, 1)), np.zeros((0, 2))
    measures = measure(images.numpy())
    inked = np.isfinite(measures).all(1)
    return cvae.means(images, torch.full((len(images),), label))[inked], measures[inked]


def told_by_latent(mu: np.ndarray, measures: np.ndarray) -> np.ndarray | None:
    """The cross-validated R² [2] of slant and width from mu; None for a class of fewer than 20 images, or all alike."""
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import cross_val_predict

    if len(mu) < 20 or (measures.std(0) < 1e-6).any():
        return None
    told = cross_val_predict(LinearRegression(), mu, measures, cv=5)
    return 1 - ((measures - told) ** 2).sum(0) / ((measures - measures.mean(0)) ** 2).sum(0)


def regression(mu: np.ndarray, measures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """slopes [D, 2] and offsets [2] with measures = mu @ slopes + offsets, by least squares."""
    solved = np.linalg.lstsq(np.c_[mu, np.ones(len(mu))], measures, rcond=None)[0]
    return solved[:-1], solved[-1]


def latents(asked: np.ndarray, slopes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The latents [N, D] nearest to 0, and so the likeliest under N(0, I), that the regression gives the measures asked for [N, 2]."""
    return (asked - offsets) @ np.linalg.pinv(slopes)


def mean(measures: np.ndarray, axis: int) -> np.ndarray:
    """Along an axis, of what could be measured; NaN where nothing could."""
    there = np.isfinite(measures)
    return np.where(there.any(axis), np.where(there, measures, 0).sum(axis) / np.maximum(there.sum(axis), 1), np.nan)


def correlated(asked: np.ndarray, shown: np.ndarray) -> float:
    """Pearson's r where something is measured; 0 where it never varies."""
    there = np.isfinite(shown)
    return float(np.corrcoef(asked[there], shown[there])[0, 1]) if there.sum() > 1 and shown[there].std() > 0 else 0.0


def scatter_asked(ax: Any, asked: np.ndarray, shown: np.ndarray, axis: int, correlation: float) -> None:
    """Measured over asked, with the line on which both are equal."""
    ax.axline((float(asked.mean()),) * 2, slope=1, color=shared.HAIRLINE, linewidth=1.2, zorder=0)
    ax.scatter(asked, shown, s=16, color=("#332288", "#d55e00")[axis], linewidths=0, alpha=0.7)
    ax.set_title(f"{NAMES[axis]}: r = {correlation:.2f}", fontsize=11, color=shared.INK, loc="left")
    unit = UNITS[axis].strip().replace("°", "degrees")
    ax.set(xlabel=f"asked of the latent ({unit})", ylabel=f"measured ({unit})")
    shared.quiet(ax)
