"""Disks that are full, too small or not to be written, at every place that something is written: one line, and nothing lost."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

from callbacks import checkpoints
from callbacks.resumable import Resumable
from datamodules import decoded, sources
from experiments import sampling
from experiments.__main__ import main
from experiments.record import RunRecord
from experiments.runs import load_runs

SMALL = ["--data.limit", "64", "--data.batch_size", "8", "--trainer.max_steps", "4", "--trainer.val_check_interval", "2",
         "--trainer.limit_val_batches", "1", "--trainer.log_every_n_steps", "1", "--checkpoints.every_minutes", "0"]


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own; skips the test where the system grants none."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk", "size=20m") as folder:
        yield folder


@pytest.fixture
def read_only(tmp_path):
    with mounted(tmp_path / "read-only", "ro") as folder:
        yield folder


def fill(disk: Path, free: int) -> None:
    """Leaves `free` bytes of a disk."""
    state = os.statvfs(disk)
    with open(disk / "filler", "ab") as file:
        file.write(bytes(max(0, state.f_bavail * state.f_frsize - free)))


def full_at(patch: pytest.MonkeyPatch, disk: Path, owner: object, name: str, call: int, free: int) -> None:
    """Fills the disk when a function is called for the `call`th time."""
    original, calls = getattr(owner, name), []

    def filling(*arguments, **more):
        calls.append(name)
        if len(calls) == call:
            fill(disk, free)
        return original(*arguments, **more)

    patch.setattr(owner, name, filling)


def refusal(arguments: list[str], capsys) -> tuple[int, str]:
    """The exit code of a command that fails, and the one line in which it says why."""
    capsys.readouterr()
    code = main(arguments)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("practicum ")]
    assert len(said) == 1, said
    return code, said[0]


def fit_until_full(disk: Path, capsys, owner: object, name: str, call: int, free: int) -> None:
    """A fit on a disk that is full at some call: one line and exit code 1; what was saved is valid, and with room again the run ends."""
    run = disk / "run"
    with pytest.MonkeyPatch.context() as patch:
        full_at(patch, disk, owner, name, call, free)
        code, line = refusal(["fit", "classifier", "--data", "digits", "--out", str(run), *SMALL], capsys)
    assert code == 1 and str(disk) in line and "No space left on device" in line and "make room there" in line, line
    kept = list((run / "checkpoints").glob("step-*.ckpt")) if (run / "checkpoints").is_dir() else []
    found = checkpoints.newest_valid(run / "checkpoints")
    assert (found is not None) == bool(kept) and not list(run.rglob(".*.part")) and not list(run.glob(".status*"))
    assert found is None or checkpoints.load(found)["global_step"] == int(found.stem.removeprefix("step-"))
    (disk / "filler").unlink()
    begin = ["fit", "classifier", "--data", "digits", "--out", str(run), *SMALL]
    again = ["resume", str(run)] if (run / "status.json").is_file() else begin
    assert main(again) == 0
    [read] = load_runs([run])
    assert read.state == "finished" and checkpoints.load(run / "checkpoints" / "last.ckpt")["global_step"] == 4
    assert len(read.scalars["val/loss"]) == 2


FULL = {      # where it is full: at which call of what, and how many bytes are left
    "first checkpoint": (Resumable, "save", 1, 0),
    "first checkpoint, half of it": (Resumable, "save", 1, 300_000),
    "third checkpoint": (Resumable, "save", 3, 0),
    "third checkpoint, half of it": (Resumable, "save", 3, 300_000),
    "last checkpoint": (Resumable, "on_train_end", 1, 8_192),
    "config": (RunRecord, "log_config", 1, 0),
    "status at the start": (RunRecord, "_write_status", 2, 0),
    "first line of the record": (RunRecord, "_append", 1, 0),
    "fourth line of the record": (RunRecord, "_append", 4, 0),
    "validation's line": (RunRecord, "log_metrics", 5, 0),
    "end of the record": (RunRecord, "finalize", 1, 0),
}


@pytest.mark.parametrize("where", ["third checkpoint, half of it", "fourth line of the record"])
def test_a_disk_that_is_full_while_training(disk, capsys, where):
    fit_until_full(disk, capsys, *FULL[where])


def a_picture_cannot_be_written(disk: Path, capsys, free: int) -> None:
    """A record whose disk is full when it is given a picture."""
    record = RunRecord(disk / "pictures", experiment="e")
    record.log_metrics({"val/loss": 1.0}, 1)
    fill(disk, free)
    with pytest.raises(OSError, match="No space left on device") as raised:
        record.log_image("val/samples", [np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)], 1)
    assert raised.value.filename == str(disk / "pictures" / "media" / "val_samples_00000001.png")
    (disk / "filler").unlink()
    assert not list((disk / "pictures" / "media").iterdir()), "no half of a picture"
    record.finalize("failed")
    [read] = load_runs([disk / "pictures"])
    assert read.scalars == {"val/loss": [(1, 1.0)]} and not read.media


def pictures(num: int, size: int = 32) -> Dataset:
    """Noise, which cannot be made smaller."""
    noise = np.random.default_rng(0).integers(0, 255, (num, size, size, 3), dtype=np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    return Dataset.from_dict({"image": [Picture.fromarray(one) for one in noise], "label": [0, 1] * (num // 2)}, features=features)


def decode(rows: Dataset) -> decoded.Decoded:
    return decoded.open_or_decode(rows, "image", size=32, channels=3, source_rows=np.arange(len(rows)), title="mine train")


def decoding_fills_the_disk(disk: Path, name: str, free: int) -> None:
    """The cache of decoded pictures on a disk that is full by the time that a file of it is written."""
    rows = pictures(600).cast_column("image", Image(decode=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRACTICUM_CACHE", str(disk / "cache"))
        full_at(patch, disk, *{"images": (decoded, "_decode_into"), "rows": (np, "save"), "meta": (decoded.json, "dumps")}[name], 1, free)
        with pytest.raises(OSError, match=r"No space left on device; make room there, or set PRACTICUM_CACHE to ") as raised:
            decode(rows)
        assert raised.value.filename.startswith(str(disk / "cache"))
        assert not [path for path in (disk / "cache").iterdir() if path.suffix != ".lock"], "a full disk needs the room"
        (disk / "filler").unlink()
        assert decode(rows).image.shape == (600, 3, 32, 32)


def arrow_fills_the_disk(disk: Path, folder: Path, free: int) -> None:
    """The cache of `datasets` on a disk that is full when a folder of Parquet files is read for the first time."""
    if not folder.is_dir():
        folder.mkdir()
        pictures(600).to_parquet(folder / "train.parquet")
    fill(disk, free)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(disk))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(disk))
        with pytest.raises(OSError, match=r"No space left on device; make room there, or set HF_DATASETS_CACHE to "):
            sources.load(str(folder))
        (disk / "filler").unlink()
        assert len(sources.load(str(folder))["train"]) == 600


def test_a_disk_that_is_full_while_pictures_are_written_or_decoded(disk, capsys):
    a_picture_cannot_be_written(disk, capsys, 4_096)
    decoding_fills_the_disk(disk, "images", 100_000)


def drawing_fills_the_disk(disk: Path, run: Path, capsys, out: str, free: int) -> None:
    """`practicum sample` onto a full disk."""
    with pytest.MonkeyPatch.context() as patch:
        full_at(patch, disk, sampling, "generative", 1, free)
        code, line = refusal(["sample", str(run), "--num", "40", "--steps", "1", "--out", str(disk / out)], capsys)
    assert code == 1 and "No space left on device" in line and "make room there" in line, line
    assert not (disk / out).exists(), "nothing that looks whole"
    assert [path.name for path in disk.iterdir() if path.name.startswith(f".{out}")] == []
    (disk / "filler").unlink()
    assert main(["sample", str(run), "--num", "40", "--steps", "1", "--out", str(disk / out)]) == 0


@pytest.mark.soak
def test_twenty_full_disks(disk, tmp_path, capsys):
    cases: list[Callable[[], None]] = [lambda where=where: fit_until_full(disk, capsys, *where) for where in FULL.values()]
    cases += [lambda free=free: a_picture_cannot_be_written(disk, capsys, free) for free in (0, 4_096)]
    cases += [lambda name=name, free=free: decoding_fills_the_disk(disk, name, free)
              for name, free in (("images", 0), ("images", 100_000), ("rows", 0), ("meta", 0))]
    cases += [lambda free=free: arrow_fills_the_disk(disk, tmp_path / "parquet", free) for free in (0, 100_000)]
    assert main(["fit", "ddpm_digits_linear", "--out", str(tmp_path / "ddpm"), "--data.limit", "64", "--trainer.max_steps", "1",
                 "--trainer.val_check_interval", "1", "--trainer.limit_val_batches", "1", "--trainer.callbacks", "[]"]) == 0
    cases += [lambda out=out, free=free: drawing_fills_the_disk(disk, tmp_path / "ddpm", capsys, out, free)
              for out, free in (("grid.png", 0), ("drawn", 0))]
    for case in cases:
        for path in disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        case()
    with capsys.disabled():
        print(f"\n{len(cases)} full disks (checkpoint, record, media, caches, samples): each one line and exit code 1, 0 checkpoints lost,"
              " and all ended well with room again")
    assert len(cases) >= 20


def test_a_disk_that_is_too_small_is_said_before_training(tmp_path, capsys):
    with mounted(tmp_path / "small", "size=2m") as small:
        code, line = refusal(["fit", "classifier", "--data", "digits", "--out", str(small / "run"), *SMALL], capsys)
        assert code == 2
        assert "small/run/checkpoints: three checkpoints of " in line and "make room there, or choose a folder of a larger disk" in line
        assert not (small / "run" / "metrics.jsonl").exists()


def test_room_is_counted_once_for_what_is_there(tmp_path, monkeypatch):
    checkpoints.save({"x": [0] * 1_000}, tmp_path, 1)
    size = (tmp_path / "step-00000001.ckpt").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 0, 2 * size))
    checkpoints.room_for(tmp_path, size)
    with pytest.raises(ValueError, match="do not fit"):
        checkpoints.room_for(tmp_path, size + 1)


def test_what_cannot_be_written_is_said_before_training_and_nothing_moves_elsewhere(read_only, tmp_path, capsys, monkeypatch):
    fit = ["fit", "classifier", "--data", "digits", *SMALL]
    for variable, flags, words in (
        (None, ["--out", str(read_only / "run")], [str(read_only / "run"), "Read-only file system"]),
        ("PRACTICUM_RUNS", [], [str(read_only), "Read-only file system"]),
        ("PRACTICUM_CACHE", [], [str(read_only), "Read-only file system; set PRACTICUM_CACHE to a folder that can be written"]),
        ("HF_HOME", [], [str(read_only), "Read-only file system; set PRACTICUM_CACHE to a folder that can be written"]),
    ):
        with monkeypatch.context() as patch:
            patch.delenv("HF_DATASETS_CACHE", raising=False)
            patch.delenv("PRACTICUM_CACHE", raising=False)
            if variable:
                patch.setenv(variable, str(read_only))
            code, line = refusal([*fit, *flags], capsys)
        assert code == 2 and not [word for word in words if word not in line], line
        assert not list(tmp_path.glob("runs/*/*/metrics.jsonl")) and not list(read_only.iterdir())
    pictures(8).to_parquet(tmp_path / "parquet.parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "parquet.parquet").rename(tmp_path / "mine" / "train.parquet")
    with monkeypatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(read_only / "datasets"))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(read_only / "datasets"))
        with pytest.raises(OSError, match="Read-only file system; set HF_DATASETS_CACHE to a folder that can be written"):
            sources.load(str(tmp_path / "mine"))


def test_the_record_does_not_hide_what_ended_the_run(tmp_path, monkeypatch):
    record = RunRecord(tmp_path / "run", experiment="e")
    record.log_metrics({"val/loss": 1.0}, 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ZeroDivisionError):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            record.finalize("failed")
            raise
    with pytest.raises(OSError, match="No space left") as raised:
        record.finalize("success")
    assert raised.value.filename == str(tmp_path / "run" / "status.json") and not list((tmp_path / "run").glob(".status*"))
