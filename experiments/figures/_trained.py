"""What the figures of trained runs share: the run's model, pictures and record, grids of pictures, and colours of classes."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.extractors import built, load_run
from callbacks.media import grid, to_float
from experiments.catalogue import Mistake
from experiments.runs import load_runs

INK, GREY, HAIRLINE = "#1a1a1a", "#5f6368", "#d5d8dc"
COLOURS = ("#332288", "#ee7733", "#44aa99", "#882255", "#88ccee", "#117733", "#cc6677", "#999933", "#aa4499", "#ddcc77")  # Paul Tol's
MARKERS = "o^"
HEADLINE = 0.66         # inches above the pictures
MOST_COLOURED = len(COLOURS) * len(MARKERS)
MOST_CLASSES = 20       # in a grid of pictures; the first ones


class Trained:
    """A finished run opened for drawing; a `Mistake` where its model lacks one of `methods`, or is not `conditional` as asked."""

    def __init__(self, folder: Path, *methods: str, conditional: bool | None = None) -> None:
        self.folder = folder
        self.run = load_runs(folder)[0]
        if not (folder / "checkpoints" / "last.ckpt").is_file():
            raise Mistake(f"run {folder}: no checkpoint there (last.ckpt); let it finish, or give another with --run KEY=RUN")
        self.classes: list[str] = [str(name) for name in self.run.status.get("classes") or []]
        self.model = opened(folder)
        self.kind = type(self.model).__name__
        for method in methods:
            if not hasattr(self.model, method):
                raise Mistake(f"run {folder}: a {self.kind} has no {method}(), which this figure asks for; give another with --run KEY=RUN")
        if conditional is not None and bool(self.model.sampling_settings()["conditional"]) != conditional:
            which = "told no label, and this figure gives it one" if conditional else "told the label, and this figure has none to give"
            raise Mistake(f"run {folder}: its {self.kind} is {which}; give another with --run KEY=RUN")
        if not self.classes:
            raise Mistake(f"run {folder}: its data has no classes, which this figure shows; give another with --run KEY=RUN")

    @property
    def title(self) -> str:
        return str(self.run.status["title"])

    @cached_property
    def data(self) -> Any:
        """The run's DataModule, as its config.yaml describes it."""
        from lightning import LightningDataModule

        module = built(self.folder, "data", LightningDataModule)
        module.prepare_data()
        return module

    def real(self, split: str, num: int) -> tuple[Tensor, Tensor]:
        """`num` images [B, C, H, W] in [-1, 1] of a split and their labels [B], or all there are, in an order shuffled with seed 0."""
        return self.rows(split, np.random.default_rng(0).permutation(len(self.data.labels(split)))[:num])

    def of_class(self, split: str, label: int, num: int) -> Tensor:
        """The first `num` images of one class in that order, or all there are."""
        order = np.random.default_rng(0).permutation(len(self.data.labels(split)))
        return self.rows(split, order[self.data.labels(split)[order] == label][:num])[0]

    def rows(self, split: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return to_float(self.data.images(split)[rows]), torch.as_tensor(np.asarray(self.data.labels(split))[rows]).long()

    def means(self, images: Tensor, labels: Tensor) -> np.ndarray:
        """The latent means mu float64 [B, D]; a conditional model is told the labels."""
        parts = [self.model.encode(some.to(self.model.device), told.to(self.model.device))[0].double().cpu()
                 for some, told in zip(images.split(500), labels.split(500), strict=True)]
        return torch.cat(parts).numpy()

    def decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images [B, C, H, W] of latents [B, D] and, if the model is conditional, labels [B]."""
        return self.model.decode(z.float().to(self.model.device), labels.to(self.model.device)).cpu()

    def sampled(self, labels: Tensor, seed: int = 0) -> Tensor:
        """An image [B, C, H, W] for each label; image i is drawn from seed + i."""
        generators = [torch.Generator().manual_seed(seed + index) for index in range(len(labels))]
        return self.model.sample({"label": labels.to(self.model.device)}, generator=generators).cpu()

    def measured(self, *keys: str) -> dict[str, float]:
        """The run's own last values of those metrics that it has."""
        return {key: round(value, 4) for key in keys if (value := self.run.last(key)) is not None}

    @property
    def says_judge(self) -> str:
        """How many of its samples show their label, in words that follow others; nothing if it was not measured."""
        accuracy = self.run.last("val/class_accuracy")
        return "" if accuracy is None else f"; {accuracy:.0%} of its samples show their label, says a classifier"


def opened(folder: Path) -> Any:
    """The model of a run, ready to be asked; on the GPU if there is one."""
    return load_run(folder).eval().to("cuda" if torch.cuda.is_available() else "cpu")


def show_grid(ax: Axes, images: Tensor, columns: int, row_names: Sequence[str] = (), column_names: Sequence[str] = ()) -> None:
    """Images [B, C, H, W] in rows of `columns`; a name at the left of each row and above each column."""
    side = images.shape[-1] * max(1, 64 // max(images.shape[-2:])) + 2       # as `grid` draws them
    picture = grid(images, columns)
    ax.imshow(picture, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if row_names:
        ax.set_yticks(1 + side * (np.arange(len(row_names)) + 0.5), row_names)
    if column_names:
        turned = max(map(len, column_names)) > 4
        ax.set_xticks(1 + side * (np.arange(len(column_names)) + 0.5), column_names, rotation=40 if turned else 0,
                      ha="left" if turned else "center", rotation_mode="anchor" if turned else None)
        ax.xaxis.tick_top()
    ax.tick_params(length=0, labelsize=10, labelcolor=INK)


def titled(figure: Figure, title: str, subtitle: str = "") -> None:
    """The figure's own headline at the upper left, with a line of grey below it."""
    height = figure.get_figheight()
    figure.text(0.12 / figure.get_figwidth(), 1 - 0.10 / height, title, fontsize=13, weight="bold", color=INK, va="top")
    figure.text(0.12 / figure.get_figwidth(), 1 - 0.38 / height, subtitle, fontsize=9.5, color=GREY, va="top")
    lay_out(figure, rect=(0, 0, 1, 1 - HEADLINE / height))


def page(width: float, height: float) -> Figure:
    """A white figure of this size in inches that lays itself out below its headline."""
    figure = Figure(figsize=(width, height + HEADLINE), facecolor="white", layout="constrained")
    lay_out(figure, w_pad=0.12, h_pad=0.1)
    return figure


def lay_out(figure: Figure, **how: Any) -> None:
    """Tells the figure's constrained layout, in inches and shares of the figure."""
    engine: Any = figure.get_layout_engine()
    engine.set(**how)


def shown_classes(classes: Sequence[str]) -> tuple[list[str], str]:
    """The classes that fit into a grid of pictures, and words for those left out."""
    left = len(classes) - MOST_CLASSES
    return list(classes[:MOST_CLASSES]), f"; the first {MOST_CLASSES} of {len(classes)} classes" if left > 0 else ""


def to_plane(mu: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Points [N, 2] of latent means [N, D] and the names of the two axes: the dimensions themselves if D is 2, else the first two
    principal components. One dimension is drawn against nothing."""
    if mu.shape[1] <= 2:
        return np.pad(mu, ((0, 0), (0, 2 - mu.shape[1]))), [f"μ{index}" for index in "₁₂"[:mu.shape[1]]] + [""] * (2 - mu.shape[1])
    centred = mu - mu.mean(0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    share = scale**2 / (scale**2).sum()
    names = [f"principal component {index + 1} of μ ({share[index]:.0%} of its variance)" for index in (0, 1)]
    return centred @ axes[:2].T, names


def scatter_classes(ax: Axes, points: np.ndarray, labels: np.ndarray, classes: Sequence[str], names: bool) -> list[Any]:
    """Points [N, 2] coloured by class, with the name of each at its median if `names`; the handles of a legend.

    Beyond the colours there are, the rarer classes are grey.
    """
    common = sorted(np.argsort(-np.bincount(labels, minlength=len(classes)), kind="stable")[:MOST_COLOURED].tolist())
    rest = points[~np.isin(labels, common)]
    handles = []
    for place, label in enumerate(common):
        own = points[labels == label]
        handles.append(ax.scatter(own[:, 0], own[:, 1], s=9, color=COLOURS[place % len(COLOURS)], marker=MARKERS[place // len(COLOURS)],
                                  linewidths=0, alpha=0.75, label=classes[label]))
    if len(classes) > len(common):
        others = f"{len(classes) - len(common)} other classes"
        handles.append(ax.scatter(rest[:, 0], rest[:, 1], s=6, color=HAIRLINE, linewidths=0, label=others, zorder=0))
    for place, label in enumerate(common if names else []):
        own = points[labels == label]
        if len(own):
            middle = np.median(own, axis=0)
            ax.text(middle[0], middle[1], classes[label], fontsize=11, weight="bold", ha="center", va="center", zorder=5,
                    color=INK, bbox={"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": COLOURS[place % len(COLOURS)],
                                     "alpha": 0.88, "linewidth": 1.3})
    quiet(ax)
    return handles


def quiet(ax: Axes) -> None:
    """Two thin axes and small grey numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(HAIRLINE)
    ax.tick_params(color=HAIRLINE, labelcolor=GREY, labelsize=8.5)
    ax.xaxis.label.set(color=INK, fontsize=9.5)
    ax.yaxis.label.set(color=INK, fontsize=9.5)


def limits(ax: Axes, points: np.ndarray) -> None:
    """A square around all but the farthest two in a thousand points, so that one outlier does not shrink the cloud."""
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    middle, half = (low + high) / 2, 0.55 * max(float((high - low).max()), 1e-6)
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")


def legend(figure: Figure, handles: list[Any]) -> None:
    """Colours of classes, in room of their own below."""
    columns = min(len(handles), 10 if max(len(str(handle.get_label())) for handle in handles) < 6 else 5)
    below = figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=9.5, handletextpad=0.1,
                          columnspacing=1.2, markerscale=2.2)
    below.set_in_layout(False)
    for handle in below.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    height = figure.get_figheight()
    low = (0.25 + 0.21 * -(-len(handles) // columns)) / height
    lay_out(figure, rect=(0, low, 1, 1 - HEADLINE / height - low))


def rounded(points: np.ndarray) -> list:
    """Numbers as they go into the JSON; null where there is none."""
    return np.where(np.isnan(points), None, np.round(points, 3)).tolist()  # type: ignore[call-overload]
