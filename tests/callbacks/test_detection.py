"""Zero-shot detection: boxes and their metrics against slow loops, and towers whose answers are known in closed form."""

import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from callbacks import boxes
from callbacks.clips import Clip
from callbacks.detection import Detector, Found, ZeroShotDetection, cut, leave, measure, spread
from tests.callbacks.embedders import Matcher, Numbered
from tests.callbacks.tiny import Record, trainer

COLOURS = np.eye(3, dtype=np.uint8) * 255


class Squares(Numbered):
    """Black pictures of 32 pixels with one or two squares of 8 pixels, red (0), green (1) or blue (2)."""

    title = "squares"
    places: ClassVar = [(0, 0), (8, 4), (20, 12), (4, 20), (24, 24)]

    def __init__(self) -> None:
        super().__init__(num=15, num_classes=3)

    def things(self, row: int) -> list[tuple[int, int, int]]:
        x, y = self.places[row % 5]
        other = [((row + 1) % 3, *self.places[(row + 2) % 5])] if row % 2 else []
        return [(row % 3, x, y), *other]

    def images(self, split: str) -> np.ndarray:
        pictures = np.zeros((self.num, 3, 32, 32), dtype=np.uint8)
        for row in range(self.num):
            for kind, x, y in self.things(row):
                pictures[row, :, y : y + 8, x : x + 8] = COLOURS[kind][:, None, None]
        return pictures

    def objects(self, split: str) -> list[list[dict]]:
        return [[{"kind": str(kind), "box": [x / 32, y / 32, (x + 8) / 32, (y + 8) / 32]} for kind, x, y in self.things(row)]
                for row in range(self.num)]


class Painter(Matcher):
    """The share of each colour in a picture, and of black; the words of a number are its colour."""

    lost = False

    def embed_images(self, images):
        share = images.add(1).div(2).mean((2, 3))                          # B 3
        share = share.flip(1) if self.lost else share
        return F.normalize(F.pad(torch.cat([share, 0.3 * (1 - share.sum(1, keepdim=True))], 1), (0, 28)), dim=1)


def validate(callback: ZeroShotDetection, model: Painter, stage: str = "validate") -> Record:
    record = Record()
    getattr(trainer([callback], logger=record), stage)(model, datamodule=Squares(), verbose=False)
    return record


def last(record: Record, key: str) -> float:
    return record.values(key)[-1][1]


def asked(**how) -> ZeroShotDetection:
    return ZeroShotDetection(attributes=["kind"], templates=["{}"], **({"cells": 16, "windows": [2, 4]} | how))


@pytest.mark.parametrize("zoom", [True, False])
def test_towers_that_see_colours_find_their_squares(zoom):
    record = validate(asked(zoom=zoom), Painter())
    least = 0.9 if zoom else 0.7                       # the mean colour around a window holds some of what is looked for
    assert last(record, "val/detection_iou_squares") > 0.6 and last(record, "val/detection_hits_squares") > least
    assert last(record, "val/detection_map50_squares") > least - 0.1
    columns, rows = record.tables["val/detection_squares"][0]
    assert columns == ["boxes", "measure", "value", "low", "high", "num"]
    table = {(row[0], row[1]): row[2:] for row in rows}
    assert table["middle", "hits"][0] == 0 and table["middle", "iou"][0] < 0.1, "no square is in the middle"
    num = sum(len(things) for things in Squares().objects("validation"))
    assert table["clip", "iou"][3] == num and table["clip", "map50"][3] == 3
    assert table["clip", "iou"][1] <= table["clip", "iou"][0] <= table["clip", "iou"][2]
    about = record.about["val/detection_iou_squares"][0]
    assert about["chance"]["iou"] == pytest.approx(table["middle", "iou"][0], abs=1e-4) and about["cells"] == 16


def test_towers_that_confuse_colours_do_not():
    model = Painter()
    model.lost = True                                                      # red is taken for blue
    record = validate(asked(), model, "test")
    right = [last(record, "test/detection_hits_squares"), last(validate(asked(), Painter()), "val/detection_hits_squares")]
    assert right[0] < 0.6 < right[1]


def test_windows_are_the_parts_of_the_picture():
    images = torch.randn(2, 3, 32, 32)
    crops = cut(images, cells=8, size=3)
    assert crops.shape == (2, 6, 6, 3, 12, 12)
    for down, right in itertools.product(range(6), repeat=2):
        assert torch.equal(crops[:, down, right], images[:, :, 4 * down : 4 * down + 12, 4 * right : 4 * right + 12])


def test_windows_may_stay_where_they_are():
    images = torch.randn(2, 3, 32, 32)
    shown, crops = leave(images, 8, 3), cut(images, 8, 3)
    assert shown.shape == (2, 6, 6, 3, 32, 32)
    for down, right in itertools.product(range(6), repeat=2):
        expected = images.mean((2, 3), keepdim=True).expand_as(images).clone()
        expected[:, :, 4 * down : 4 * down + 12, 4 * right : 4 * right + 12] = crops[:, down, right]
        assert torch.equal(shown[:, down, right], expected)


def test_a_patch_has_the_mean_of_its_windows():
    cosines = torch.randn(2, 3, 4, 4)
    heat = spread(cosines, 3)
    assert heat.shape == (2, 3, 6, 6)
    for y, x in itertools.product(range(6), repeat=2):
        around = [cosines[:, :, down, right] for down in range(4) for right in range(4) if down <= y < down + 3 and right <= x < right + 3]
        torch.testing.assert_close(heat[:, :, y, x], torch.stack(around).mean(0))


def test_parts_that_stand_out():
    heat = torch.zeros(6, 8)
    heat[1:3, 2:5], heat[4, 6], heat[0, 7] = 1.0, 0.9, 0.3
    assert boxes.parts(heat, 0.5) == [([2, 1, 5, 3], 1.0), ([6, 4, 7, 5], pytest.approx(0.9))]
    assert boxes.parts(torch.full((4, 4), 0.2), 0.5) == [([0, 0, 4, 4], pytest.approx(0.2))], "nothing stands out: the whole picture"


def slow_iou(first, second) -> float:
    grid = [(x, y) for x in range(20) for y in range(20)]
    inside = [{(x, y) for x, y in grid if box[0] <= x < box[2] and box[1] <= y < box[3]} for box in (first, second)]
    return len(inside[0] & inside[1]) / len(inside[0] | inside[1])


def drawn(num: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 12, (num, 2), generator=generator)
    return torch.cat([low, low + torch.randint(1, 9, (num, 2), generator=generator)], 1).float()


def test_iou_counts_cells_and_suppression_is_the_loop():
    first, second = drawn(12, 0), drawn(9, 1)
    expected = [[slow_iou(a, b) for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(boxes.iou(first, second), torch.tensor(expected))
    box, score = drawn(40, 2), torch.rand(40, generator=torch.Generator().manual_seed(3))
    loop = []
    for row in score.argsort(descending=True).tolist():
        if all(slow_iou(box[row].tolist(), box[other].tolist()) <= 0.3 for other in loop):
            loop.append(row)
    assert boxes.kept(box, score, 0.3).tolist() == loop and 1 < len(loop) < 40


def slow_average_precision(answers, objects) -> float:
    """COCO's in loops: the precision at each of 101 recalls is the best of any cut of the list that reaches it."""
    answers = sorted(answers, key=lambda answer: -answer[2])
    cuts = []
    taken: set[int] = set()
    right = 0
    for number, (picture, box, _) in enumerate(answers, start=1):
        free = [(slow_iou(box.tolist(), other.tolist()), -place) for place, (where, other) in enumerate(objects)
                if where == picture and place not in taken]
        if free and max(free)[0] >= 0.5:
            taken.add(-max(free)[1])
            right += 1
        cuts.append((right / len(objects), right / number))
    return sum(max([precision for recall, precision in cuts if recall >= step / 100], default=0.0) for step in range(101)) / 101


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_the_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    objects = [(number % 5, box) for number, box in enumerate(drawn(13, seed + 10))]
    near = [(picture, box + torch.randint(0, 2, (4,), generator=generator)) for picture, box in objects]
    answers = [(picture, box, float(score)) for (picture, box), score in
               zip([*near, *objects[:5], *enumerate(drawn(5, seed + 20))], torch.rand(23, generator=generator), strict=True)]
    expected = slow_average_precision(answers, objects)
    assert boxes.average_precision(answers, objects) == pytest.approx(expected) and 0.05 < expected < 0.95


def test_average_precision_at_its_ends():
    objects = [(0, torch.tensor([0.0, 0, 4, 4])), (1, torch.tensor([2.0, 2, 6, 6]))]
    exact = [(picture, box, 1.0) for picture, box in objects]
    assert boxes.average_precision(exact, objects) == 1 and boxes.average_precision([], objects) == 0
    assert boxes.average_precision(exact[:1], objects) == pytest.approx(51 / 101)
    assert boxes.average_precision([*exact, *exact], objects) == 1, "doubles come after all is found"


def test_measures_are_those_of_torchmetrics(monkeypatch):
    pytest.importorskip("pycocotools", reason="torchmetrics' mean average precision needs pycocotools")
    from torchmetrics.detection import MeanAveragePrecision

    generator = torch.Generator().manual_seed(0)
    truth = [(picture, query, box) for (picture, query), box in zip(itertools.product(range(6), range(3)), drawn(18, 4), strict=True)]
    shifted = [box + torch.randint(0, 3, (4,), generator=generator) for _, _, box in truth]
    scores = torch.rand(18, generator=generator)
    found = [[Found(shifted[3 * picture + query][None], scores[3 * picture + query][None]) for query in range(3)] for picture in range(6)]
    theirs = MeanAveragePrecision(iou_thresholds=[0.5])
    labels = torch.arange(3)
    theirs.update([{"boxes": torch.stack(shifted[3 * row : 3 * row + 3]), "scores": scores[3 * row : 3 * row + 3], "labels": labels}
                   for row in range(6)],
                  [{"boxes": torch.stack([box for picture, _, box in truth if picture == row]), "labels": labels} for row in range(6)])
    assert measure(found, truth, 3)["map50"][0] == pytest.approx(float(theirs.compute()["map"]), abs=1e-6)


def test_mistakes_are_one_line():
    clip = Clip.__new__(Clip)
    for make, said in (
        (lambda: Detector(clip, cells=4, windows=[5]), "are not all from 1 to the 4 cells"),
        (lambda: Detector(clip, threshold=1.0), "are not shares between 0 and 1"),
        (lambda: cut(torch.zeros(1, 3, 32, 32), 5, 2), "pictures of 32x32 do not fall into 5x5 square patches"),
        (lambda: ZeroShotDetection(num_images=0), "0 pictures; take at least 1"),
        (lambda: ZeroShotDetection(templates=["star"]), "has no {}"),
        (lambda: validate(ZeroShotDetection(attributes=["colour"]), Painter()), "there is no 'colour'"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            make()
        assert "\n" not in str(caught.value)
