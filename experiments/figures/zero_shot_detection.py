"""Zero-shot detection with CLIP: windows of a picture against words, as a heat map and boxes for each query; mAP and IoU beside chance"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from callbacks.boxes import iou
from callbacks.clips import Clip
from callbacks.detection import Detector, apart, detect
from callbacks.evaluation import RealImages
from datamodules.image_objects import ImageObjects
from datamodules.scenes.dataset import NAMES, Scenes
from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"clip": "clip_scenes"}
SIDE, NUM, SHOWN, TEMPLATES, ATTRIBUTES = 64, 60, 4, ["a {}"], ("colour", "shape")
FOUND, TRUE, CHANCE = "#ffffff", "#111111", "#9aa0a6"
MEASURES = {"map50": "mAP@.5\nall queries", "iou": "mean IoU\nof the best box", "hits": "hits\nIoU ≥ .5"}


def draw(runs: dict[str, Path]) -> Drawn:
    shared.Trained(runs["clip"], "embed_images", "embed_tokens")                # a mistake in one line where it is no such run
    detector = Detector(Clip(run=runs["clip"]))
    data = ImageObjects(Scenes(num_train=64, num_validation=64, num_test=NUM), image_size=SIDE)
    real = RealImages.among(data, "test")
    measured = detect(detector, data, real, ATTRIBUTES, TEMPLATES, NUM)
    objects = data.objects("test")
    several = [place for place, row in enumerate(real.rows(len(real))) if len(objects[row]) == 3][:SHOWN]

    figure = shared.page(13.6, 2.25 * SHOWN + 0.2)
    halves: Any = figure.subfigures(1, 2, width_ratios=[9.6, 4], wspace=0.02)
    grid = halves[0].subplots(SHOWN, 4, squeeze=False)
    shown = [draw_picture(axes, detector, real, place, objects[real.rows(len(real))[place]])
             for axes, place in zip(grid, several, strict=True)]
    grid[0, 0].set_title("picture", fontsize=11, color=shared.INK, loc="left", pad=20)
    draw_measures(halves[1].subplots(), measured)
    settings = detector.settings()
    shared.titled(figure, "Zero-shot detection: CLIP was trained on whole pictures and captions, and asked where",
                  f"windows of {' and '.join(map(str, settings['windows']))} patches of a {settings['cells']} x {settings['cells']} grid, "
                  "mean cosine per patch, beyond that of all names, as heat; white: box found, dashed: true box")
    return Drawn(figure, {"data": real.title, "split": "test", "num_pictures": NUM, "image_size": SIDE, "templates": TEMPLATES, **settings,
                          "measured": {who: {name: list(value) for name, value in values.items()} for who, values in measured.items()},
                          "shown": shown})


def draw_picture(axes: Any, detector: Detector, real: RealImages, place: int, things: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The picture, and for each of its objects the heat of its name over it with the best box and the true one."""
    image = real.images(place, place + 1)
    pixels = image[0].add(1).div(2).permute(1, 2, 0).numpy()
    axes[0].imshow(pixels, extent=(0, 1, 1, 0), interpolation="nearest")
    names = [" ".join(thing[name] for name in ATTRIBUTES) for thing in things]
    words = apart(detector.clip.classifier(NAMES, TEMPLATES))[[NAMES.index(name) for name in names]]
    maps = detector.maps(image, words)
    found = detector.find(image, words)[0]
    numbers = []
    for query, (ax, name, thing) in enumerate(zip(axes[1:], names, things, strict=False)):
        heat = np.mean([one[0, query].numpy() for one in maps], 0)
        ax.imshow(pixels.mean(2), extent=(0, 1, 1, 0), cmap="gray", vmin=-0.3, vmax=1.3)
        ax.imshow(heat, extent=(0, 1, 1, 0), cmap="magma", alpha=0.62, interpolation="bilinear")
        box = found[query].box[0]
        agreement = float(iou(box[None], box.new_tensor(thing["box"])[None]))
        for (x0, y0, x1, y1), colour, style in ((thing["box"], TRUE, "--"), (box.tolist(), FOUND, "-")):
            ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=2, linestyle=style))
        ax.set_title(f"{name}, IoU {agreement:.2f}", fontsize=10, color=shared.INK, pad=4)
        numbers.append({"query": name, "box": shared.rounded(box.numpy()), "true": shared.rounded(np.array(thing["box"])),
                        "iou": round(agreement, 3)})
    for ax in axes:
        ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
        ax.spines[:].set_color(shared.HAIRLINE)
    return numbers


def draw_measures(ax: Axes, measured: dict[str, dict[str, tuple[float, float, float, int]]]) -> None:
    """CLIP's boxes beside one of average size in the middle."""
    for offset, (who, name, colour) in enumerate((("clip", "CLIP", "#0072b2"), ("middle", "chance: an average box in the middle", CHANCE))):
        for number, key in enumerate(MEASURES):
            value, low, high, _ = measured[who][key]
            x = number + 0.38 * (offset - 0.5)
            ax.bar(x, value, 0.36, color=colour, label=name if not number else None)
            ax.errorbar(x, value, [[max(0, value - low)], [max(0, high - value)]], color=shared.INK, linewidth=1, capsize=2.5)
            ax.text(x, high + 0.012, f"{value:.2f}", ha="center", va="bottom", fontsize=10, color=shared.INK)
    shared.quiet(ax)
    ax.set_xticks(range(len(MEASURES)), list(MEASURES.values()), fontsize=9.5, color=shared.INK)
    ax.set_ylim(0, min(1, 1.2 * max(high for values in measured.values() for _, _, high, _ in values.values())))
    ax.legend(loc="upper left", frameon=False, fontsize=9.5)
    num = measured["clip"]["iou"][3]
    ax.set_title(f"{NUM} test pictures, {num} objects", fontsize=11, color=shared.INK, loc="left")
