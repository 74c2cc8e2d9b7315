"""Boxes x0 y0 x1 y1: how far two agree, which of several are one, where a map stands out, and how well boxes find objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def iou(first: Tensor, second: Tensor) -> Tensor:
    """[N, M]: the share of the union that two boxes [N, 4] and [M, 4] have in common."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)  # N M
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return common / (areas[0][:, None] + areas[1][None] - common).clamp(min=1e-12)


def kept(box: Tensor, score: Tensor, overlap: float) -> Tensor:
    """int64 [P]: the rows of boxes [N, 4] that non-maximum suppression keeps, best score [N] first."""
    left = score.argsort(descending=True, stable=True)
    rows = []
    while len(left):
        rows.append(left[0])
        left = left[1:][iou(box[left[:1]], box[left[1:]])[0] <= overlap]
    return torch.stack(rows)


def parts(heat: Tensor, threshold: float) -> list[tuple[list[int], float]]:
    """The connected parts of a map [G, G] that stand out: box x0 y0 x1 y1 in cells and greatest value of each.

    A cell stands out if its excess over the map's mean is above `threshold` of the greatest excess; a flat map is one part.
    """
    from scipy.ndimage import find_objects, label

    excess = (heat - heat.mean()).clamp(min=0)
    numbered, _ = label((excess > threshold * excess.max()).numpy() if excess.max() > 0 else np.ones(heat.shape, bool))
    found = []
    for number, (rows, columns) in enumerate(find_objects(numbered), start=1):
        own = heat.numpy()[rows, columns][numbered[rows, columns] == number]
        found.append(([columns.start, rows.start, columns.stop, rows.stop], float(own.max())))
    return found


def average_precision(
    answers: Sequence[tuple[int, Tensor, float]], objects: Sequence[tuple[int, Tensor]], least: float = 0.5
) -> float:
    """COCO's: the mean, over 101 recalls from 0 to 1, of the best precision at that recall or a higher one.

    `answers` (picture, box [4], score), `objects` (picture, box [4]). The answers are asked in the order of their scores; each
    takes the object of its picture with the highest IoU among those that are not taken yet, if it is `least` or more.
    """
    order = sorted(range(len(answers)), key=lambda number: -answers[number][2])
    of_picture: dict[int, list[int]] = {}
    for number, (picture, _) in enumerate(objects):
        of_picture.setdefault(picture, []).append(number)
    taken: set[int] = set()
    hit = np.zeros(len(answers))
    for place, number in enumerate(order):
        picture, box, _ = answers[number]
        free = [other for other in of_picture.get(picture, []) if other not in taken]
        if not free:
            continue
        agreement = iou(box[None], torch.stack([objects[other][1] for other in free]))[0]
        best = int(agreement.argmax())
        if agreement[best] >= least:
            taken.add(free[best])
            hit[place] = 1
    found = hit.cumsum()
    recall, precision = found / max(1, len(objects)), found / np.arange(1, len(answers) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0)[places].mean())
