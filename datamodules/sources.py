"""Where a data set comes from: a built-in name, a folder, a mirror of the Hub, or the Hub itself.

Every mistake is a ValueError of one line with its remedy; a Hub that does not answer is noticed within two seconds.
"""

import difflib
import errno
import hashlib
import http.client
import logging
import math
import os
import queue
import re
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules import inside

if TYPE_CHECKING:
    import datasets

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
HUB_TIMEOUT = 2.0  # seconds for an answer
HUB_PATIENCE = 1.0  # seconds of waiting between trials
NO_ANSWER, UNKNOWN_REVISION = "the Hub does not answer", "unknown revision"
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
        return inside.checked(_load_folder(folder, name), folder)
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
            return inside.checked(_load_folder(mirrored, name), mirrored)
    return inside.checked(_load_hub(path, name, revision), datasets_cache(), datasets_cache().parent)


def datasets_cache() -> Path:
    """The cache folder of `datasets`, known without importing it."""
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    return Path(os.environ.get("HF_DATASETS_CACHE", os.path.join(home, "datasets"))).expanduser()


def disk_trouble(error: BaseException | None, folder: Path, variable: str) -> OSError | None:
    """An OSError, in one line, where a full disk or one that cannot be written, that of the cache `folder`, is behind an error; else
    None. `variable` of the environment names another folder."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in FULL or str(error).startswith("Not enough disk space")):  # `datasets`' own words
            remedy = f"make room there, or set {variable} to a folder of a larger disk"
            code = error.errno or errno.ENOSPC
            return OSError(code, f"{os.strerror(code)}; {remedy}", str(error.filename or folder))
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
    """Load from the Hub, or from the `datasets` cache where the Hub fails: no retries against a dead line."""
    known = [*BUILT_IN, *(f"{Path(path).parent}/{folder}" for folder in _folders(Path(path).parent))]
    forbidden = any(os.environ.get(name, "0").upper() in TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    problem = "HF_HUB_OFFLINE is set" if forbidden else _trouble_with_hub(path, revision)
    if problem is None:
        try:
            return _load_named(path, name, revision, offline=False)
        except Exception as error:  # network, cache and format errors of five libraries
            import datasets

            if isinstance(error, datasets.exceptions.DatasetNotFoundError):
                raise ValueError(
                    f"path: no folder and no public data set of the Hub is named {path!r}{nearest(path, known)}"
                    " (for a private one: hf auth login)"
                ) from error
            if not _is_of_network(error):
                raise ValueError(f"path: {path!r} cannot be loaded from the Hub: {_line(error)}") from error
            problem = f"its download failed ({_line(error)})"
    not_cached = (
        f"path: {path!r} is not in the cache and {problem}{nearest(path, known)}; connect, or give a folder with"
        " --data.path, a mirror with PRACTICUM_DATA, or the built-in --data digits"
    )
    commits = _cached_commits(path)
    if not commits:
        raise ValueError(not_cached)  # without the two seconds of the import
    if revision is not None and _commit(path, revision) != commits[-1]:  # `datasets` would take the newest without a word
        raise ValueError(
            f"revision: {revision!r} of {path!r} is not the one in the cache ({commits[-1]}) and {problem}; connect, or"
            " leave --data.revision out"
        )
    if not forbidden:
        say_once(f"{path}: read from the cache, as {problem}")
    try:
        return _load_named(path, name, revision, offline=True)
    except Exception as error:
        raise ValueError(f"{not_cached} ({_line(error)})") from error


def _load_named(path: str, name: str | None, revision: str | None, offline: bool) -> "dict[str, datasets.Dataset]":
    """`load_dataset` that does not ask the Hub if it is `offline`, and has little patience with it otherwise."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE, constants.HF_HUB_ETAG_TIMEOUT
    try:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = offline
        constants.HF_HUB_ETAG_TIMEOUT = min(constants.HF_HUB_ETAG_TIMEOUT, math.ceil(HUB_TIMEOUT))
        with quiet(), _little_patience():
            return dict(datasets.load_dataset(path, name, revision=revision))
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE, constants.HF_HUB_ETAG_TIMEOUT = before


class _Impatient(ModuleType):
    """The module `time`, but that its sleeps are at most `HUB_PATIENCE` seconds together, unless all went well between them."""

    def __init__(self) -> None:
        super().__init__("time")
        self.left, self.slept_at = HUB_PATIENCE, time.monotonic()

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        if time.monotonic() - self.slept_at > 10:
            self.left = HUB_PATIENCE
        if seconds > self.left:
            raise ConnectionError("the Hub fails again and again")
        self.left -= seconds
        time.sleep(seconds)
        self.slept_at = time.monotonic()


@contextmanager
def _little_patience() -> Iterator[None]:
    """The library of the Hub tries again six times, 23 seconds long, at each of its questions; here it gives up sooner."""
    import huggingface_hub.file_download
    import huggingface_hub.utils._http

    modules: list[Any] = [huggingface_hub.file_download, huggingface_hub.utils._http]
    impatient = _Impatient()
    try:
        for module in modules:
            module.time = impatient
        yield
    finally:
        for module in modules:
            module.time = time


def _cached_commits(path: str) -> list[str]:
    """Which commits of a data set the cache of `datasets` holds, the newest last."""
    owner, _, last = path.rpartition("/")
    snake = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", last)).lower()
    root = datasets_cache() / "___".join([*([owner] if owner else []), snake])
    return [folder.name for folder in sorted(root.glob("*/*/*"), key=lambda folder: folder.stat().st_mtime) if folder.is_dir()]


def _commit(path: str, revision: str) -> str:
    """What a branch or tag was when it was last downloaded; a commit is itself."""
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))).expanduser()
    reference = hub / f"datasets--{path.replace('/', '--')}" / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else revision


def _is_of_network(error: BaseException | None) -> bool:
    """Whether a connection has failed somewhere below an error; all libraries of the network name theirs so."""
    while error is not None:
        names = [kind.__name__ for kind in type(error).__mro__]
        if any(name.endswith(("ConnectionError", "HTTPError", "TransportError", "Timeout", "TimeoutException")) for name in names):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trouble_with_hub(path: str, revision: str | None) -> str | None:
    """Why the Hub cannot be used, None if it can; both of its doors are asked, in threads: looking up a name has no time limit.

    Raises ValueError where the Hub knows the data set, but not the revision.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    quoted = urllib.parse.quote(revision or "main", safe="")
    name = urllib.parse.quote(path)
    questions = (f"api/datasets/{name}/revision/{quoted}", f"datasets/{name}/resolve/{quoted}/README.md")
    answers: queue.Queue[str | None] = queue.Queue()

    def ask(question: str) -> None:
        try:
            request = urllib.request.Request(f"{endpoint}/{question}", method="HEAD")
            urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
            answers.put(None)
        except urllib.error.HTTPError as error:  # a refusal is an answer, and the library's business; a failure is not
            failed = error.code >= 500 or error.code == 429
            unknown = error.headers.get("X-Error-Code") == "RevisionNotFound"
            answers.put(f"the Hub answers with error {error.code}" if failed else UNKNOWN_REVISION if unknown else None)
        except (OSError, ValueError, http.client.HTTPException) as error:  # certificates are the library's business
            answers.put(None if isinstance(getattr(error, "reason", None), ssl.SSLError) else NO_ANSWER)

    for question in questions:
        threading.Thread(target=ask, args=(question,), daemon=True).start()
    deadline = time.monotonic() + HUB_TIMEOUT
    troubles: list[str] = []
    for _ in questions:
        try:
            troubles += [answer] if (answer := answers.get(timeout=max(0.0, deadline - time.monotonic()))) else []
        except queue.Empty:
            troubles.append(NO_ANSWER)
    if UNKNOWN_REVISION in troubles:
        raise ValueError(
            f"revision: {path!r} has no branch, tag or commit {revision!r} on the Hub; leave --data.revision out, or name"
            " one that it has"
        )
    return troubles[0] if troubles else None


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
