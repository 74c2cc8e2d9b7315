"""Data sets nobody here prepared, and every way in which labels can be wrong."""

import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from datamodules.image_classes import ImageClasses
from tests.datamodules.test_images import encoded

RANDOM = np.random.default_rng(2)
MIRROR = Path(os.environ.get("PRACTICUM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def ready(path: Path | str, **arguments: object) -> ImageClasses:
    data = ImageClasses(str(path), **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def photo(mode: str, width: int, height: int, colour: tuple[int, int, int]) -> Image.Image:
    """A flat photo with a little noise, in any mode."""
    pixels = np.clip(np.array(colour) + RANDOM.integers(-5, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


def test_class_folders_of_photos_in_several_sizes_and_modes(tmp_path: Path) -> None:
    kinds = [
        ("RGB", 60, 40, "jpg"), ("L", 33, 50, "png"), ("RGBA", 48, 48, "png"), ("CMYK", 41, 64, "jpg"),
        ("P", 32, 70, "gif"), ("RGB", 90, 35, "webp"), ("I;16", 40, 40, "png"), ("RGB", 31, 31, "JPEG"),
    ]  # fmt: skip
    for name, colour in (("dark", (20, 20, 20)), ("light", (230, 230, 230))):
        (tmp_path / name).mkdir()
        for number, (mode, width, height, suffix) in enumerate(kinds):
            photo(mode, width, height, colour).save(tmp_path / name / f"{number}.{suffix}")
    with pytest.raises(ValueError, match=r"several sizes \(31x31 to 90x35\); give one, such as --data.image_size 64"):
        ImageClasses(str(tmp_path)).facts()
    data = ready(tmp_path, image_size=24, validation_split=0.25, batch_size=12)  # one flag, no code
    assert data.facts() == {"channels": 3, "image_size": 24, "num_classes": 2, "class_names": data.class_names}
    assert data.class_names == ["dark", "light"] and len(data.images("train")) == 12
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    level = batch["image"].mean((1, 2, 3))
    assert batch["image"].shape == (12, 3, 24, 24)
    assert ((level > 0) == (batch["label"] == 1)).all() and level.abs().min() > 0.7  # no mode lost its range
    gray = ready(tmp_path, image_size=20, channels=1, validation_split=0.25)
    assert gray.images("train").shape == (12, 1, 20, 20)


def test_a_parquet_with_other_column_names(tmp_path: Path) -> None:
    fine = datasets.ClassLabel(names=["oak", "elm", "ash", "fir"])
    features = datasets.Features(
        {"coarse": datasets.ClassLabel(names=["leaf", "needle"]), "id": datasets.Value("int64"), "fine": fine,
         "photo": datasets.Image(), "thumb": datasets.Image(), "name": datasets.Value("string")}
    )  # fmt: skip
    rows = [
        {"coarse": row // 6, "id": row, "fine": row % 4, "photo": photo("RGB", 16, 16, (row * 20, 0, 0)),
         "thumb": photo("L", 8, 8, (9, 9, 9)), "name": f"{row}"}
        for row in range(12)
    ]  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "trees.parquet")
    by_type = ready(tmp_path, validation_split=0.25)
    assert by_type.facts() == {"channels": 3, "image_size": 16, "num_classes": 2, "class_names": by_type.class_names}
    mapped = ready(tmp_path, validation_split=0.25, columns={"image": "thumb", "label": "fine"})
    assert mapped.facts() == {"channels": 1, "image_size": 8, "num_classes": 4, "class_names": mapped.class_names}
    assert mapped.class_names == ["oak", "elm", "ash", "fir"]
    with pytest.raises(
        ValueError, match=r"has no column 'fin', did you mean 'fine'\? \(columns: coarse, id, fine, photo"
    ):
        ImageClasses(str(tmp_path), columns={"label": "fin"}).facts()
    with pytest.raises(ValueError, match=r"'name' of .* not pictures"):
        ImageClasses(str(tmp_path), columns={"image": "name"}).facts()
    with pytest.raises(ValueError, match=r"'thumb' of .* not classes"):
        ImageClasses(str(tmp_path), columns={"label": "thumb"}).facts()


def test_rgba_pngs_are_laid_on_white(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
            image.paste((0, 0, 0, 255), (5, 5, 15, 15))
            image.save(tmp_path / name / f"{number}.png")
    pixels = ready(tmp_path, validation_split=0.25).images("train")
    assert pixels[0, :, 0, 0].tolist() == [255, 255, 255] and pixels[0, :, 10, 10].tolist() == [0, 0, 0]
    assert ready(tmp_path, validation_split=0.25, channels=4).images("train")[0, :, 0, 0].tolist() == [255, 0, 0, 0]


def write(folder: Path, label: pyarrow.Array, name: str = "label") -> Path:
    picture = encoded(Image.new("L", (8, 8), 5))
    table = pyarrow.table({"image": pyarrow.array([picture] * len(label), pyarrow.binary()), name: label})
    pyarrow.parquet.write_table(table, folder / "train.parquet")
    return folder


def test_texts_and_numbers_become_classes_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path, pyarrow.array(["oak", "elm", "oak", "ash"]), "tree")
    data = ready(tmp_path, validation_split="train")
    assert data.class_names == ["ash", "elm", "oak"] and data.labels("train").tolist() == [2, 1, 2, 0]
    (tmp_path / "numbers").mkdir()
    data = ready(write(tmp_path / "numbers", pyarrow.array([10, 9, 100, 9])), validation_split="train")
    assert data.class_names == ["9", "10", "100"] and data.labels("train").tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, -1, 1],
            "labels: 1 of 4 rows of the train split have no label in 0..1 \\(row 2: -1\\); mend column 'label'",
        ),
        ([0, None, None, 1], "labels: 2 of 4 rows of the train split have no label in 0..1 \\(row 1: None\\)"),
        ([0, 1, 7, 1], "labels: 1 of 4 rows of the train split have no label in 0..1 \\(row 2: 7\\)"),
    ],
)
def test_labels_out_of_range_are_named(tmp_path: Path, labels: list, message: str) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = pyarrow.table(
        {
            "image": pyarrow.array([{"bytes": encoded(Image.new("L", (8, 8))), "path": None}] * 4),
            "label": pyarrow.array(labels),
        }
    )
    table = table.cast(features.arrow_schema)  # with the metadata of `datasets`, which checks nothing here
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=message) as caught:
        ready(tmp_path, validation_split="train")
    assert "\n" not in str(caught.value)


def test_texts_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 of 4 rows of the train split have no label in 0..1 \(row 3: None\)"):
        ready(write(tmp_path, pyarrow.array(["a", "b", "b", None])), validation_split="train")


def test_a_secret_test_split_does_not_stop_training(tmp_path: Path) -> None:
    write(tmp_path, pyarrow.array(["a", "b", "a", "b"]))
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", pyarrow.array([None, None], pyarrow.string()))
    (tmp_path / "more" / "train.parquet").rename(tmp_path / "test.parquet")
    data = ready(tmp_path, validation_split=0.25)
    assert len(data.fingerprint) == 16
    with pytest.raises(ValueError, match="2 of 2 rows of the test split have no label"):
        data.setup("test")


def test_no_column_of_the_kind(tmp_path: Path) -> None:
    table = pyarrow.table({"words": ["a", "b"], "n": [1.5, 2.5]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(
        ValueError, match=r"has no image column \(columns: words, n\); name it with --data.columns '{image: NAME}'"
    ):
        ImageClasses(str(tmp_path), validation_split=0.5).facts()
    Image.new("L", (8, 8)).save(tmp_path / "loose.png")
    (tmp_path / "train.parquet").unlink()
    with pytest.raises(ValueError, match=r"has no label column \(columns: image\)"):
        ImageClasses(str(tmp_path), validation_split="train").facts()
    (tmp_path / "two").mkdir()
    write(tmp_path / "two", pyarrow.array([1.5, 2.5, 1.5, 2.5]))
    with pytest.raises(ValueError, match=r"has no label column \(columns: image, label\)"):
        ImageClasses(str(tmp_path / "two"), validation_split="train").facts()


@pytest.mark.parametrize(
    ("path", "channels", "size", "sums"),
    [("ylecun/mnist", 1, 28, [980, 1135, 1032]), ("zalando-datasets/fashion_mnist", 1, 28, [1000, 1000, 1000]),
     ("uoft-cs/cifar10", 3, 32, [1000, 1000, 1000])],
)  # fmt: skip
def test_the_mirror_of_the_three_hub_sets(
    path: str, channels: int, size: int, sums: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (MIRROR / path.split("/")[1]).is_dir():
        pytest.skip("no mirror: set PRACTICUM_DATA to a folder that holds it")
    monkeypatch.setenv("PRACTICUM_DATA", str(MIRROR))
    data = ready(path, limit=300)
    assert data.facts() == {"channels": channels, "image_size": size, "num_classes": 10, "class_names": data.class_names}
    assert [len(data.images(split)) for split in ("train", "validation", "test")] == [270, 30, 300]
    assert np.bincount(ImageClasses(path)._split("test")["label"])[:3].tolist() == sums
