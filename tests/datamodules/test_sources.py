"""Folders of every kind, the mirror, and a Hub that does not answer."""

import os
import socket
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from datamodules import sources
from datamodules.image_classes import ImageClasses
from tests.datamodules.test_images import encoded

RANDOM = np.random.default_rng(0)


def noise(width: int = 12, height: int = 12) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


def small_set(num_rows: int = 6) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [noise() for _ in range(num_rows)], "label": [row % 2 for row in range(num_rows)]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_digits_are_the_same_everywhere() -> None:
    loaded = sources.load("digits")
    assert {split: len(dataset) for split, dataset in loaded.items()} == {"train": 1077, "validation": 360, "test": 360}
    assert loaded["train"]["label"][:12] == [2, 8, 5, 0, 8, 8, 7, 7, 1, 7, 1, 6]
    counts = np.stack([np.bincount(dataset["label"]) for dataset in loaded.values()])
    assert counts.sum(0).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's documentation
    assert (abs(counts / counts.sum(0) - np.array([[0.6], [0.2], [0.2]])) < 0.01).all()  # stratified
    pixels = np.asarray(loaded["train"][0]["image"])
    assert (
        pixels.shape == (8, 8)
        and pixels.dtype == np.uint8
        and set(pixels.ravel()) <= {round(v * 255 / 16) for v in range(17)}
    )


def test_parquet_splits_by_the_names_of_the_files(tmp_path: Path) -> None:
    for name, num_rows in (("train-0", 4), ("train-1", 5), ("validation-0", 3), ("test-00000-of-00001", 2)):
        small_set(num_rows).to_parquet(tmp_path / f"{name}.parquet")
    assert {split: len(rows) for split, rows in sources.load(str(tmp_path)).items()} == {
        "train": 9,
        "validation": 3,
        "test": 2,
    }


def test_save_to_disk_with_and_without_splits(tmp_path: Path) -> None:
    small_set().save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": small_set(), "test": small_set(2)}).save_to_disk(tmp_path / "two")
    assert list(sources.load(str(tmp_path / "one"))) == ["train"]
    assert list(sources.load(str(tmp_path / "two"))) == ["train", "test"]


def test_the_mirror_is_read_instead_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mnist").mkdir()
    small_set().to_parquet(tmp_path / "mnist" / "train.parquet")
    monkeypatch.setenv("PRACTICUM_DATA", str(tmp_path))
    assert len(sources.load("ylecun/mnist")["train"]) == 6
    assert "PRACTICUM_DATA" in capsys.readouterr().err
    with pytest.raises(ValueError, match="not in the cache and HF_HUB_OFFLINE is set"):
        sources.load("uoft-cs/cifar10")  # not in the mirror
    monkeypatch.setenv("PRACTICUM_DATA", str(tmp_path / "gone"))
    with pytest.raises(ValueError, match="PRACTICUM_DATA: no such folder"):
        sources.load("ylecun/mnist")


def class_folders(root: Path, names: list[str], num: int = 3) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(num):
            noise().save(root / name / f"test-{number}.png")


def test_class_folders_are_not_split_by_the_names_of_pictures_or_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, ["train", "truck"])  # a class of railway pictures, and files named test-0.png
    loaded = sources.load(str(tmp_path))
    assert list(loaded) == ["train"] and len(loaded["train"]) == 6
    assert loaded["train"].features["label"].names == ["train", "truck"]


def test_class_folders_inside_split_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "Training", ["a", "b"])
    class_folders(tmp_path / "val", ["a"], 2)
    class_folders(tmp_path / "test", ["b"], 1)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "Training" / "notes.txt").write_text("not a picture")
    loaded = sources.load(str(tmp_path))
    assert {split: rows["label"][:] for split, rows in loaded.items()} == {
        "train": [0, 0, 0, 1, 1, 1],
        "test": [1],
        "validation": [0, 0],
    }


def test_an_edited_picture_changes_the_fingerprint(tmp_path: Path) -> None:
    class_folders(tmp_path, ["a", "b"])
    before = sources.load(str(tmp_path))["train"]._fingerprint
    assert sources.load(str(tmp_path))["train"]._fingerprint == before
    time.sleep(0.01)
    noise().save(tmp_path / "a" / "test-0.png")
    assert sources.load(str(tmp_path))["train"]._fingerprint != before


def test_a_rewritten_parquet_changes_the_fingerprint(tmp_path: Path) -> None:
    small_set().to_parquet(tmp_path / "train.parquet")
    before = sources.load(str(tmp_path))["train"]._fingerprint
    assert sources.load(str(tmp_path))["train"]._fingerprint == before
    time.sleep(0.01)
    small_set().to_parquet(tmp_path / "train.parquet")
    assert sources.load(str(tmp_path))["train"]._fingerprint != before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/place", "no such folder '/no/such/place'; give a folder, a Hub id or a built-in name"),
        ("./mnst", "no such folder './mnst', did you mean 'mnist'\\?"),
        ("a/b/c", "no such folder 'a/b/c'"),
        (
            "digist",
            "'digist' is not in the cache and HF_HUB_OFFLINE is set, did you mean 'digits'\\?; connect, or give",
        ),
        ("mine/photo", "did you mean 'mine/photos'\\?"),
        ("mnist/train.parquet", "is a file; give the folder that holds it"),
        ("empty", "empty holds no Parquet files, no pictures and no data set of `save_to_disk`"),
        ("broken", "broken cannot be read as one data set: "),
    ],
)
def test_a_wrong_path_is_one_line_with_its_remedy(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("mnist", "mine/photos", "empty", "broken"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "mnist" / "train.parquet").touch()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"PAR1 and then nothing of the kind")
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(ValueError, match=message) as caught:
        sources.load(path)
    assert "\n" not in str(caught.value) and time.monotonic() - began < 3


def test_a_hub_that_does_not_answer_is_noticed_within_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and says nothing: the worst case
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(
            ValueError, match="'someone/flowers' is not in the cache and the Hub does not answer; connect"
        ):
            ImageClasses("someone/flowers").facts()
        assert time.monotonic() - began < 3


def test_a_cached_hub_set_is_read_when_the_hub_is_out_of_reach(tmp_path: Path, own_cache: Path) -> None:
    small_set().to_parquet(tmp_path / "train.parquet")
    datasets.load_dataset(str(tmp_path))
    built = next(folder for folder in datasets.config.HF_DATASETS_CACHE.glob("*/*/*/*") if folder.is_dir())
    cached = datasets.config.HF_DATASETS_CACHE / "someone___flowers" / "default" / "0.0.0" / "0123456789abcdef"
    cached.parent.mkdir(parents=True)
    built.rename(cached)  # as a download of someone/flowers leaves it
    for file in cached.glob("*.arrow"):
        file.rename(file.with_name(f"flowers-{file.name.split('-', 1)[1]}"))
    assert len(sources.load("someone/flowers")["train"]) == 6
    with pytest.raises(ValueError, match="'someone/trees' is not in the cache"):
        sources.load("someone/trees")


def test_parquet_without_the_metadata_of_datasets(tmp_path: Path) -> None:
    pictures = [encoded(noise()) for _ in range(4)]
    table = {"jpg": pyarrow.array([{"bytes": data, "path": None} for data in pictures]), "kind": ["b", "a", "b", "a"]}
    (tmp_path / "one").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "one" / "anything.parquet")
    (tmp_path / "two").mkdir()
    raw = pyarrow.table({"n": [3, 1, 3, 1], "png": pyarrow.array(pictures, pyarrow.binary())})
    pyarrow.parquet.write_table(raw, tmp_path / "two" / "rows.parquet")
    for folder, names in (("one", ["a", "b"]), ("two", ["1", "3"])):
        data = ImageClasses(str(tmp_path / folder), validation_split=0.25)
        assert data.facts() == {"channels": 3, "image_size": 12, "num_classes": 2, "class_names": data.class_names}
        assert data.class_names == names
        labels = np.concatenate([data.labels("train"), data.labels("validation")])
        assert sorted(labels.tolist()) == [0, 0, 1, 1]


def test_the_datasets_cache_is_found_as_datasets_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_DATASETS_CACHE")
    monkeypatch.setenv("HF_HOME", "/somewhere")
    assert sources.datasets_cache() == Path("/somewhere/datasets")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert sources.datasets_cache() == Path("/elsewhere/huggingface/datasets")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.datasets_cache() == Path(os.path.expanduser("~/.cache/huggingface/datasets"))
