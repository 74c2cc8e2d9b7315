"""Zero-shot cards: a picture, the five captions that are most probable, and the right one in colour"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes

from callbacks.clips import filled
from experiments.drawing import Drawn
from experiments.figures import _pictures_and_words as words
from experiments.figures import _trained as shared

RUNS = {"clip": "clip_scenes"}
COLUMNS, ROWS, SEED = 4, 3, 3
BEST = 5


def draw(runs: dict[str, Path]) -> Drawn:
    towers = words.Towers(runs["clip"])
    data, splits = towers.named_pictures()
    names = [name.replace("_", " ") for name in data.class_names]
    texts = [filled(towers.templates[0], name) for name in names]
    classifier = towers.clip.classifier(names, towers.templates)
    shares = [COLUMNS * ROWS - COLUMNS * (len(splits) - 1), COLUMNS]       # the last row shows what was held out
    cards = [(split, row) for split, num in zip(splits, shares) for row in words.several(data, split, num, SEED).tolist()]

    figure = shared.page(15.2, 4.7)
    axes: Any = figure.subplots(ROWS, COLUMNS, squeeze=False).flat
    numbers: list[dict[str, Any]] = []
    for ax, (split, row) in zip(axes, cards):
        image = towers.pictures(data.images(split)[[row]])
        with torch.inference_mode():
            probability = towers.clip.probabilities(towers.clip.embed_images(image), classifier)[0].cpu()
        right, order = int(data.labels(split)[row]), probability.argsort(descending=True)
        rank = order.tolist().index(right) + 1
        best = [(texts[label], probability[label].item(), label == right) for label in order[:BEST].tolist()]
        card(ax, words.shown(image[0]), best, texts[right], rank, probability[right].item(), len(texts), split.replace("_", " "))
        numbers.append({"split": split, "row": row, "right": texts[right], "rank": rank, "probability": round(probability[right].item(), 5),
                        "best": [[text, round(share, 5)] for text, share, _ in best]})
    for ax in list(axes)[len(cards):]:
        ax.set_axis_off()
    first = sum(one["rank"] == 1 for one in numbers)
    unseen = "; the last row shows pairs of colour and shape that were never trained on" if len(splits) > 1 else ""
    more = f" and {len(towers.templates) - 1} more, averaged" if len(towers.templates) > 1 else ""
    loss = "softmax over all" if towers.model.similarity_settings()["loss"] == "softmax" else "sigmoid of each"
    shared.titled(figure, "Named by words alone",
                  f"{towers.title}, {towers.kind}: {len(texts)} captions “{towers.templates[0]}”{more}, probability by {loss}; "
                  f"the right one first in {first} of {len(numbers)}{unseen}")
    return Drawn(figure, {"data": towers.title, "templates": towers.templates, "num_classes": len(texts), "seed": SEED, "cards": numbers})


def card(ax: Axes, picture: Any, best: list[tuple[str, float, bool]], right: str, rank: int, share: float, num: int, split: str) -> None:
    """The picture at the left; at the right what it should be called, and a bar for each of the best captions."""
    ax.set(xlim=(0, 2.62), ylim=(0, 1), xticks=[], yticks=[], aspect="equal")
    ax.imshow(picture, extent=(0, 1, 0, 1), interpolation="nearest", zorder=2)
    ax.spines[:].set_visible(False)
    ax.text(1.08, 0.985, right, fontsize=11.5, weight="bold", color=shared.INK, va="top")
    ax.text(1.08, 0.84, f"right: {share:.1%}, rank {rank} of {num} · {split}", fontsize=8, color=shared.GREY, va="top")
    for place, (text, probability, is_right) in enumerate(best):
        low = 0.62 - 0.14 * place
        colour = words.RIGHT if is_right else words.WRONG if place == 0 else words.OTHER
        ax.barh(low, 1.5, height=0.118, left=1.08, color="#f3f5f7", zorder=0)
        ax.barh(low, 1.5 * probability, height=0.118, left=1.08, color=colour, alpha=0.38 if colour != words.OTHER else 0.55, zorder=1)
        ax.text(1.11, low - 0.004, text, fontsize=8.5, color=shared.INK, va="center", weight="bold" if is_right else "normal", zorder=3)
        ax.text(2.56, low - 0.004, f"{probability:.1%}", fontsize=8, color=shared.GREY, va="center", ha="right", zorder=3)
