"""Captions made of class names."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from datamodules.held_out import HeldOut
from datamodules.image_captions import ImageCaptions
from datamodules.image_classes import ImageClasses
from datamodules.labelled_captions import LabelledCaptions
from datamodules.tokenizers import Vocabulary
from tests.datamodules.test_held_out import NAMES, flat

TEMPLATES = ["a photo of a {}", "the {}"]


@pytest.fixture
def animals(tmp_path: Path) -> str:
    return flat(tmp_path / "animals", {"train": range(100), "test": range(200, 220)})


def test_every_row_says_its_class_in_every_template(animals: str) -> None:
    data = ImageCaptions(LabelledCaptions(animals, TEMPLATES), tokenizer=Vocabulary())
    plain = ImageClasses(animals)
    for module in (data, plain):
        module.prepare_data()
        module.setup("fit")
    assert data.title == "animals" and data.class_names == NAMES
    for split in ("train", "validation", "test"):
        assert np.array_equal(data.images(split), plain.images(split)) and np.array_equal(data.labels(split), plain.labels(split))
        names = [NAMES[label] for label in data.labels(split)]
        assert data.captions(split) == [[f"a photo of a {name}", f"the {name}"] for name in names]
    batch = next(iter(data.train_dataloader()))
    assert all(NAMES[label] in text for label, text in zip(batch["label"], batch["text"], strict=True))
    assert len({text.rpartition(" ")[0] for text in batch["text"]}) == 2, "each template has its turn"


def test_other_names_of_another_source(animals: str) -> None:
    data = ImageCaptions(LabelledCaptions(HeldOut(animals, ["bee"]), class_names=["emmet", "b_ee", "puss", "hound"]))
    data.prepare_data()
    assert {text for texts in data.captions("test") for text in texts} == {f"a photo of a {n}" for n in ("emmet", "b_ee", "puss", "hound")}
    assert not any("b_ee" in texts[0] for texts in data.captions("train"))
    with pytest.raises(ValueError, match="do not validate"):
        ImageCaptions(LabelledCaptions(HeldOut(animals, ["bee"])), validation_split=0.2)


def test_rows_without_a_label_have_no_caption(tmp_path: Path) -> None:
    folder = flat(tmp_path / "secret", {"train": range(20), "test": range(20, 24)}, names=["half_open", "b", "c", "d"])
    hidden = datasets.load_dataset(folder, split="test").map(lambda row: {"label": -1})
    hidden.to_parquet(f"{folder}/test.parquet")
    source = LabelledCaptions(folder).load(None)
    assert source["test"]["caption"][:] == [None] * 4
    assert source["train"][0]["caption"] == ["a photo of a half open"]


def test_mistakes_are_one_line(animals: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"templates: 'a photo' has no \{\}"):
        LabelledCaptions(animals, ["a photo"])
    with pytest.raises(ValueError, match="templates: none is given"):
        LabelledCaptions(animals, [])
    with pytest.raises(ValueError, match="class_names: 2 names for the 4 classes of animals"):
        LabelledCaptions(animals, class_names=["a", "b"]).load(None)
    with pytest.raises(ValueError, match="labelled: animals has a column named caption"):
        LabelledCaptions(LabelledCaptions(animals)).load(None)
    bare = tmp_path / "bare"
    bare.mkdir()
    datasets.load_dataset(animals, split="train").remove_columns("label").to_parquet(f"{bare}/train.parquet")
    with pytest.raises(ValueError, match=r"labelled: bare has no ClassLabel column \(it has: image\)"):
        LabelledCaptions(str(bare)).load(None)
