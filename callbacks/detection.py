"""Finding what was never labelled: windows of a picture against the words of what is looked for, by any pair of towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor

from callbacks.boxes import average_precision, iou, kept, parts
from callbacks.clips import Clip, InTraining
from callbacks.evaluation import Evaluation, RealImages, declaration
from callbacks.intervals import bootstrap
from callbacks.media import declare, log_table
from callbacks.progress import track
from callbacks.protocols import Embeds
from callbacks.zero_shot import checked_templates, key_of


class Found(NamedTuple):
    """The boxes that one picture shows for one query, best first."""

    box: Tensor  # float32 [P, 4], x0 y0 x1 y1 in 0..1, y down
    score: Tensor  # float32 [P]


class Detector:
    """Detection with CLIP by patches: each window of the picture is shown to the image tower by itself, its cosine with the
    query's words is given to all patches in it, and a patch has the mean of its windows; the patches that stand out are boxes.

    Args:
        clip: The towers.
        cells: Patches along a side of the picture.
        zoom: Whether a window is cut out and enlarged; else it stays in its place and size, and all around it is the picture's
            mean colour. Towers that know objects of a few sizes only need the latter.
        windows: Sides of the square windows, in patches; each size has a map of its own, and of boxes that overlap by more
            than `overlap` (IoU) the one with the best score is kept.
        threshold: A patch stands out if its excess over the map's mean is above this share of the greatest excess.
    """

    def __init__(
        self,
        clip: Clip,
        cells: int = 16,
        windows: Sequence[int] = (4, 6),
        threshold: float = 0.5,
        overlap: float = 0.3,
        zoom: bool = False,
    ) -> None:
        wrong = [size for size in windows if not 1 <= size <= cells]
        if not windows or wrong:
            raise ValueError(f"windows: {list(windows)} are not all from 1 to the {cells} cells of a side")
        if not 0 < threshold < 1 or not 0 <= overlap <= 1:
            raise ValueError(f"threshold, overlap: {threshold}, {overlap} are not shares between 0 and 1")
        self.clip, self.cells, self.windows = clip, cells, list(windows)
        self.threshold, self.overlap, self.zoom = threshold, overlap, zoom

    def maps(self, images: Tensor, words: Tensor) -> list[Tensor]:
        """For each size of window: the mean cosine [B, K, G, G] of the windows around each patch of the images [B, C, H, W] in
        [-1, 1] with the words [K, D]."""
        return [spread(self.cosines(images, words, size), size) for size in self.windows]

    def cosines(self, images: Tensor, words: Tensor, size: int) -> Tensor:
        """[B, K, n, n] of the n = G - size + 1 windows in each direction with the words [K, D]."""
        shown = (cut if self.zoom else leave)(images, self.cells, size)  # B n n C h w
        embedded = self.clip.embed_images(shown.flatten(0, 2))  # B*n*n D
        return (embedded @ words.T).unflatten(0, shown.shape[:3]).movedim(-1, 1)

    def find(self, images: Tensor, words: Tensor) -> list[list[Found]]:
        """The boxes of each image [B, C, H, W] for each of the words [K, D]."""
        maps = [one.cpu() for one in self.maps(images, words)]
        return [[self.boxes([one[row, query] for one in maps]) for query in range(len(words))] for row in range(len(images))]

    def boxes(self, maps: Sequence[Tensor]) -> Found:
        """The boxes of one picture and query, of its maps [G, G]; the score is the greatest mean cosine in the box."""
        found = [part for heat in maps for part in parts(heat, self.threshold)]
        box = torch.tensor([place for place, _ in found]).div(self.cells)
        score = torch.tensor([score for _, score in found])
        best = kept(box, score, self.overlap)
        return Found(box[best], score[best])

    def settings(self) -> dict[str, Any]:
        how = {"cells": self.cells, "windows": self.windows, "threshold": self.threshold, "overlap": self.overlap}
        return {**how, "zoom": self.zoom}


def cut(images: Tensor, cells: int, size: int) -> Tensor:
    """Windows [B, n, n, C, h, w] of size x size patches, one patch apart, of images [B, C, H, W] whose side is a multiple of
    `cells` patches; n = cells - size + 1."""
    side = images.shape[-1] // cells
    if images.shape[-2] != images.shape[-1] or side * cells != images.shape[-1]:
        height, width = images.shape[-2:]
        raise ValueError(f"cells: pictures of {width}x{height} do not fall into {cells}x{cells} square patches; take another number")
    windows = images.unfold(2, size * side, side).unfold(3, size * side, side)  # B C n n h w
    return windows.movedim(1, 3)


def leave(images: Tensor, cells: int, size: int) -> Tensor:
    """Pictures [B, n, n, C, H, W] that show one window each, where it is; the rest is the picture's mean colour."""
    crops = cut(images, cells, size)
    num, side = crops.shape[1], images.shape[-1] // cells
    shown = images.mean((2, 3), keepdim=True)[:, None, None].repeat(1, num, num, 1, *images.shape[-2:])
    for down in range(num):
        for right in range(num):
            place = (slice(down * side, (down + size) * side), slice(right * side, (right + size) * side))
            shown[:, down, right, :, place[0], place[1]] = crops[:, down, right]
    return shown


def spread(cosines: Tensor, size: int) -> Tensor:
    """[B, K, G, G]: for each patch the mean of the windows [B, K, n, n] that it lies in; G = n + size - 1."""
    kernel = cosines.new_ones(1, 1, size, size)
    shown = cosines.flatten(0, 1)[:, None]  # B*K 1 n n
    total = torch.conv_transpose2d(shown, kernel)
    num = torch.conv_transpose2d(torch.ones_like(shown[:1]), kernel)
    return (total / num)[:, 0].unflatten(0, cosines.shape[:2])


class ZeroShotDetection(Evaluation):
    """Logs `val/detection_map50_<title>`, the mean over the queries of the average precision at an IoU of .5 (as COCO's), where
    every picture is searched for every class; `val/detection_iou_<title>`, the mean IoU of the best box with the object where the
    picture is known to show one of the class; and `val/detection_hits_<title>`, the share of these with an IoU of .5 or more.

    The table `val/detection_<title>` has them with bootstrap intervals, over pictures for IoU and hits, beside chance: a box of
    the objects' average size in the middle of the picture, equally sure everywhere.

    Args:
        data: Pictures with objects (ImageObjects), for instance of scenes at 64 px; null asks about the data of the training.
        split: validation, test, or another split of the source; when testing, validation stands for test.
        attributes: Which attributes name an object, in the order of their words: [colour, shape] makes "red star".
        templates: Texts with a {} for the name; several are an ensemble.
        num_images: How many pictures are searched.
        cells, windows, threshold, overlap, zoom: Those of `Detector`. The words are those of all names less their mean, so that
            a patch says one name rather than the others.
    """

    protocols = (Embeds,)
    of_data = ("objects",)

    def __init__(
        self,
        data: LightningDataModule | None = None,
        split: str = "validation",
        attributes: Sequence[str] = ("colour", "shape"),
        templates: Sequence[str] = ("a {}",),
        num_images: int = 200,
        cells: int = 16,
        windows: Sequence[int] = (4, 6),
        threshold: float = 0.5,
        overlap: float = 0.3,
        zoom: bool = False,
        only_last: bool = True,
    ) -> None:
        super().__init__(only_last)
        self.data, self.split, self.attributes = data, split, list(attributes)
        self.templates = checked_templates(list(templates), "ZeroShotDetection")
        if num_images < 1:
            raise ValueError(f"ZeroShotDetection: {num_images} pictures; take at least 1")
        self.num_images = num_images
        self.how: dict[str, Any] = {"cells": cells, "windows": list(windows), "threshold": threshold, "overlap": overlap, "zoom": zoom}
        self._declared: set[str] = set()

    def data_of(self, trainer: Trainer) -> Any:
        return super().data_of(trainer) if self.data is None else self.data

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        clip = InTraining(trainer, pl_module, self)
        split = "test" if stage == "test" and self.split == "validation" else self.split
        data = self.data_of(trainer)
        real = RealImages.among(data, split)
        measured = detect(
            Detector(clip, **self.how), data, real, self.attributes, self.templates, self.num_images, pl_module.device
        )
        key = f"{stage}/detection"
        title = key_of(real.title, real.split, stage)
        for name in ("map50", "iou", "hits"):
            pl_module.log(f"{key}_{name}_{title}", measured["clip"][name][0])
        rows = [[who, name, *value] for who, values in measured.items() for name, value in values.items()]
        log_table(trainer, f"{key}_{title}", ["boxes", "measure", "value", "low", "high", "num"], rows)
        if key + title not in self._declared:
            self._declared.add(key + title)
            about = {
                "chance": {name: round(value[0], 4) for name, value in measured["middle"].items()},
                "templates": self.templates,
                "interval": f"bootstrap 95 %, in the table {key}_{title}",
                **self.how,
                **clip.settings(),
                **declaration(trainer, real),
            }
            for name in ("map50", "iou", "hits"):
                declare(trainer, f"{key}_{name}_{title}", about)


def apart(words: Tensor) -> Tensor:
    """The words [K, D] less their mean: a cosine with them is the excess over that with the mean word."""
    return words - words.mean(0)


def detect(
    detector: Detector,
    data: Any,
    real: RealImages,
    attributes: Sequence[str],
    templates: Sequence[str],
    num: int,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
) -> dict[str, dict[str, tuple[float, float, float, int]]]:
    """{"clip": ..., "middle": ...}: map50, iou and hits as (value, low, high, number) of CLIP's boxes and of chance's."""
    num = min(num, len(real))
    rows = real.rows(num)
    every = data.objects(real.split)
    objects = [(picture, thing) for picture, row in enumerate(rows) for thing in every[row]]
    missing = [name for name in (*attributes, "box") if not all(name in thing for _, thing in objects)]
    if missing or not objects:
        what = f"no {missing[0]!r}" if missing else "none"
        raise ValueError(f"ZeroShotDetection: of the objects of {real.title} there is {what}; take other attributes, or other data")
    called = [" ".join(thing[name] for name in attributes) for _, thing in objects]
    names = sorted(set(called))
    words = apart(detector.clip.classifier(names, templates))
    truth = [(picture, names.index(name), torch.tensor(thing["box"], dtype=torch.float32))
             for name, (picture, thing) in zip(called, objects, strict=True)]  # fmt: skip
    found: list[list[Found]] = []
    for start in track(range(0, num, batch_size), f"detection: {num} pictures of {real.title}, {len(names)} queries"):
        found += detector.find(real.images(start, min(start + batch_size, num)).to(device), words)
    size = torch.stack([box[2:] - box[:2] for _, _, box in truth]).mean(0)
    middle = Found(torch.cat([0.5 - size / 2, 0.5 + size / 2])[None], torch.ones(1))
    return {"clip": measure(found, truth, len(names)), "middle": measure([[middle] * len(names)] * num, truth, len(names))}


def measure(
    found: list[list[Found]], truth: list[tuple[int, int, Tensor]], num_queries: int
) -> dict[str, tuple[float, float, float, int]]:
    """`found[picture][query]` against `truth` (picture, query, box [4]): value, interval's ends and number."""
    precisions = []
    for query in range(num_queries):
        answers = [(picture, *answer) for picture, queries in enumerate(found)
                   for answer in zip(queries[query].box, queries[query].score.tolist(), strict=True)]  # fmt: skip
        objects = [(picture, box) for picture, other, box in truth if other == query]
        precisions.append(average_precision(answers, objects))
    best = torch.stack([
        iou(found[picture][query].box[:1], box[None])[0, 0] if len(found[picture][query].box) else torch.tensor(0.0)
        for picture, query, box in truth
    ])  # fmt: skip
    values = {"map50": torch.tensor(precisions), "iou": best, "hits": (best >= 0.5).double()}
    return {name: (float(value.double().mean()), *bootstrap(value), len(value)) for name, value in values.items()}
