"""Zero-shot before CLIP: images mapped among the words of their classes, two of them never trained on; the gate; hit@k of DeViSE"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from callbacks.class_accuracy import wilson
from callbacks.unseen_accuracy import curve, harmonic, right, right_gated
from experiments.catalogue import Mistake
from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"socher": "socher_cifar10", "devise": "devise_cifar10"}
SPLIT, PER_CLASS, PASSING, NUM_TRAIN = "test", 120, 0.9, 2000
HITS = (1, 2, 5)
SEEN, UNSEEN, BOTH = "#0072b2", "#d55e00", "#1a1a1a"


def draw(runs: dict[str, Path]) -> Drawn:
    socher, devise = (shared.Trained(runs[key], "recognise", "embed") for key in RUNS)
    for run in (socher, devise):
        if run.model.seen.all():
            raise Mistake(f"run {run.folder}: it has seen every class; give one trained on datamodules.held_out.HeldOut with --run KEY=RUN")
    figure = shared.page(15.5, 5.6)
    space, gate, hits = figure.subplots(1, 3, width_ratios=[1.35, 1, 1.05])
    numbers: dict[str, Any] = {"data": socher.title, "split": SPLIT, "space": draw_space(space, socher), "gate": draw_gate(gate, socher),
                               "hits": draw_hits(hits, devise)}
    unseen = " and ".join(name for name, known in zip(socher.classes, socher.model.seen.tolist(), strict=True) if not known)
    share = numbers["gate"]["among_unseen"]
    shared.titled(figure, "Images among words: a class without a training image is found by its name",
                  f"{socher.title}, {SPLIT} images; {unseen} were never trained on: told that an image shows one of them, "
                  f"the nearest word says which in {share[0]:.1%} (95 %: {share[1]:.1%} to {share[2]:.1%}; chance {share[3]:.0%})")
    return Drawn(figure, numbers)


def recognised(run: Any, split: str, num: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [N, K], novelty [N] and labels [N] of the images of a split, in the order of `real`."""
    images, labels = run.real(split, num or len(run.data.labels(split)))
    parts = [run.model.recognise(some.to(run.model.device)) for some in images.split(500)]
    scores, novelty = (torch.cat([part[which].cpu() for part in parts]) for which in (0, 1))
    return scores, novelty, labels


def draw_space(ax: Axes, run: Any) -> dict[str, Any]:
    """Images and words in the plane in which the classes' mean images and words spread most."""
    classes, seen = run.classes, run.model.seen.cpu()
    images = [run.of_class(SPLIT, label, PER_CLASS) for label in range(len(classes))]
    with torch.no_grad():
        mapped = [run.model.embed(some.to(run.model.device)).double().cpu().numpy() for some in images]
    words = run.model.words().double().cpu().numpy()
    spread = np.concatenate([np.stack([some.mean(0) for some in mapped]), words])
    centre = spread.mean(0)
    _, scale, axes = np.linalg.svd(spread - centre, full_matrices=False)
    share = scale**2 / (scale**2).sum()
    for label, own in enumerate(mapped):
        points = (own - centre) @ axes[:2].T
        new = not seen[label]
        ax.scatter(points[:, 0], points[:, 1], s=16 if new else 9, marker="x" if new else "o",
                   color=shared.COLOURS[label % len(shared.COLOURS)], linewidths=0.9 if new else 0,
                   alpha=0.75 if new else 0.45, zorder=2 if new else 1)
    places = (words - centre) @ axes[:2].T
    beside = apart(places)
    for label, (x, y) in enumerate(places):
        colour = shared.COLOURS[label % len(shared.COLOURS)]
        ax.scatter(x, y, s=190, marker="*", color=colour, edgecolors="white", linewidths=1.2, zorder=4)
        ax.annotate(classes[label], (x, y), xytext=beside[label], textcoords="data", fontsize=10, weight="bold", ha="center", va="center",
                    zorder=5, color=shared.INK, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1.2, "shrinkB": 5},
                    bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.9, "linewidth": 1.3, "edgecolor": colour,
                          "linestyle": "-" if seen[label] else "--"})
    shared.quiet(ax)
    low, high = np.quantile(np.concatenate([(own - centre) @ axes[:2].T for own in mapped]), [0.003, 0.997], axis=0)
    low, high = np.minimum(low, beside.min(0)), np.maximum(high, beside.max(0))
    ax.set(xlim=(low[0] - 0.12, high[0] + 0.06), ylim=(low[1] - 0.06, high[1] + 0.06))
    names = [f"direction {number + 1} ({share[number]:.0%} of the spread of classes)" for number in (0, 1)]
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.set_title("Socher: words ★, images of seen (●) and unseen (×) classes", fontsize=11, color=shared.INK, loc="left")
    return {"per_class": PER_CLASS, "axes": names, "words": dict(zip(classes, shared.rounded(places), strict=True)),
            "means": {name: shared.rounded(((own - centre) @ axes[:2].T).mean(0)) for name, own in zip(classes, mapped, strict=True)}}


def apart(places: np.ndarray) -> np.ndarray:
    """Where the names of points [N, 2] stand, above them and so that none covers another: those in the way are moved up or down."""
    size = np.ptp(places, axis=0)
    named = places + np.array([0, 0.075 * size[1]])
    for _ in range(200):
        for first in range(len(named)):
            for second in range(first):
                gap = named[first] - named[second]
                if abs(gap[0]) < 0.2 * size[0] and abs(gap[1]) < 0.07 * size[1]:
                    push = 0.5 * (0.072 * size[1] - abs(gap[1])) * (1 if gap[1] >= 0 else -1)
                    named[first, 1] += push
                    named[second, 1] -= push
    return named


def draw_gate(ax: Axes, run: Any) -> dict[str, Any]:
    """The accuracies over the gate's threshold, drawn over the share of seen-class images that it lets pass as seen."""
    scores, novelty, labels = recognised(run, SPLIT)
    seen = run.model.seen.cpu()
    new = ~seen[labels]
    rows = np.array(curve(scores, novelty, labels, seen, points=81))
    named = [("seen classes", 2, SEEN), ("unseen classes", 3, UNSEEN), ("harmonic mean", 4, BOTH)]
    for name, column, colour in named:
        ax.plot(rows[:, 1], rows[:, column], color=colour, linewidth=2.2, linestyle="--" if column == 4 else "-", label=name)
    own = float(recognised(run, "train", NUM_TRAIN)[1].double().quantile(PASSING))
    hits = right_gated(scores, novelty, labels, seen, own).double()
    at = {"passing": float((novelty[~new] <= own).double().mean()), "seen": float(hits[~new].mean()), "unseen": float(hits[new].mean())}
    ax.axvline(at["passing"], color=shared.GREY, linewidth=1, linestyle=":")
    ax.text(at["passing"] - 0.015, 0.99, f"threshold that\n{PASSING:.0%} of the\ntraining images\npass as seen", ha="right", va="top",
            fontsize=9, color=shared.GREY)
    shared.quiet(ax)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of seen classes' images that pass as seen (threshold →)",
           ylabel="accuracy among all classes")
    ax.legend(loc="lower center", frameon=False, fontsize=9.5)
    ax.set_title("the gate: a Gaussian around each seen word", fontsize=11, color=shared.INK, loc="left")
    among = right(scores, labels, ~seen)[new]
    chance = 1 / int((~seen).sum())
    known = right(scores, labels, seen)[~new]
    return {"curve": np.round(rows, 4).tolist(), "threshold": own, "at_threshold": at, "best_harmonic_mean": float(rows[:, 4].max()),
            "harmonic_mean": harmonic(at["seen"], at["unseen"]),
            "among_unseen": [float(among.double().mean()), *wilson(int(among.sum()), len(among)), chance],
            "among_seen": [float(known.double().mean()), *wilson(int(known.sum()), len(known)), 1 / int(seen.sum())]}


def draw_hits(ax: Axes, run: Any) -> dict[str, Any]:
    """Whether the right word is among the k nearest of all classes."""
    scores, _, labels = recognised(run, SPLIT)
    seen, classes = run.model.seen.cpu(), run.classes
    new = ~seen[labels]
    place = scores.argsort(1, descending=True).eq(labels[:, None]).int().argmax(1)         # of the right word, from 0
    numbers: dict[str, Any] = {"classes": len(classes)}
    for offset, (name, rows, colour) in enumerate([("seen classes", ~new, SEEN), ("unseen classes", new, UNSEEN)]):
        for number, k in enumerate(HITS):
            share = float((place[rows] < k).double().mean())
            low, high = wilson(int((place[rows] < k).sum()), int(rows.sum()))
            x = number + 0.38 * (offset - 0.5)
            ax.bar(x, share, 0.36, color=colour, label=name if not number else None)
            ax.errorbar(x, share, [[max(0, share - low)], [max(0, high - share)]], color=shared.INK, linewidth=1, capsize=2.5)
            ax.text(x, high + 0.012, f"{share:.0%}", ha="center", va="bottom", fontsize=10, color=shared.INK)
            numbers[f"{name} hit@{k}"] = [share, low, high, k / len(classes)]
    for number, k in enumerate(HITS):
        ax.plot([number - 0.42, number + 0.42], [k / len(classes)] * 2, color=shared.INK, linewidth=1.4, linestyle=":",
                label="chance" if not number else None)
    lines = []
    for label in torch.arange(len(classes))[~seen].tolist():
        said = torch.bincount(scores[labels == label].argmax(1), minlength=len(classes)).double() / int((labels == label).sum())
        first = said.argsort(descending=True)[:3].tolist()
        lines.append(f"{classes[label]} is called " + ", ".join(f"{classes[other]} {said[other]:.0%}" for other in first))
        numbers[f"{classes[label]} is called"] = {classes[other]: float(said[other]) for other in first}
    shared.quiet(ax)
    ax.set_xticks(range(len(HITS)), [f"hit@{k}" for k in HITS], fontsize=10, color=shared.INK)
    ax.set(ylim=(0, 1.22), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="right word among the k nearest of all classes")
    ax.set_xlabel("\n".join(lines), color=shared.GREY)
    ax.legend(loc="upper left", ncols=3, frameon=False, fontsize=9, columnspacing=1, handlelength=1.2, borderpad=0)
    ax.set_title("DeViSE: no gate, all words compete", fontsize=11, color=shared.INK, loc="left")
    return numbers
