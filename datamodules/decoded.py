"""From encoded pictures to one memory map per split.

Every picture is decoded once to uint8 of one fixed shape and written to `<cache>/<title>-<size>px-<key>/`, where the key
is of the split's `datasets` fingerprint and the transform: images.uint8, rows.npy and meta.json. A data set here is a
`datasets.Dataset` whose picture column holds {bytes, path}.
"""

import hashlib
import itertools
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock
import numpy as np

from datamodules import images, sources

if TYPE_CHECKING:
    import datasets

MAX_REFUSED = 0.01  # share of a split's rows; one is always let pass
PEEKED_ROWS = 64  # read for the image size and the channel count, evenly spaced
CHUNK = 512  # encoded rows in memory at a time
GROUP = 32  # rows decoded by a thread at a time
CACHE_VERSION = 1  # part of the key: raise it when decoded pixels change


class Decoded(NamedTuple):
    """One split on disk: uint8 [N, C, H, W], the N source rows that are in it, and the SHA-256 of the pixels."""

    image: np.ndarray
    rows: np.ndarray
    sha256: str


def open_or_decode(
    dataset: "datasets.Dataset",
    column: str,
    *,
    size: int,
    channels: int,
    source_rows: np.ndarray,
    title: str,
    missing: Mapping[int, str] | None = None,
) -> Decoded:
    """The decoded pictures of `column` from the cache, where they are put first if they are not there.

    Safe in several processes at once. `source_rows` are the rows' names in errors; `title` ("digits train") names the
    split in messages and the folder; `missing` are rows that are refused for what stands beside the picture, and why.
    Raises ValueError if the disk is too small, or if more than 1 % of the rows, and more than one, are refused.
    """
    missing = missing or {}
    key = f"{dataset._fingerprint}|{column}|{channels}|{size}|{CACHE_VERSION}"
    if missing:
        key += f"|{sorted(missing.items())}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache_folder() / f"{title.replace(' ', '-')}-{size}px-{digest}"
    decoded = _open(folder)
    if decoded is None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{folder}.lock"):  # the system lets go of it when its holder dies
                decoded = _open(folder)
                if decoded is None:
                    _decode(dataset, column, size, channels, source_rows, title, missing, folder)
                    decoded = _open(folder)
        except OSError as error:
            if trouble := sources.disk_trouble(error, folder.parent, "PRACTICUM_CACHE"):
                raise trouble from error
            raise
    assert decoded is not None
    return decoded


def headers(dataset: "datasets.Dataset", column: str) -> list[images.Header]:
    """The headers of some evenly spaced pictures, those that can be read."""
    found = []
    for row in np.unique(np.linspace(0, len(dataset) - 1, PEEKED_ROWS).astype(int)):
        try:
            found.append(images.peek(_bytes_or_path(dataset[int(row)][column])))
        except images.Refused:
            continue  # counted and named when the split is decoded
    return found


def cache_folder() -> Path:
    """Where decoded pictures live: PRACTICUM_CACHE, else practicum/ in HF_DATASETS_CACHE (by default in HF_HOME)."""
    chosen = os.environ.get("PRACTICUM_CACHE")
    return Path(chosen).expanduser() if chosen else sources.datasets_cache() / "practicum"


def _open(folder: Path) -> Decoded | None:
    """The memory map of a whole folder, or None."""
    if not (folder / "meta.json").is_file():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        shape = tuple(meta["shape"])
        rows = np.load(folder / "rows.npy")
        whole = (folder / "images.uint8").stat().st_size == np.prod(shape)
    except (ValueError, KeyError, EOFError, FileNotFoundError):  # a loss of power can leave names without what is in them
        return None
    if not whole:
        return None
    pixels = np.memmap(folder / "images.uint8", dtype=np.uint8, mode="r", shape=shape)
    return Decoded(pixels, rows, meta["sha256"])


def _decode(
    dataset: "datasets.Dataset",
    column: str,
    size: int,
    channels: int,
    source_rows: np.ndarray,
    title: str,
    missing: Mapping[int, str],
    folder: Path,
) -> None:
    """Decode all rows into `folder`, which appears only when it is whole."""
    part = folder.with_name(folder.name + ".part")  # a part that is there already was left by a killed process
    shutil.rmtree(part, ignore_errors=True)
    needed = len(dataset) * channels * size * size
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise ValueError(
            f"{title}: {needed / 1e6:,.1f} MB of decoded pictures do not fit into {folder.parent}"
            f" ({free / 1e6:,.1f} MB free); set PRACTICUM_CACHE to a folder of a larger disk, or use a smaller"
            " --data.image_size or --data.limit"
        )
    try:
        _decode_into(part, dataset, column, size, channels, source_rows, title, missing)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)  # a full disk needs the room
        raise
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _decode_into(
    part: Path,
    dataset: "datasets.Dataset",
    column: str,
    size: int,
    channels: int,
    source_rows: np.ndarray,
    title: str,
    missing: Mapping[int, str],
) -> None:
    def decode(row: dict[str, Any] | None) -> np.ndarray | images.Refused:
        try:
            return images.decode(_bytes_or_path(row), size, channels)
        except images.Refused as refusal:
            return refusal

    def decode_group(group: list[dict[str, Any] | None]) -> list[np.ndarray | images.Refused]:
        return [decode(row) for row in group]

    part.mkdir()
    digest = hashlib.sha256()
    rows: list[int] = []
    refused: list[str] = []
    allowed = max(1, int(MAX_REFUSED * len(dataset)))
    with (
        (part / "images.uint8").open("wb") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        warnings.catch_warnings(action="ignore"),  # Pillow's, of damaged files: the refusals name them
    ):
        for start in _progress(range(0, len(dataset), CHUNK), f"decoding {title} to {size} px", len(dataset)):
            encoded = dataset[start : start + CHUNK][column]
            groups = [encoded[first : first + GROUP] for first in range(0, len(encoded), GROUP)]
            for row, result in enumerate(itertools.chain.from_iterable(pool.map(decode_group, groups)), start):
                reason = missing.get(row) or (result if isinstance(result, images.Refused) else None)
                if reason is not None:
                    name = (encoded[row - start] or {}).get("path")
                    refused.append(f"row {source_rows[row]}{f' ({Path(name).name})' if name else ''}: {reason}")
                else:
                    rows.append(row)
                    pixels = result.tobytes()  # type: ignore[union-attr]
                    digest.update(pixels)
                    file.write(pixels)
        file.flush()
        os.fsync(file.fileno())
    if refused:
        listed = "; ".join(refused[:10]) + ("; ..." if len(refused) > 10 else "")
        message = f"{title}: {len(refused)} of {len(dataset)} rows refused: {listed}"
        if len(refused) > allowed or not rows:
            raise ValueError(f"{message} (more than {MAX_REFUSED:.0%}: mend or remove them)")
        print(f"warning: {message}", file=sys.stderr)
    np.save(part / "rows.npy", np.array(rows, dtype=np.int64))
    meta = {"shape": [len(rows), channels, size, size], "sha256": digest.hexdigest(), "refused": refused}
    (part / "meta.json").write_text(json.dumps(meta))


def _bytes_or_path(row: dict[str, Any] | None) -> bytes | str:
    if row is None or (row["bytes"] is None and row["path"] is None):
        raise images.Refused("empty")
    return row["bytes"] if row["bytes"] is not None else row["path"]


def _progress(starts: range, title: str, total: int) -> Iterator[int]:
    """A bar on a terminal; elsewhere a line at the end, and one every five seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(starts, description=title, console=Console(stderr=True), transient=True)
        return
    began = said = time.monotonic()
    for start in starts:
        yield start
        now = time.monotonic()
        if now - said > 5:
            said = now
            print(f"{title}: {min(start + CHUNK, total):,} of {total:,}", file=sys.stderr, flush=True)
    print(f"{title}: {total:,} pictures in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
