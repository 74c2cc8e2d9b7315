"""Supervised against zero-shot at equal source accuracy: what is left of it on shifted scenes, and effective robustness off the line"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from callbacks.class_accuracy import wilson
from callbacks.clips import Clip
from callbacks.evaluation import RealImages
from callbacks.zero_shot import name_images
from datamodules.image_classes import ImageClasses
from datamodules.scenes.dataset import Scenes
from experiments.catalogue import Mistake
from experiments.drawing import Drawn
from experiments.figures import _trained as shared
from experiments.figures._line import at_equal_source, fitted, logit, residual_interval
from experiments.runs import Run, load_runs

RUNS = {"clip": "clip_scenes", "classifiers": "sweep:robustness_scenes"}
SHIFTS: dict[str, Any] = {"clean": "none", **{name: name for name in ("palette", "outline", "clutter", "texture", "noise")}}
NUM, SIDE, TEMPLATES = 1000, 32, ["a {}"]
CLIP, CLASSIFIER = "#7b3fa0", "#f0a202"
TICKS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)


def draw(runs: dict[str, Path]) -> Drawn:
    classifiers = [run for run in load_runs(runs["classifiers"]) if run.scalars.get("val/accuracy_on_clean")]
    if not classifiers:
        raise Mistake(f"run {runs['classifiers']}: no classifier there has logged val/accuracy_on_clean; give"
                      " a sweep of classifier_scenes with --run classifiers=FOLDER")
    shared.Trained(runs["clip"], "embed_images", "embed_tokens")
    clip = Clip(run=runs["clip"])
    data = {name: ImageClasses(Scenes(max_objects=1, shift=shift, num_train=64, num_validation=64, num_test=NUM), image_size=SIDE)
            for name, shift in SHIFTS.items()}
    pictures = {name: RealImages.among(one, "test") for name, one in data.items()}
    hits = {name: name_images(clip, real, TEMPLATES, num=NUM).right.double().numpy() for name, real in pictures.items()}
    source = float(hits["clean"].mean())
    points = {name: np.concatenate([ages(run, name) for run in classifiers]) for name in SHIFTS}      # A
    numbers: dict[str, Any] = {"num_images": NUM, "templates": TEMPLATES, "source_accuracy": source, "points": {}, "shifts": {}}
    for name in SHIFTS:
        numbers["points"][name] = np.round(points[name], 4).tolist()
        low, high = wilson(int(hits[name].sum()), NUM)
        own = numbers["shifts"][name] = {"clip": [float(hits[name].mean()), low, high],
                                         "classifier": at_equal_source(points["clean"], points[name], source)}
        if name != "clean":
            slope, offset = fitted(points["clean"], points[name])
            own |= {"slope": slope, "offset": offset,
                    "effective_robustness": residual_interval(points["clean"], points[name], hits["clean"], hits[name])}

    figure = shared.page(14.6, 7.0)
    halves: Any = figure.subfigures(1, 2, width_ratios=[6.0, 8.6], wspace=0.02)
    draw_chart(halves[0].subplots(len(SHIFTS), 2, width_ratios=[1.25, 3]), numbers, pictures)
    for ax, name in zip(halves[1].subplots(2, 3, sharex=True, sharey=True).flat, list(SHIFTS)[1:], strict=False):
        draw_line(ax, points, numbers["shifts"], name)
    explain(figure.axes[-1])
    oldest = max(points["clean"])
    age = (f"a supervised classifier at the age at which its clean accuracy is that of zero-shot CLIP ({source:.1%})" if source <= oldest
           else f"no classifier is as good as CLIP's {source:.1%} (best {oldest:.1%}): theirs is EXTRAPOLATED, train them longer")
    shared.titled(figure, "At equal accuracy on the source, what is left on pictures of another kind?",
                  f"scenes of one object, {NUM:,} test pictures each; {age}; {len(points['clean'])} ages, runs: {len(classifiers)}")
    return Drawn(figure, numbers)


def ages(run: Run, name: str) -> np.ndarray:
    """The accuracies of a classifier at its validations."""
    return np.array([value for _, value in run.scalars[f"val/accuracy_on_{name}"]])


def draw_chart(axes: np.ndarray, numbers: dict[str, Any], pictures: dict[str, RealImages]) -> None:
    """The lecture's chart: a picture of each kind, both accuracies, and the difference."""
    for (left, right), (name, own) in zip(axes, numbers["shifts"].items(), strict=True):
        shown = torch.cat(list(pictures[name].images(0, 3)), 2).add(1).div(2).permute(1, 2, 0).numpy()
        left.imshow(shown, interpolation="nearest")
        left.set(xticks=[], yticks=[])
        left.spines[:].set_visible(False)
        left.set_title(name, fontsize=10.5, color=shared.INK, loc="left", pad=3)
        theirs, (ours, low, high) = own["classifier"], own["clip"]
        for y, value, end, colour in ((1, theirs, theirs, CLASSIFIER), (0, ours, high, CLIP)):
            right.barh(y, value, 0.78, color=colour)
            right.text(end + 0.015, y, f"{value:.1%}", va="center", fontsize=10, color=shared.INK)
        right.errorbar(ours, 0, xerr=[[max(0, ours - low)], [max(0, high - ours)]], color=shared.INK, linewidth=1, capsize=2)
        right.text(1.34, 0.5, f"{100 * (ours - theirs):+.1f}", va="center", ha="right", fontsize=13, weight="bold",
                   color=CLIP if ours >= theirs else CLASSIFIER)
        right.set(xlim=(0, 1.36), ylim=(-0.55, 1.55), xticks=[], yticks=[1, 0])
        right.set_yticklabels(["classifier", "CLIP, zero-shot"], fontsize=9, color=shared.GREY)
        right.tick_params(length=0)
        right.spines[["top", "right", "bottom"]].set_visible(False)
        right.spines["left"].set_color(shared.HAIRLINE)
    axes[0, 1].set_title("Δ points", fontsize=10.5, color=shared.GREY, loc="right", pad=3)


def draw_line(ax: Axes, points: dict[str, np.ndarray], shifts: dict[str, Any], name: str) -> None:
    """Shifted over clean accuracy, both logit-scaled: classifiers, their line, y = x, and CLIP."""
    own = shifts[name]
    ends = logit(np.array([0.0, 1.0])) * 1.08
    ax.plot(ends, ends, color=shared.HAIRLINE, linewidth=1.2, zorder=0)
    ax.plot(ends, own["offset"] + own["slope"] * ends, color=CLASSIFIER, linewidth=1.8, zorder=1)
    ax.scatter(logit(points["clean"]), logit(points[name]), s=20, color=CLASSIFIER, edgecolors="white", linewidths=0.5, zorder=2)
    (ours, low, high), source = own["clip"], shifts["clean"]["clip"][0]
    x, y = logit(source), logit(ours)
    ax.errorbar(x, y, [[max(0, y - logit(low))], [max(0, logit(high) - y)]], color=CLIP, linewidth=1.4, capsize=2.5, zorder=3)
    ax.scatter(x, y, s=150, marker="*", color=CLIP, edgecolors="white", linewidths=0.8, zorder=4)
    value, low, high = own["effective_robustness"]
    ax.set_title(f"{name}: {100 * value:+.1f} points\n(95 %: {100 * low:+.1f} to {100 * high:+.1f})", fontsize=10.5, color=shared.INK,
                 loc="left")
    ticks = logit(np.array(TICKS))
    labels = [f"{tick:.0%}" for tick in TICKS]
    ax.set_xticks(ticks[::2], labels[::2])
    ax.set_yticks(ticks, labels)
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    shared.quiet(ax)
    if ax.get_subplotspec().is_first_col():                               # type: ignore[union-attr]
        ax.set_ylabel("shifted accuracy")
    ax.set_xlabel("clean accuracy")


def explain(ax: Axes) -> None:
    """The sixth place of the scatter plots is their legend."""
    ax.axis("off")
    ax.scatter([], [], s=20, color=CLASSIFIER, label="a classifier at some age")
    ax.plot([], [], color=CLASSIFIER, linewidth=1.8, label="line of classifiers (logits)")
    ax.plot([], [], color=shared.HAIRLINE, linewidth=1.2, label="y = x: nothing lost")
    ax.scatter([], [], s=150, marker="*", color=CLIP, label="zero-shot CLIP")
    ax.legend(loc="center left", frameon=False, fontsize=10)
    ax.text(0.02, 0.08, "effective robustness:\nCLIP − line, in points\nof shifted accuracy", transform=ax.transAxes, fontsize=10,
            color=shared.GREY)
