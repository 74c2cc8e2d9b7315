"""The arguments, the splits, the batch and the fingerprint."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.image_classes import ImageClasses
from datamodules.scenes.dataset import HELD_OUT, Scenes
from tests.datamodules.numbered import numbered, ready


def test_a_batch_keeps_the_contract(tmp_path: Path) -> None:
    data = ready(numbered(tmp_path, 200), batch_size=16)
    assert data.facts() == {"channels": 1, "image_size": 8, "num_classes": 2, "class_names": data.class_names}
    assert data.title == tmp_path.name.lower()
    wire = next(iter(data.train_dataloader()))
    assert wire["image"].dtype == torch.uint8  # a quarter of the bytes on the way to the device
    batch = data.on_after_batch_transfer(dict(wire), 0)
    assert set(batch) == {"image", "label"}
    assert batch["image"].shape == (16, 1, 8, 8) and batch["image"].dtype == torch.float32
    assert batch["label"].dtype == torch.int64 and (batch["label"] == wire["image"][:, 0, 0, 0] % 2).all()
    assert torch.equal(batch["image"], wire["image"].float() / 127.5 - 1)
    ends = data.on_after_batch_transfer({"image": torch.tensor([[[[0, 255]]]], dtype=torch.uint8)}, 0)["image"]
    assert ends.ravel().tolist() == [-1, 1]


def test_train_and_held_out_rows_are_disjoint_whole_and_the_same_for_every_seed(tmp_path: Path) -> None:
    numbered(tmp_path, 200)
    torch.manual_seed(1)
    first = ready(tmp_path, validation_split=0.25)
    torch.manual_seed(2)
    second = ready(tmp_path, validation_split=0.25)
    train, held_out = (first.images(split)[:, 0, 0, 0] for split in ("train", "validation"))
    assert len(train) == 150 and len(held_out) == 50
    assert sorted([*train, *held_out]) == list(range(200))
    assert (second.images("validation")[:, 0, 0, 0] == held_out).all()
    assert (first.labels("validation") == held_out % 2).all()
    assert held_out.min() < 20 and held_out.max() > 180  # spread over the whole set, which may be sorted by class
    limited = ready(tmp_path, limit=50, validation_split="train").images("train")[:, 0, 0, 0]
    assert limited.min() < 20 and limited.max() > 180


def test_existing_splits_are_taken_and_test_rows_never_train(tmp_path: Path) -> None:
    numbered(tmp_path / "a", 30)
    os.rename(tmp_path / "a" / "train.parquet", tmp_path / "dev.parquet")
    numbered(tmp_path, 40)
    numbered(tmp_path / "a", 20)
    os.rename(tmp_path / "a" / "train.parquet", tmp_path / "test.parquet")
    data = ready(tmp_path)
    assert [len(data.images(split)) for split in ("train", "validation", "test")] == [40, 30, 20]
    assert len(ready(tmp_path, validation_split="test").images("validation")) == 20  # only when asked for
    assert [len(ready(tmp_path, limit=7).images(split)) for split in ("train", "validation", "test")] == [7, 7, 7]
    assert len(list(data.test_dataloader())) == 1


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    numbered(tmp_path, 10)
    with pytest.raises(
        ValueError, match=r"train_split: .* has no split 'trian', did you mean 'train'\? \(it has: train\)"
    ):
        ImageClasses(str(tmp_path), train_split="trian").facts()
    with pytest.raises(ValueError, match=r"validation_split: .* has no split 'valid' \(it has: train; or give a share"):
        ImageClasses(str(tmp_path), validation_split="valid").facts()
    with pytest.raises(ValueError, match=r"has no split 'test' \(give --data.test_split"):
        ready(tmp_path).test_dataloader()
    with pytest.raises(ValueError, match=r"a share of 0.01 of 10 rows"):
        ImageClasses(str(tmp_path), validation_split=0.01).facts()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": {"lable": "x"}}, "columns: unknown key 'lable', did you mean 'label'\\? \\(keys: image, label\\)"),
        ({"channels": 2}, "channels: 2 is not one of 1, 3, 4"),
        ({"image_size": 0}, "image_size: 0 is not a positive whole number"),
        ({"batch_size": -1}, "batch_size: -1"),
        ({"limit": 0}, "limit: 0"),
        ({"validation_split": 1.5}, "validation_split: 1.5 is not a share between 0 and 1"),
    ],
)
def test_a_wrong_argument_is_named_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageClasses("digits", **arguments)


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    one, two = ready(numbered(tmp_path / "one", 20)), ready(numbered(tmp_path / "two", 20))
    assert one.fingerprint == two.fingerprint
    assert ready(tmp_path / "one", image_size=9).fingerprint != one.fingerprint
    assert ready(numbered(tmp_path / "three", 21)).fingerprint != one.fingerprint
    assert ready("digits").fingerprint == "bc1c92e50ed4e21a"


def test_facts_decode_nothing(tmp_path: Path, own_cache: Path) -> None:
    data = ImageClasses(str(numbered(tmp_path, 20)))
    assert data.facts() == {"channels": 1, "image_size": 8, "num_classes": 2, "class_names": data.class_names}
    assert not own_cache.exists()


def test_loaders_never_move_the_global_generator(tmp_path: Path) -> None:
    data = ready(numbered(tmp_path, 50), flip=True)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            data.on_after_batch_transfer(batch, 0)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()


def test_a_further_split_of_the_source_is_read_when_asked_for(tmp_path: Path) -> None:
    scenes = Scenes(num_train=30, num_validation=6, num_test=8)
    data = ImageClasses(scenes, image_size=16)
    before = data.fingerprint
    pairs = {data.class_names[label] for label in data.labels("held_out")}
    assert len(data.images("held_out")) == 8 and pairs <= set(HELD_OUT)
    assert data.fingerprint == before == ImageClasses(scenes, image_size=16).fingerprint
    assert len(ImageClasses(scenes, image_size=16, limit=5).images("held_out")) == 5
    named = ImageClasses(scenes, image_size=16, validation_split="held_out")
    assert (named.images("validation") == data.images("held_out")).all()
    with pytest.raises(ValueError, match="split: scenes has no split 'heldout', did you mean 'held_out'"):
        data.images("heldout")
