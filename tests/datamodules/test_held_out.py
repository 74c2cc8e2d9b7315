"""Classes left out of the training rows alone."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from datamodules.held_out import HeldOut
from datamodules.image_classes import ImageClasses

NAMES = ["ant", "bee", "cat", "dog"]


def flat(folder: Path, splits: dict[str, range], names: list[str] = NAMES) -> str:
    """Pictures of 8 px, flat gray, each of a value of its own; the class is the value modulo 4."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    folder.mkdir()
    for split, values in splits.items():
        pictures = [Image.new("L", (8, 8), value) for value in values]
        rows = datasets.Dataset.from_dict({"image": pictures, "label": [v % 4 for v in values]}, features=features)
        rows.to_parquet(folder / f"{split}.parquet")
    return str(folder)


@pytest.fixture
def whole(tmp_path: Path) -> str:
    return flat(tmp_path / "animals", {"train": range(100), "test": range(200, 220)})


def read(data: ImageClasses) -> dict[str, list[int]]:
    data.prepare_data()
    shown = {split: data.images(split)[:, 0, 0, 0] for split in ("train", "validation", "test")}
    for split, values in shown.items():
        assert np.array_equal(data.labels(split), values % 4), "a label has left its picture"
    return {split: values.tolist() for split, values in shown.items()}


def test_training_rows_lack_the_unseen_and_the_others_lack_nothing(whole: str) -> None:
    plain, held_out = read(ImageClasses(whole)), read(ImageClasses(HeldOut(whole, ["bee", "dog"])))
    assert held_out["train"] == [value for value in plain["train"] if value % 4 in (0, 2)]
    assert held_out["validation"] == plain["validation"] and held_out["test"] == plain["test"]
    assert {value % 4 for value in held_out["test"]} == {0, 1, 2, 3}
    other = read(ImageClasses(HeldOut(whole, ["ant"]), validation_split="test"))
    assert other["validation"] == other["test"] and other["train"] == [value for value in plain["train"] if value % 4]


def test_facts_and_title(whole: str) -> None:
    data = ImageClasses(HeldOut(whole, ["bee"]))
    facts = data.facts()
    assert facts["unseen"] == ["bee"] and facts["class_names"] == NAMES and facts["num_classes"] == 4
    assert data.title == "animals_without_bee" and "unseen" not in ImageClasses(whole).facts()


def test_mistakes_are_one_line(tmp_path: Path, whole: str) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in "abcdefgh":
        Image.new("L", (8, 8)).save(plain / f"{name}.png")
    for make, said in (
        (lambda: HeldOut(whole, []), "must name a class"),
        (lambda: HeldOut(whole, ["bee", "bee"]), "none twice"),
        (lambda: read(ImageClasses(HeldOut(whole, ["bea"]))), "no class 'bea', did you mean 'bee'"),
        (lambda: read(ImageClasses(HeldOut(whole, ["ant", "bee", "cat"]))), "fewer than two classes"),
        (lambda: read(ImageClasses(HeldOut(str(plain), ["bee"]))), "has no ClassLabel column"),
        (lambda: ImageClasses(HeldOut(whole, ["bee"]), validation_split=0.2), "training rows .* do not validate"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            make()
        assert "\n" not in str(caught.value)
