"""CLIP in three panels: the cosines of a batch, a classifier made of label text, and the zero-shot naming of one picture"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon
from torch import Tensor

from callbacks.clips import filled
from experiments.drawing import Drawn
from experiments.figures import _pictures_and_words as words
from experiments.figures import _trained as shared

RUNS = {"clip": "clip_scenes"}
PAIRS, LABELS, SEED = 6, 5, 3
IMAGE_COLOUR, TEXT_COLOUR, ARROW = "#d7e8d4", "#e3d9ee", "#80868b"


def draw(runs: dict[str, Path]) -> Drawn:
    towers = words.Towers(runs["clip"])
    data, splits = towers.named_pictures()
    split = splits[-1]
    figure = shared.page(15.6, 7.3)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.16, 0.86, 1.0])
    batch = matrix(left, towers)

    names = [name.replace("_", " ") for name in data.class_names]
    template = towers.templates[0]
    row = int(words.several(data, split, 1, SEED)[0])
    image = towers.pictures(data.images(split)[[row]])
    seen, classifier, probability = words.embedded(towers, image, [filled(template, name) for name in names])
    order = probability[0].argsort(descending=True).tolist()
    true = int(data.labels(split)[row])
    some = list(dict.fromkeys([*order[:LABELS - 1], true]))
    some = sorted((some + order[LABELS - 1:LABELS])[:LABELS], key=names.__getitem__)
    label_classifier(middle, [names[label] for label in some], classifier[some], template, len(names))
    prediction(right, words.shown(image[0]), seen[0], [names[label] for label in some], [probability[0, label].item() for label in some],
               some.index(order[0]), some.index(true), template)

    unseen = "; 3 shows a pair of colour and shape that was never trained on" if split == "held_out" else ""
    shared.titled(figure, f"{towers.kind}: pictures and captions in one space",
                  f"{towers.title}, all numbers of a trained run: cosines, and vectors in colours, blue below zero and red above{unseen}")
    return Drawn(figure, {"data": towers.title, "seed": SEED, **batch, "template": template, "split": split, "row": row,
                          "right": names[true], "named": names[order[0]],
                          "probabilities": {names[label]: round(probability[0, label].item(), 5) for label in order[:LABELS]}})


def matrix(ax: Axes, towers: words.Towers) -> dict[str, Any]:
    """Panel 1: the cosines of a batch, its captions above and its pictures at the left."""
    captions = towers.data.captions("validation")
    order = np.random.default_rng(SEED).permutation(len(captions))
    short = [row for row in order.tolist() if max(map(len, captions[row])) < 42][:PAIRS]
    short += [row for row in order.tolist() if row not in short][:PAIRS - len(short)]
    texts = [max(captions[row], key=len) for row in short]
    image, text, _ = words.embedded(towers, pictures := towers.pictures(towers.data.images("validation")[short]), texts)
    cosine = (image @ text.T).cpu().numpy()                                               # N N
    num = len(texts)
    ax.set(xlim=(-1.75, num + 0.1), ylim=(num + 0.65, -2.05), aspect="equal")
    ax.set_axis_off()
    ax.set_anchor("N")
    ax.text(-1.7, -1.75, "1  trained on pairs", fontsize=13, weight="bold", color=shared.INK, va="center")
    low, high = cosine.min(), max(cosine.max(), cosine.min() + 1e-6)
    for row in range(num):
        ax.imshow(words.shown(pictures[row]), extent=(-1.02, -0.1, row + 0.96, row + 0.04), interpolation="nearest")
        ax.text(-1.2, row + 0.5, f"$I_{row + 1}$", fontsize=12, ha="right", va="center", color=shared.INK)
        ax.text(row + 0.5, -0.12, "\n".join(textwrap.wrap(texts[row], 13)), fontsize=7.6, ha="center", va="bottom", color=shared.INK,
                linespacing=1.15)
        for column in range(num):
            share = (cosine[row, column] - low) / (high - low)
            own = row == column
            ax.add_patch(FancyBboxPatch((column + 0.05, row + 0.05), 0.9, 0.9, boxstyle="round,pad=0,rounding_size=0.06",
                                        facecolor=blue(share), edgecolor="#e0a800" if own else "white", linewidth=2.4 if own else 0.5))
            ax.text(column + 0.5, row + 0.5, f"{cosine[row, column]:.2f}", fontsize=10.5, ha="center", va="center",
                    color="white" if share > 0.6 else shared.INK, weight="bold" if own else "normal")
    ax.text(num / 2, num + 0.3, "cosine of picture $I_i$ and caption $T_j$; those framed belong together", fontsize=9, ha="center",
            color=shared.GREY)
    right = (cosine.argmax(1) == np.arange(num)).mean()
    return {"rows": short, "captions": texts, "cosine": np.round(cosine, 4).tolist(), "nearest_is_own": float(right)}


def label_classifier(ax: Axes, names: Sequence[str], classifier: Tensor, template: str, num: int) -> None:
    """Panel 2: labels become captions, and the text tower makes a vector of each."""
    blank(ax)
    ax.text(0, 9.65, "2  a classifier from label text", fontsize=13, weight="bold", color=shared.INK, va="center")
    for place, name in enumerate(names):
        chip(ax, 0, 8.35 - 0.78 * place, 3.0, 0.6, name, "white")
    ax.text(1.5, 8.35 - 0.78 * len(names) + 0.3, f"⋮   {num} labels", fontsize=9, color=shared.GREY, ha="center", va="center")
    before, after = template.split("{}", 1)
    chip(ax, 3.95, 6.5, 3.6, 0.95, f"{before}[label]{after}", "#fff6d6")
    arrow(ax, (3.1, 6.95), (3.88, 6.95))
    tower(ax, 8.75, 6.98, "text\ntower", TEXT_COLOUR)
    arrow(ax, (7.6, 6.97), (8.02, 6.97))
    arrow(ax, (8.75, 5.55), (8.75, 4.3))
    ax.text(8.55, 4.92, "a unit vector each", fontsize=9, color=shared.GREY, ha="right", va="center")
    for place, (name, vector) in enumerate(zip(names, classifier, strict=True)):
        strip(ax, vector, 3.3, 3.55 - 0.72 * place, 6.2)
        ax.text(3.15, 3.8 - 0.72 * place, f"$T$ of {name}", fontsize=9, color=shared.INK, ha="right", va="center")


def prediction(ax: Axes, picture: np.ndarray, seen: Tensor, names: Sequence[str], shares: Sequence[float], best: int, true: int,
               template: str) -> None:
    """Panel 3: the vector of a picture, and how probable it makes each label."""
    blank(ax)
    ax.text(0, 9.65, "3  zero-shot naming of a picture", fontsize=13, weight="bold", color=shared.INK, va="center")
    inset = ax.inset_axes((0.0, 6.1, 2.55, 2.9), transform=ax.transData, anchor="C")
    inset.imshow(picture, interpolation="nearest")
    inset.set_axis_off()
    arrow(ax, (2.6, 7.55), (3.2, 7.55))
    tower(ax, 3.95, 7.55, "image\ntower", IMAGE_COLOUR)
    arrow(ax, (4.72, 7.55), (5.3, 7.55))
    strip(ax, seen, 5.4, 7.3, 4.3)
    ax.text(7.55, 8.12, "$I$", fontsize=12, color=shared.INK, ha="center", va="center")
    arrow(ax, (7.55, 7.1), (7.55, 5.75))
    ax.text(7.35, 6.4, "cosine with every $T$,\nscaled, then probabilities", fontsize=9, color=shared.GREY, ha="right", va="center",
            linespacing=1.3)
    for place, (name, share) in enumerate(zip(names, shares, strict=True)):
        low = 4.75 - 0.78 * place
        colour = words.RIGHT if place == true else words.WRONG if place == best else words.OTHER
        ax.barh(low + 0.3, 5.6, height=0.6, left=3.0, color="#f3f5f7", zorder=0)
        ax.barh(low + 0.3, 5.6 * share, height=0.6, left=3.0, color=colour, alpha=0.55, zorder=1)
        ax.text(2.85, low + 0.3, name, fontsize=10, ha="right", va="center", color=shared.INK, weight="bold" if place == best else "normal")
        ax.text(8.72, low + 0.3, f"{share:.1%}", fontsize=10, va="center", color=shared.INK, weight="bold" if place == best else "normal")
    said = filled(template, names[best])
    ax.text(5.0, 0.62, f"“{said}”", fontsize=13, weight="bold", ha="center", va="center",
            color=words.RIGHT if best == true else words.WRONG)
    ax.text(5.0, 0.12, "which is right" if best == true else f"but it is {filled(template, names[true])}", fontsize=9.5, ha="center",
            va="center", color=shared.GREY)


def blank(ax: Axes) -> None:
    ax.set(xlim=(0, 10), ylim=(-0.2, 10.0))
    ax.set_axis_off()


def chip(ax: Axes, left: float, low: float, width: float, height: float, text: str, colour: str) -> None:
    ax.add_patch(FancyBboxPatch((left, low), width, height, boxstyle="round,pad=0,rounding_size=0.18", facecolor=colour,
                                edgecolor=shared.HAIRLINE, linewidth=1.2))
    ax.text(left + width / 2, low + height / 2, text, fontsize=10, ha="center", va="center", color=shared.INK)


def tower(ax: Axes, middle: float, height: float, name: str, colour: str) -> None:
    """A tower lying on its side: wide where it is fed."""
    ax.add_patch(Polygon([(middle - 0.68, height - 1.35), (middle - 0.68, height + 1.35), (middle + 0.68, height + 0.75),
                          (middle + 0.68, height - 0.75)], facecolor=colour, edgecolor=ARROW, linewidth=1.1))
    ax.text(middle, height, name, fontsize=10, ha="center", va="center", color=shared.INK)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color=ARROW, linewidth=1.3))


def strip(ax: Axes, vector: Tensor, left: float, low: float, width: float) -> None:
    """A vector as a band of colours: its own numbers, blue below zero and red above."""
    ax.imshow(words.unit(vector)[None], extent=(left, left + width, low, low + 0.5), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto",
              interpolation="nearest")


def blue(share: float) -> tuple[float, float, float]:
    """White to blue."""
    pale, full = np.array([0.957, 0.969, 0.984]), np.array([0.086, 0.31, 0.62])
    red, green, dark = (pale + (full - pale) * share).tolist()
    return red, green, dark
