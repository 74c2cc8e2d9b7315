"""Reading and attribute accuracy in a real Trainer, with a judge and models whose answers are known in closed form.

A picture here carries its scene's number in its first pixel; the judge reads it and knows the scene.
"""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from callbacks.attribute_accuracy import AttributeAccuracy
from callbacks.class_accuracy import wilson
from callbacks.reading_accuracy import ReadingAccuracy
from datamodules.scenes.captions import parse
from datamodules.scenes.dataset import Scenes
from datamodules.scenes.wording import VOCABULARY, things
from tests.callbacks.test_extractors import write_run
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer

NUM = 120
WORLD = Scenes()
ROWS = {split: list(WORLD.rows(split, np.arange(NUM), 8)) for split in ("validation", "test")}
SCENES = {split: WORLD.describe(split, np.arange(NUM)) for split in ROWS}


def objects(split: str, row: int) -> list[dict]:
    return [{**{name: getattr(thing, name) for name in VOCABULARY}, "x": thing.x, "y": thing.y} for thing in things(SCENES[split], row)]


class NumberedScenes(TinyData):
    """Pictures that carry their row's number; captions of the scenes of these numbers."""

    title = "numbered"
    fingerprint = "numbered-1"

    def images(self, split: str) -> np.ndarray:
        pictures = np.zeros((NUM, 3, 8, 8), dtype=np.uint8)
        pictures[:, 0, 0, 0] = np.arange(NUM)
        return pictures

    def labels(self, split: str) -> np.ndarray:
        return np.zeros(NUM, dtype=np.int64)

    def captions(self, split: str) -> list[list[str]]:
        return [row["caption"] for row in ROWS[split]]

    def objects(self, split: str) -> list[list[dict]]:
        return [objects(split, row) for row in range(NUM)]

    def tokenizer(self, texts: list[str]):
        rows = {text: row for row, texts in enumerate(self.captions("validation")) for text in texts}
        tokens = torch.tensor([[rows[text]] for text in texts])
        return tokens, torch.ones_like(tokens, dtype=torch.bool)

    def _loader(self, split: str) -> DataLoader:
        return DataLoader([{"image": torch.zeros(3, 8, 8), "label": torch.tensor(0)}], batch_size=1)


class NumberReader(TinyModel):
    """Reads the number in the first pixel and knows the scene; every `blind`-th scene it takes for an empty one."""

    blind = 10**9

    def read(self, images):
        numbers = ((images[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()
        return [[] if number % self.blind == self.blind - 1 else objects("validation", number) for number in numbers]


class NumberDrawer(TinyModel):
    """Draws the scene of its caption's number, or of the one `off` further on."""

    off = 0

    def sample(self, batch, *, generator=None, num_steps=None, start=1.0):
        assert len(generator) == len(batch["text"]) == len(batch["tokens"])
        images = -torch.ones_like(batch["image"])
        images[:, 0, 0, 0] = ((batch["tokens"][:, 0] + self.off) % NUM) / 127.5 - 1
        return images


@pytest.fixture
def judge(tmp_path):
    return write_run(tmp_path / "reader", NumberReader())


def validate(callback, model: LightningModule) -> Record:
    record = Record()
    trainer([callback], logger=record).validate(model, datamodule=NumberedScenes(), verbose=False)
    return record


def last(record: Record, key: str) -> float:
    return record.values(key)[-1][1]


def test_a_model_that_draws_what_it_is_told(judge):
    callback = AttributeAccuracy(judge, parse, num_images=100, batch_size=32)
    record = validate(callback, NumberDrawer())
    for about in ("attribute", "caption", "shape", "colour", "size", "texture", "relation", "count"):
        assert last(record, f"val/{about}_accuracy") == 1, about
    columns, rows = record.tables["val/claims"][-1]
    assert columns == ["pictures", "about", "objects", "accuracy", "low", "high", "num"]
    assert {row[0] for row in rows} == {"drawn", "real"} and all(row[3] == 1 for row in rows)
    whole = next(row for row in rows if row[:3] == ["drawn", "caption", "all"])
    assert whole[4:6] == list(wilson(100, 100)) and whole[6] == 100
    assert {row[2] for row in rows} == {"all", 1, 2, 3}
    about = record.about["val/caption_accuracy"][0]
    assert about["judge"] == "quadrants_reader" and about["num_images"] == 100 and len(about["judge_weights_sha256"]) == 64


def test_a_model_that_draws_another_scene(judge, monkeypatch):
    monkeypatch.setattr(NumberDrawer, "off", 1)
    record = validate(AttributeAccuracy(judge, parse, num_images=NUM), NumberDrawer())
    assert last(record, "val/caption_accuracy") < 0.1 and last(record, "val/shape_accuracy") < 0.4
    same = np.mean([len(objects("validation", row)) == len(objects("validation", (row + 1) % NUM)) for row in range(NUM)])
    assert last(record, "val/count_accuracy") == pytest.approx(same, abs=0.03), "by chance; a caption may fit two scenes"
    real = next(row for row in record.tables["val/claims"][-1][1] if row[:3] == ["real", "caption", "all"])
    assert real[3] == 1, "the judge itself is right"


def test_captions_that_say_nothing_are_an_error_of_one_line(judge):
    with pytest.raises(ValueError, match="AttributeAccuracy: no caption of numbered says anything that <lambda> reads, for inst"):
        validate(AttributeAccuracy(judge, lambda text: parse("no such thing")), NumberDrawer())


def test_what_it_needs(judge, tmp_path):
    with pytest.raises(ValueError, match="practicum fit scene_reader"):
        AttributeAccuracy(tmp_path / "nowhere", parse)
    record = trainer([AttributeAccuracy(judge, parse)])
    with pytest.raises(ValueError, match="AttributeAccuracy needs a datamodule with `captions`, which TinyData has not"):
        record.validate(NumberDrawer(), datamodule=TinyData(channels=3), verbose=False)
    blind = write_run(tmp_path / "blind", TinyModel())
    with pytest.raises(ValueError, match="Reader asks TinyModel for read"):
        validate(AttributeAccuracy(blind, parse), NumberDrawer())


def test_reading_of_real_pictures():
    record = validate(ReadingAccuracy(batch_size=50), NumberReader())
    assert last(record, "val/read") == last(record, "val/place_read") == 1
    assert record.about["val/read"][0]["num_images"] == NUM


def test_objects_that_are_not_found(monkeypatch):
    monkeypatch.setattr(NumberReader, "blind", 4)
    record = validate(ReadingAccuracy(), NumberReader())
    assert last(record, "val/count_read") == 0.75
    seen = [len(objects("validation", row)) for row in range(NUM)]
    missed = sum(num for row, num in enumerate(seen) if row % 4 == 3)
    assert last(record, "val/shape_read") == pytest.approx(1 - missed / sum(seen))
    rows = record.tables["val/reading"][-1][1]
    three = next(row for row in rows if row[:2] == ["shape", 3])
    share = np.mean([row % 4 != 3 for row, num in enumerate(seen) if num == 3])
    assert three[2] == pytest.approx(share) and three[5] == 3 * sum(num == 3 for num in seen)
