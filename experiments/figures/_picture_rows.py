"""Rows of pictures with a name at the left and captions on top."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def picture_rows(rows: Sequence[tuple[str, np.ndarray]], captions: Sequence[str] = (), inch: float = 1.25) -> Figure:
    """`rows` holds (name, uint8 [N, H, W, 3]); the pictures of a row may be of any size and are shown at `inch`."""
    num = len(rows[0][1])
    left, top = 0.8, 0.62 if captions else 0.05
    width, height = inch * num + left + 0.05, inch * 1.02 * len(rows) + top + 0.05
    figure = Figure(figsize=(width, height), facecolor="white")
    grid = figure.subplots(len(rows), num, squeeze=False, gridspec_kw={
        "wspace": 0.03, "hspace": 0.03, "left": left / width, "right": 1 - 0.05 / width, "top": 1 - top / height, "bottom": 0.05 / height})
    for axes, (name, pictures) in zip(grid, rows, strict=True):
        axes[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center", labelpad=6)
        for ax, picture in zip(axes, pictures, strict=True):
            ax.imshow(picture, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("#d5d8dc")
    for ax, text in zip(grid[0], captions):
        ax.set_title("\n".join(textwrap.wrap(text, 26)), fontsize=6.5, color="#5f6368")
    return figure
