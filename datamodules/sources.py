"""Where a data set comes from: a built-in name, a folder, a mirror of the Hub, or the Hub itself.

Every mistake is a ValueError of one line with its remedy; a Hub that does not answer is noticed within two seconds.
"""

import difflib
import errno
import hashlib
import logging
import os
import queue
import ssl
import sys
import threading
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import datasets

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
HUB_TIMEOUT = 2.0  # seconds
TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its variables
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"}
SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


class Source(ABC):
    """A data set that is made, not found: goes where a path goes.

    `title` is its short name, for files and errors. `shares_train`: whether a share of its training rows may validate.
    """

    title: str
    shares_train = True

    @abstractmethod
    def load(self, image_size: int | None) -> "Mapping[str, datasets.Dataset]":
        """Split -> rows, pictures encoded; a split may be made when it is asked for.

        `image_size` is the height and width in pixels that will be trained on, null the source's own choice.
        """


def load(
    path: str | Source, name: str | None = None, revision: str | None = None, image_size: int | None = None
) -> "Mapping[str, datasets.Dataset]":
    """Load the splits of a data set, pictures still encoded.

    Args:
        path: A `Source`, a built-in name, a folder, or a Hub id; a Hub id whose last part is a folder in the folder that
            the environment variable PRACTICUM_DATA names is read from there.
        name: The configuration of a Hub data set that has several.
        revision: The branch, tag or commit of a Hub data set.
        image_size: What a source that draws its pictures should draw, in pixels; null is its own choice.
    """
    if isinstance(path, Source):
        return path.load(image_size)
    if path in BUILT_IN:
        return BUILT_IN[path](image_size)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _load_folder(folder, name)
    if folder.is_file():
        raise ValueError(f"path: {path} is a file; give the folder that holds it")
    if path.startswith(("/", ".", "~")) or path.count("/") > 1 or "\\" in path or not folder.name:
        near = nearest(folder.name, _folders(folder.parent))
        raise ValueError(
            f"path: no such folder {path!r}{near}; give a folder, a Hub id or a built-in name"
            f" ({', '.join(BUILT_IN)})"
        )
    mirror = os.environ.get("PRACTICUM_DATA")
    if mirror:
        mirrored = Path(mirror).expanduser() / folder.name
        if not mirrored.parent.is_dir():
            raise ValueError(f"PRACTICUM_DATA: no such folder {mirror!r}; name one that holds data sets, or unset it")
        if mirrored.is_dir():
            say_once(f"{path}: read from {mirrored} (PRACTICUM_DATA), not from the Hub")
            return _load_folder(mirrored, name)
    return _load_hub(path, name, revision)


def datasets_cache() -> Path:
    """The cache folder of `datasets`, known without importing it."""
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    return Path(os.environ.get("HF_DATASETS_CACHE", os.path.join(home, "datasets"))).expanduser()


def disk_trouble(error: BaseException | None, folder: Path, variable: str) -> OSError | None:
    """An OSError, in one line, where a full disk or one that cannot be written, that of the cache `folder`, is behind an error; else
    None. `variable` of the environment names another folder."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            remedy = f"make room there, or set {variable} to a folder of a larger disk"
            return OSError(error.errno, f"{os.strerror(error.errno)}; {remedy}", str(error.filename or folder))
        if isinstance(error, OSError) and error.errno in UNWRITABLE and str(error.filename or "").startswith(_beginning(folder)):
            remedy = f"set {variable} to a folder that can be written"
            return OSError(error.errno, f"{os.strerror(error.errno)}; {remedy}", str(error.filename))
        error = error.__cause__ or error.__context__
    return None


def _beginning(folder: Path) -> str:
    """The part of a path that is there."""
    return str(next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir()))


def nearest(word: str, known: Iterable[str]) -> str:
    """', did you mean ...?', or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _load_folder(folder: Path, name: str | None) -> "dict[str, datasets.Dataset]":
    """Read a `save_to_disk` folder, Parquet files (split by how their names begin), or class folders of pictures."""
    files = {Path(file) for _, _, files in os.walk(folder, followlinks=True) for file in files}
    saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
    listed = any(file.stem == "metadata" for file in files)
    if not saved and not any(file.suffix.lower() in {".parquet", *PICTURES} for file in files):
        raise ValueError(f"path: {folder} holds no Parquet files, no pictures and no data set of `save_to_disk`")
    import datasets

    try:
        with quiet():
            if saved:
                loaded = datasets.load_from_disk(str(folder))
                return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
            if listed or any(file.suffix.lower() == ".parquet" for file in files):
                return dict(datasets.load_dataset(str(folder), name))
            return _load_pictures(folder)
    except Exception as error:  # damaged files raise whatever their reader raises
        if trouble := disk_trouble(error, datasets_cache(), "HF_DATASETS_CACHE"):
            raise trouble from error
        raise ValueError(f"path: {folder} cannot be read as one data set: {_line(error)}") from error


def _load_pictures(folder: Path) -> "dict[str, datasets.Dataset]":
    """Read class folders of pictures, with or without train, validation and test folders around them.

    `datasets`' own reader would also take a split from the name of a picture or of a class (test-3.jpg, a class named
    train), and leave out all others without a word. Here a folder is a split only if all its neighbours are.
    """
    import datasets

    roots = {"train": folder}
    inside = _folders(folder)
    if inside and all(name.lower() in SPLIT_FOLDERS for name in inside):
        roots = {SPLIT_FOLDERS[name.lower()]: folder / name for name in inside}
    pictures = {split: _pictures(root) for split, root in roots.items()}
    classes = sorted({label for rows in pictures.values() for _, label in rows if label is not None})
    features = datasets.Features({"image": datasets.Image()})
    if classes:
        features["label"] = datasets.ClassLabel(names=classes)
    loaded = {}
    for split, rows in pictures.items():
        columns: dict[str, list] = {"image": [str(file) for file, _ in rows]}
        if classes:
            columns["label"] = [label for _, label in rows]
        digest = hashlib.sha256(repr(classes).encode())
        for file, label in rows:
            status = file.stat()
            digest.update(f"{file}|{label}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        table = datasets.Dataset.from_dict(columns, features=features).data
        loaded[split] = datasets.Dataset(
            table, datasets.DatasetInfo(features=features), fingerprint=digest.hexdigest()[:16]
        )
    return loaded


def _pictures(root: Path) -> list[tuple[Path, str | None]]:
    """Every picture below a folder, in a fixed order, with the name of its class folder (None directly in `root`)."""
    found = []
    for parent, folders, files in os.walk(root.resolve(), followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        parts = Path(parent).relative_to(root.resolve()).parts
        for file in sorted(files):
            if Path(file).suffix.lower() in PICTURES and not file.startswith("."):
                found.append((Path(parent) / file, parts[0] if parts else None))
    return found


def _load_hub(path: str, name: str | None, revision: str | None) -> "dict[str, datasets.Dataset]":
    """Load from the Hub, or from the `datasets` cache where the Hub does not answer: no retries against a dead line."""
    known = [*BUILT_IN, *(f"{Path(path).parent}/{folder}" for folder in _folders(Path(path).parent))]
    forbidden = any(os.environ.get(name, "0").upper() in TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    offline = forbidden or not _hub_answers()
    not_cached = (
        f"path: {path!r} is not in the cache and {'HF_HUB_OFFLINE is set' if forbidden else 'the Hub does not answer'}"
        f"{nearest(path, known)}; connect, or give a folder with --data.path, a mirror with PRACTICUM_DATA, or the"
        " built-in --data digits"
    )
    cached = (folder.lower() for folder in _folders(datasets_cache()))
    if offline and path.split("/")[0].lower() not in (folder.split("___")[0] for folder in cached):
        raise ValueError(not_cached)  # without the two seconds of the import
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    try:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = offline
        with quiet():
            return dict(datasets.load_dataset(path, name, revision=revision))
    except Exception as error:  # network, cache and format errors of five libraries
        if trouble := disk_trouble(error, datasets_cache(), "HF_HOME"):
            raise trouble from error
        if offline:
            raise ValueError(f"{not_cached} ({_line(error)})") from error
        if isinstance(error, datasets.exceptions.DatasetNotFoundError):
            raise ValueError(
                f"path: no folder and no public data set of the Hub is named {path!r}{nearest(path, known)}"
                " (for a private one: hf auth login)"
            ) from error
        raise ValueError(f"path: {path!r} cannot be loaded from the Hub: {_line(error)}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    """Whether the Hub gives a sign of life in time; asked in a thread, because looking up a name has no time limit."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answers: queue.Queue[bool] = queue.Queue()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_TIMEOUT).close()
            answers.put(True)
        except urllib.error.HTTPError:
            answers.put(True)  # a refusal is an answer
        except OSError as error:  # certificates are the library's business
            answers.put(isinstance(getattr(error, "reason", None), ssl.SSLError))

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=HUB_TIMEOUT)
    except queue.Empty:
        return False


def _digits() -> "dict[str, datasets.Dataset]":
    """scikit-learn's 1,797 scanned digits, 8x8 gray; stratified with seed 0 into 1,077 / 360 / 360 rows.

    Values 0..16 become round(v * 255 / 16). E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, 1998.
    """
    import datasets
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans, labels = load_digits(return_X_y=True)
    pixels = np.round(scans.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    train, rest = train_test_split(np.arange(len(labels)), test_size=720, random_state=0, stratify=labels)
    validation, test = train_test_split(rest, test_size=360, random_state=0, stratify=labels[rest])
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(digit) for digit in range(10)])}
    )
    return {
        split: datasets.Dataset.from_dict(
            {"image": [Image.fromarray(pixels[row]) for row in rows], "label": labels[rows]}, features=features
        )
        for split, rows in (("train", train), ("validation", validation), ("test", test))
    }


# Name -> what makes its splits at an image size (which digits, being scans, do not follow); imports nothing until called.
def _scenes(image_size: int | None) -> "Mapping[str, datasets.Dataset]":
    from datamodules.scenes.dataset import Scenes  # which imports this module

    return Scenes().load(image_size)


BUILT_IN: "dict[str, Callable[[int | None], Mapping[str, datasets.Dataset]]]" = {
    "digits": lambda image_size: _digits(),
    "scenes": _scenes,
}


def _folders(folder: Path) -> list[str]:
    """The names of the visible folders in a folder, sorted."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _line(error: BaseException) -> str:
    """The innermost cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{error}".split())[:160] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines (what matters is raised), and no bars of `datasets` where there is no terminal to draw them on."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@cache
def say_once(sentence: str) -> None:
    """Prints a sentence to stderr, the first time in this process."""
    print(sentence, file=sys.stderr)
