"""No path in a data set leads out of its folder, and none makes anything be written elsewhere."""

import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from datamodules import sources
from datamodules.image_classes import ImageClasses


def picture(seed: int = 0) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def table(folder: Path, paths: list[str | None], with_bytes: bool = False) -> Path:
    """A Parquet file whose picture column has these paths."""
    folder.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    images = [{"bytes": picture(row) if with_bytes else None, "path": path} for row, path in enumerate(paths)]
    column = pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    made = pa.table({"image": column, "label": pa.array([row % 2 for row in range(len(paths))])})
    pa.parquet.write_table(made.cast(features.arrow_schema), folder / "train.parquet")
    return folder


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret.png", "{folder}/../secret.png", "{folder}/a/../../secret.png", "/dev/zero",
                                  "/proc/self/environ", "http://127.0.0.1:9/x.png", "zip://x.png::{folder}/x.zip", "secret.png",
                                  "{folder}x/a.png", "~/secret.png", "file:///etc/passwd"])
def test_a_picture_that_lies_elsewhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.png").write_bytes(picture())
    folder = table(tmp_path / "data", [path.format(folder=tmp_path / "data")] * 4)
    with pytest.raises(ValueError, match="lies elsewhere") as caught:
        sources.load(str(folder))
    assert "\n" not in str(caught.value)


def test_pictures_in_the_folder_and_names_beside_bytes(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for row in range(4):
        (folder / f"{row}.bin").write_bytes(picture(row))
    module = ImageClasses(str(table(folder, [str(folder / f"{row}.bin") for row in range(4)])), image_size=8, validation_split=0.25)
    module.prepare_data()
    assert len(module.images("train")) == 3
    named = table(tmp_path / "named", ["../../../etc/passwd", "/x/y.png", None, "a\0b"], with_bytes=True)   # names beside bytes
    assert len(sources.load(str(named))["train"]) == 4


def test_saved_to_disk(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture())
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "secret.png")] * 3}, features=features)
    rows.save_to_disk(str(tmp_path / "saved"))
    saved = datasets.load_from_disk(str(tmp_path / "saved")).cast_column("image", datasets.Image(decode=False))
    if saved[0]["image"]["bytes"] is None:
        with pytest.raises(ValueError, match="lies elsewhere"):
            sources.load(str(tmp_path / "saved"))
    else:
        sources.load(str(tmp_path / "saved"))


def test_archives_and_lists_in_a_folder(tmp_path):
    """What an archive or a list calls its files makes nothing appear outside of caches."""
    for kind in ("zip", "tar", "list"):
        folder = tmp_path / kind / "data"
        folder.mkdir(parents=True)
        names = ["../../escaped.png", f"{tmp_path}/escaped_too.png", "a/../../../escaped_three.png"]
        if kind == "zip":
            with zipfile.ZipFile(folder / "train.zip", "w") as file:
                for name in names:
                    file.writestr(name, picture())
        elif kind == "tar":
            with tarfile.open(folder / "train.tar", "w") as file:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size = len(picture())
                    file.addfile(info, BytesIO(picture()))
        (folder / "metadata.csv").write_text("file_name,label\n" + "\n".join(f"{name},x" for name in names) + "\n")
        (folder / "0.png").write_bytes(picture())
        before = set(tmp_path.rglob("*"))
        try:
            loaded = sources.load(str(folder))
            for rows in loaded.values():
                rows.cast_column("image", datasets.Image(decode=False))[:]
        except ValueError as error:
            assert "\n" not in str(error)
        assert set(tmp_path.rglob("*")) == before, kind


@pytest.mark.parametrize("name", ["evil.pkl", "data.py", "evil.pickle", "train.pkl"])
def test_code_beside_the_data_is_not_run(name, tmp_path):
    folder = table(tmp_path / "data", [None] * 4, with_bytes=True)
    canary = tmp_path / "executed"
    (folder / name).write_text(f"open('{canary}', 'w')\n" if name.endswith(".py") else f"cos\nsystem\n(S'touch {canary}'\ntR.")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: '*'\n---\n")
    try:
        sources.load(str(folder))
    except ValueError as error:
        assert "\n" not in str(error)
    assert not canary.exists()
