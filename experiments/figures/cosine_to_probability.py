"""From cosines to probabilities: four texts' cosines with a picture, times the scale, through exp, over their sum"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.drawing import Drawn
from experiments.figures import _trained as shared

COSINES = np.array([0.32, 0.24, 0.20, 0.15])
SCALES = (1.0, 10.0, 100.0)     # CLIP's is learned, and held at 100 at most
TEXTS = ("text 1", "text 2", "text 3", "text 4")
BARS = ("#332288", "#88ccee", "#aab7c4", "#d5d8dc")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def draw(runs: dict[str, Path]) -> Drawn:
    steps = [(COSINES, scale * COSINES, np.exp(scale * COSINES), softmax(scale * COSINES)) for scale in SCALES]
    titles = ("cosine of picture and text", "× scale: the logits", "exp", "over their sum: the probability")
    figure = shared.page(12.4, 6.1)
    grid: Any = figure.subplots(len(SCALES), 4, width_ratios=[1, 1, 1, 1.25])
    for row, (scale, columns) in enumerate(zip(SCALES, steps, strict=True)):
        for column, values in enumerate(columns):
            ax = grid[row, column]
            ax.bar(range(4), values, color=BARS, width=0.78)
            full = 1.0 if column == 3 else values.max()
            for place, value in enumerate(values):
                ax.text(place, value + 0.025 * full, written(value, column), ha="center", va="bottom",
                        fontsize=9 if value >= 1000 else 10.5, color=shared.INK, weight="bold" if column == 3 and place == 0 else "normal")
            ax.set(ylim=(0, 1.22 * full), yticks=[], xticks=range(4))
            ax.set_xticklabels(TEXTS if row == len(SCALES) - 1 else [""] * 4, fontsize=9.5, color=shared.GREY)
            ax.tick_params(length=0)
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.spines["bottom"].set_color(shared.HAIRLINE)
            if row == 0:
                ax.set_title(titles[column], fontsize=11, color=shared.INK, weight="bold" if column == 3 else "normal", pad=10)
        grid[row, 0].set_ylabel(f"scale {scale:.0f}\n(temperature {1 / scale:g})", rotation=0, ha="right", va="center", fontsize=11,
                                color=shared.INK, labelpad=12)
    shared.titled(figure, "The same four cosines, three temperatures",
                  "p = softmax(scale × cosine): at scale 1 nearly even, at 100, where CLIP's training ends, nearly certain")
    numbers = {f"{scale:g}": {"logits": logits.round(6).tolist(), "exp": powers.tolist(), "probability": p.round(6).tolist()}
               for scale, (_, logits, powers, p) in zip(SCALES, steps, strict=True)}
    return Drawn(figure, {"cosines": COSINES.tolist(), "scales": numbers})


def written(value: float, column: int) -> str:
    """As many digits as tell the bars apart."""
    if column == 3:
        return f"{value:.3f}" if 0.001 <= value < 0.999 else f"{value:.4f}" if value >= 1e-4 else "0"
    if value < 1000:
        return f"{value:#.3g}".rstrip(".") if value >= 1 else f"{value:.2f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10" + str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
