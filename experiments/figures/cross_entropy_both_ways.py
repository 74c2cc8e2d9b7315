"""The loss of CLIP by hand: four pairs, their matrix with the diagonal lit, and -log p along its rows and its columns"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from datamodules.scenes import drawing
from datamodules.scenes.dataset import NAMES, Scenes
from datamodules.scenes.world import COLOURS
from experiments.drawing import Drawn
from experiments.figures import _trained as shared
from experiments.figures.cosine_to_probability import softmax

COSINES = np.array([[0.91, 0.35, 0.42, 0.10], [0.28, 0.74, 0.15, 0.47], [0.55, 0.12, 0.62, 0.20], [0.05, 0.40, 0.18, 0.86]])
SCALE, SIZE = 10.0, 96
ROW, COLUMN = "#0072b2", "#d55e00"
LIT: dict[str, Any] = {"facecolor": "#ffe39f", "edgecolor": "#e0a800"}
DIM: dict[str, Any] = {"facecolor": "#f4f6f8", "edgecolor": "white"}
LOOK = {"ha": "center", "va": "center"}


def losses(cosines: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """-log p [N] of each picture among the texts of its row, and of each text among the pictures of its column."""
    return -np.log(np.diag(softmax(scale * cosines))), -np.log(np.diag(softmax(scale * cosines.T)))


def draw(runs: dict[str, Path]) -> Drawn:
    source = Scenes(max_objects=1)
    found = source.describe("train", np.arange(200))
    labels = found.shape[:, 0] * len(COLOURS) + found.colour[:, 0]
    chosen = distinct(labels, len(COSINES))
    pictures = drawing.draw(source.describe("train", chosen), SIZE)                           # N H W 3
    texts = [NAMES[label] for label in labels[chosen]]
    of_rows, of_columns = softmax(SCALE * COSINES), softmax(SCALE * COSINES.T).T
    by_row, by_column = losses(COSINES, SCALE)
    loss = (by_row.mean() + by_column.mean()) / 2

    num = len(COSINES)
    figure = shared.page(13.2, 4.55)
    panels: Any = figure.subplots(1, 3)
    matrix(panels[0], SCALE * COSINES, pictures, texts, f"1  logits: {SCALE:g} × cosine", "{:.1f}")
    matrix(panels[1], of_rows, pictures, texts, "2  softmax along each row: which text?", "{:.3f}")
    matrix(panels[2], of_columns, pictures, texts, "3  softmax along each column: which picture?", "{:.3f}")
    for ax, values, colour in ((panels[1], by_row, ROW), (panels[2], by_column, COLUMN)):
        for place, value in enumerate(values):
            start, end, spot = (np.array([along, place])[:: -1 if ax is panels[2] else 1] for along in (num - 0.42, num - 0.05, num + 0.42))
            ax.annotate("", start, end, arrowprops={"arrowstyle": "<-", "color": colour})
            ax.text(*spot, f"−log p\n{value:.3f}", color=colour, fontsize=10.5, **LOOK)
        ax.text(num + 0.42, num + 0.42, f"mean\n{values.mean():.3f}", color=colour, fontsize=11.5, weight="bold", **LOOK)
    shared.titled(figure, "Cross-entropy along both axes",
                  f"picture i and text i belong together: cell i, i, whose part of the loss is −log p;   loss = ½ ({by_row.mean():.3f} + "
                  f"{by_column.mean():.3f}) = {loss:.3f}, where ln {num} = {np.log(num):.3f} would be knowing nothing")
    return Drawn(figure, {
        "cosines": COSINES.tolist(), "scale": SCALE, "texts": texts, "loss": round(float(loss), 6),
        "p_of_rows": of_rows.round(6).tolist(), "p_of_columns": of_columns.round(6).tolist(),
        "minus_log_p_of_rows": by_row.round(6).tolist(), "minus_log_p_of_columns": by_column.round(6).tolist()})


def distinct(labels: np.ndarray, num: int) -> np.ndarray:
    """The first `num` rows no two of which share a colour or a shape."""
    chosen: list[int] = []
    for row, label in enumerate(labels):
        if all(label % 8 != labels[other] % 8 and label // 8 != labels[other] // 8 for other in chosen):
            chosen.append(row)
    return np.array(chosen[:num])


def matrix(ax: Any, values: np.ndarray, pictures: np.ndarray, texts: list[str], title: str, form: str) -> None:
    """Cells [N, N] with their numbers, the diagonal lit; pictures at the left, texts on top."""
    num = len(values)
    for row, column in np.ndindex(num, num):
        own = row == column
        ax.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, linewidth=1.2, **(LIT if own else DIM)))
        ax.text(column, row, form.format(values[row, column]), fontsize=12.5 if own else 11, weight="bold" if own else "normal",
                color=shared.INK if own else shared.GREY, **LOOK)
    for place, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        ax.imshow(picture, extent=(-1.45, -0.55, place + 0.45, place - 0.45), interpolation="nearest")
        ax.text(place, -0.6, text.replace(" ", "\n"), ha="center", va="baseline", fontsize=10, color=shared.INK, linespacing=1.05)
    ax.set(xlim=(-1.5, num + 0.85), ylim=(num + 0.8, -1.15), aspect="equal")
    ax.axis("off")
    ax.set_title(title, fontsize=12, color=shared.INK, loc="left", pad=4)
