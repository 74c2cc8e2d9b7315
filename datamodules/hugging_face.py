"""Any Hugging Face `datasets` source behind a LightningDataModule: load, find the columns, decode once, gather batches.

The road of a picture: a source (built-in, folder, mirror or Hub) gives a `datasets.Dataset` per split; every picture is
decoded once to uint8 of one fixed shape and written to `<cache>/practicum/<key>/`, where the key is the split's
`datasets` fingerprint and the transform; from then on a batch is one fancy index into that memory map. The float
conversion and the flips happen on the device.
"""

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import filelock
import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from datamodules import images, sources
from datamodules.batch import Batch

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")
SPLIT_SEED = 0  # of the validation share and of `limit`: the same rows in every run, whatever the run's own seed
MAX_REFUSED = 0.01  # share of a split's rows
PEEKED_ROWS = 64  # read for the image size and the channel count, evenly spaced
CHUNK = 512  # encoded rows in memory at a time
GROUP = 32  # rows decoded by a thread at a time
CACHE_VERSION = 1  # part of the key: raise it when decoded pixels change


class Decoded(NamedTuple):
    """One split on disk: uint8 [N, C, H, W], the N source rows that are in it, and the SHA-256 of the pixels."""

    image: np.ndarray
    rows: np.ndarray
    sha256: str


class HuggingFaceData(lightning.LightningDataModule):
    """Pictures of one fixed shape from any `datasets` source; the base of one DataModule per kind of sample.

    A subclass adds what stands beside the picture: `_arrays(split)` returns more arrays of N rows.

    Args:
        path: A built-in name (digits), a folder (Parquet files, class folders of pictures, `save_to_disk`), or a Hub
            id. With the environment variable PRACTICUM_DATA=DIR, a Hub id whose last part is a folder of DIR is read
            from there.
        name: The configuration of a Hub data set that has several.
        revision: The branch, tag or commit of a Hub data set.
        columns: Our key -> the column's name, such as {image: img, label: fine_label}; else found by feature type.
        image_size: Height and width in pixels; null takes the pictures' own (their shorter side).
        channels: 1 gray, 3 RGB, 4 RGBA; null takes 1 if all pictures are gray, else 3.
        batch_size: Rows of a batch; in training the last, smaller one is left out.
        num_workers: Processes that gather batches; 0 is the fastest for all but slow disks.
        limit: Use at most this many rows of each split, drawn once with a fixed seed.
        flip: Mirror each training picture with probability 1/2.
        train_split: The split to train on.
        validation_split: A split's name, or the share of the training split to hold out (drawn once with a fixed seed);
            null takes the split named validation, valid, val or dev, else a share of 0.1. Never the test split.
        test_split: The split to test on, if the data set has it.
    """

    keys: tuple[str, ...] = ("image",)

    def __init__(
        self,
        path: str,
        name: str | None = None,
        revision: str | None = None,
        columns: dict[str, str] | None = None,
        image_size: int | None = None,
        channels: int | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        limit: int | None = None,
        flip: bool = False,
        train_split: str = "train",
        validation_split: float | str | None = None,
        test_split: str = "test",
    ) -> None:
        super().__init__()
        self.path = path
        self.name = name
        self.revision = revision
        self.columns = columns or {}
        self.image_size = image_size
        self.channels = channels
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.limit = limit
        self.flip = flip
        self.train_split = train_split
        self.validation_split = validation_split
        self.test_split = test_split
        self._decoded: dict[str, Decoded] = {}
        for key in self.columns:
            if key not in self.keys:
                raise ValueError(
                    f"columns: unknown key {key!r}{sources.nearest(key, self.keys)} (keys: {', '.join(self.keys)})"
                )
        if channels is not None and channels not in images.MODES:
            raise ValueError(
                f"channels: {channels} is not one of {', '.join(map(str, images.MODES))} (gray, RGB, RGBA)"
            )
        for argument, value in (("image_size", image_size), ("batch_size", batch_size), ("limit", limit)):
            if value is not None and value < 1:
                raise ValueError(f"{argument}: {value} is not a positive whole number")
        if isinstance(validation_split, float) and not 0 < validation_split < 1:
            raise ValueError(f"validation_split: {validation_split} is not a share between 0 and 1")

    # What the data is -----------------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """The data set's short name, fit for a file's: from the built-in name, or the last part of the folder or Hub id."""
        name = Path(self.path).name or Path(self.path).resolve().name
        return re.sub(r"[^a-z0-9.-]+", "_", name.lower()).strip("_.") or "data"

    def facts(self) -> dict[str, int]:
        """What a network must know, without decoding a picture: channels and image_size."""
        return {"channels": self._shape[0], "image_size": self._shape[1]}

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the content: all pixels, and what stands beside them in train and validation.

        The same on every machine and from every source. Needs `prepare_data`.
        """
        digest = hashlib.sha256()
        for split in self._splits:
            digest.update(f"{split} {self._read(split).image.shape} {self._read(split).sha256} ".encode())
        for split in ("train", "validation"):  # labels of a test split may be secret
            for key, values in self._arrays(split).items():
                digest.update(key.encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    def images(self, split: str) -> np.ndarray:
        """Memory-mapped uint8 [N, C, H, W] of train, validation or test: the pictures as the model sees them."""
        return self._read(split).image

    def _arrays(self, split: str) -> dict[str, np.ndarray]:
        """More arrays of N rows that stand in the batch beside the picture."""
        return {}

    # Lightning's hooks ----------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Find the data and decode what is not in the cache; safe in several processes at once."""
        for split in self._splits:
            self._read(split)

    def setup(self, stage: str | None = None) -> None:
        """Open the memory maps."""
        for split in ("test",) if stage == "test" else ("train", "validation"):
            self._read(split)
            self._arrays(split)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the order of epoch e is a function of (the run's seed, e). Not shuffled to overfit a batch."""
        return self._loader("train", shuffle=not getattr(self.trainer, "overfit_batches", 0))

    def val_dataloader(self) -> DataLoader:
        """Batches in the data's order."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> DataLoader:
        """Batches in the data's order."""
        return self._loader("test", shuffle=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """On the device: mirror the rows marked `flip`, and uint8 -> float32 in [-1, 1]."""
        image = batch["image"]  # B C H W, uint8
        if "flip" in batch:
            image = torch.where(batch.pop("flip")[:, None, None, None], image.flip(-1), image)
        batch["image"] = image.div(127.5).sub_(1)  # B C H W, float32; one pass less than converting first
        return cast(Batch, batch)

    def _loader(self, split: str, shuffle: bool) -> DataLoader:
        seed = torch.initial_seed()
        rows = Rows({"image": self.images(split), **self._arrays(split)})
        return DataLoader(
            rows,
            batch_size=None,  # the sampler gives the whole batch's rows: one fancy index instead of B items to collate
            sampler=BatchOrder(len(rows), self.batch_size, seed, shuffle=shuffle, flip=shuffle and self.flip),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(seed),  # else each epoch's iterator draws from the global one
        )

    # Source -> one datasets.Dataset per split -----------------------------------------------------------------------

    @cached_property
    def _chosen(self) -> "dict[str, tuple[datasets.Dataset, np.ndarray]]":
        """For train, validation and (where there is one) test: a split of the source, and which of its rows."""
        source = sources.load(self.path, self.name, self.revision)
        named = {"train": self.train_split, "test": self.test_split}
        validation = self.validation_split
        if validation is None:
            validation = next((name for name in ("validation", "valid", "val", "dev") if name in source), 0.1)
        if isinstance(validation, str):
            named["validation"] = validation
        for split, name in named.items():
            if name not in source and split != "test":
                share = "; or give a share of the training split, such as 0.1" if split == "validation" else ""
                raise ValueError(
                    f"{split}_split: {self.path} has no split {name!r}{sources.nearest(name, source)}"
                    f" (it has: {', '.join(source)}{share})"
                )
        chosen = {}
        for split, name in named.items():
            if name in source:
                rows = np.arange(len(source[name]))
                if self.limit is not None and self.limit < len(rows):
                    rows = np.sort(_shuffled(rows)[: self.limit])
                chosen[split] = source[name], rows
        if isinstance(validation, float):
            dataset, rows = chosen["train"]
            held_out = round(validation * len(rows))
            if not 0 < held_out < len(rows):
                raise ValueError(
                    f"validation_split: a share of {validation} of {len(rows)} rows leaves no row on one side"
                )
            order = _shuffled(rows)
            chosen["train"] = dataset, np.sort(order[held_out:])
            chosen["validation"] = dataset, np.sort(order[:held_out])
        return {split: chosen[split] for split in SPLITS if split in chosen}

    @cached_property
    def _splits(self) -> "dict[str, datasets.Dataset]":
        """The rows of train, validation and (where there is one) test, pictures still encoded."""
        return {
            split: dataset if len(rows) == len(dataset) else dataset.select(rows)
            for split, (dataset, rows) in self._chosen.items()
        }

    def _split(self, split: str) -> "datasets.Dataset":
        if split not in self._splits:
            raise ValueError(f"test_split: {self.path} has no split {self.test_split!r} (give --data.test_split NAME)")
        return self._splits[split]

    def _column(self, key: str, candidates: Sequence[str], kind: str) -> str:
        """The column of a key: the mapped one, else the first candidate."""
        names = self._splits["train"].column_names
        column = self.columns.get(key)
        if column is not None and column not in names:
            raise ValueError(
                f"columns: {self.path} has no column {column!r}{sources.nearest(column, names)}"
                f" (columns: {', '.join(names)})"
            )
        if column is not None:
            return column
        if not candidates:
            raise ValueError(
                f"columns: {self.path} has no {kind} column (columns: {', '.join(names)});"
                f" name it with --data.columns '{{{key}: NAME}}'"
            )
        return candidates[0]

    @cached_property
    def _image_column(self) -> str:
        features = self._splits["train"].features
        column = self._column("image", [name for name, feature in features.items() if _holds_images(feature)], "image")
        if not _holds_images(features[column]):
            raise ValueError(
                f"columns: {column!r} of {self.path} holds {features[column]}, not pictures or their bytes"
            )
        return column

    def _encoded(self, split: str) -> "datasets.Dataset":
        """The picture column alone, as {bytes, path}."""
        dataset = self._split(split).select_columns([self._image_column])
        import datasets  # two seconds, needed only now that there is a data set

        return dataset.cast_column(self._image_column, datasets.Image(decode=False))

    # Pictures -> one memory map per split ---------------------------------------------------------------------------

    @cached_property
    def _shape(self) -> tuple[int, int]:
        """Channels and image size: as given, else from the headers of some training pictures."""
        if self.channels is not None and self.image_size is not None:
            return self.channels, self.image_size
        dataset = self._encoded("train")
        headers = []
        for row in np.unique(np.linspace(0, len(dataset) - 1, PEEKED_ROWS).astype(int)):
            try:
                headers.append(images.peek(_bytes_or_path(dataset[int(row)][self._image_column])))
            except images.Refused:
                continue  # counted and named when the split is decoded
        if not headers:
            raise ValueError(f"{self.path}: no picture of column {self._image_column!r} can be read")
        sizes = sorted({(header.width, header.height) for header in headers})
        if self.image_size is None and len(sizes) > 1:
            raise ValueError(
                f"image_size: the pictures of {self.path} have several sizes ({sizes[0][0]}x{sizes[0][1]} to"
                f" {sizes[-1][0]}x{sizes[-1][1]}); give one, such as --data.image_size 64"
            )
        channels = self.channels or (1 if all(header.gray for header in headers) else 3)
        return channels, self.image_size or min(sizes[0])

    def _read(self, split: str) -> Decoded:
        """The decoded split from the cache, where it is put first if it is not there."""
        if split in self._decoded:
            return self._decoded[split]
        dataset = self._encoded(split)
        channels, size = self._shape
        key = f"{dataset._fingerprint}|{self._image_column}|{channels}|{size}|{CACHE_VERSION}"
        folder = cache_folder() / f"{self.title}-{split}-{size}px-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        decoded = _open_decoded(folder)
        if decoded is None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{folder}.lock"):  # the system lets go of it when its holder dies
                decoded = _open_decoded(folder)
                if decoded is None:
                    self._decode(dataset, self._chosen[split][1], folder, f"{self.title} {split}")
                    decoded = _open_decoded(folder)
        assert decoded is not None
        self._decoded[split] = decoded
        return decoded

    def _decode(self, dataset: "datasets.Dataset", source_rows: np.ndarray, folder: Path, title: str) -> None:
        """Decode all rows into `folder`, which appears only when it is whole; `source_rows` are their names in errors."""
        channels, size = self._shape
        needed = len(dataset) * channels * size * size
        free = shutil.disk_usage(folder.parent).free
        if needed > free:
            raise ValueError(
                f"{title}: {needed / 1e9:.1f} GB of decoded pictures do not fit into {folder.parent}"
                f" ({free / 1e9:.1f} GB free); set PRACTICUM_CACHE to a folder of a larger disk, or use a smaller"
                " --data.image_size or --data.limit"
            )

        def decode(row: dict[str, Any] | None) -> np.ndarray | images.Refused:
            try:
                return images.decode(_bytes_or_path(row), size, channels)
            except images.Refused as refusal:
                return refusal

        def decode_group(group: list[dict[str, Any] | None]) -> list[np.ndarray | images.Refused]:
            return [decode(row) for row in group]

        part = folder.with_name(folder.name + ".part")  # a part that is there already was left by a killed process
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        digest = hashlib.sha256()
        rows: list[int] = []
        refused: list[str] = []
        allowed = int(MAX_REFUSED * len(dataset))
        with (
            (part / "images.uint8").open("wb") as file,
            ThreadPoolExecutor(os.cpu_count()) as pool,
            warnings.catch_warnings(action="ignore"),  # Pillow's, of damaged files: the refusals name them
        ):
            for start in _progress(range(0, len(dataset), CHUNK), f"decoding {title} to {size} px", len(dataset)):
                encoded = dataset[start : start + CHUNK][self._image_column]
                groups = [encoded[first : first + GROUP] for first in range(0, len(encoded), GROUP)]
                for row, result in enumerate(itertools.chain.from_iterable(pool.map(decode_group, groups)), start):
                    if isinstance(result, images.Refused):
                        name = (encoded[row - start] or {}).get("path")
                        refused.append(f"row {source_rows[row]}{f' ({Path(name).name})' if name else ''}: {result}")
                    else:
                        rows.append(row)
                        pixels = result.tobytes()
                        digest.update(pixels)
                        file.write(pixels)
        if refused:
            listed = "; ".join(refused[:10]) + ("; ..." if len(refused) > 10 else "")
            message = f"{title}: {len(refused)} of {len(dataset)} pictures refused: {listed}"
            if len(refused) > allowed:
                shutil.rmtree(part)
                raise ValueError(f"{message} (more than {MAX_REFUSED:.0%}: mend or remove them)")
            print(f"warning: {message}", file=sys.stderr)
        np.save(part / "rows.npy", np.array(rows, dtype=np.int64))
        meta = {"shape": [len(rows), channels, size, size], "sha256": digest.hexdigest(), "refused": refused}
        (part / "meta.json").write_text(json.dumps(meta))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)


class Rows(Dataset):
    """Arrays of N rows each; an item is a whole batch, gathered by its rows' numbers."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = {key: np.asarray(values) for key, values in arrays.items()}

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def __getitem__(self, rows_and_flips: tuple[np.ndarray, np.ndarray | None]) -> dict[str, Tensor]:
        rows, flips = rows_and_flips
        batch = {key: torch.from_numpy(values.take(rows, axis=0)) for key, values in self.arrays.items()}
        if flips is not None:
            batch["flip"] = torch.from_numpy(flips)
        return batch


class BatchOrder(SequentialSampler):
    """Which rows stand in which batch, and which of them are mirrored: a function of (seed, epoch) and nothing else.

    Each pass begins the next epoch; `set_epoch` (which Lightning calls) names it. A shuffled order leaves out the
    last, smaller batch, unless it is the only one. (A SequentialSampler by type: any other is replaced by Lightning where
    it overfits a batch.)
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int, shuffle: bool, flip: bool = False) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.flip = flip
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle and self.num_rows >= self.batch_size:
            return self.num_rows // self.batch_size
        return math.ceil(self.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:  # type: ignore[override]
        random = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1  # at the first `next`: DataLoader's worker mode asks for two iterators and uses one
        order = random.permutation(self.num_rows) if self.shuffle else np.arange(self.num_rows)
        flips = random.random(self.num_rows) < 0.5 if self.flip else None
        bounds = range(0, len(self) * self.batch_size, self.batch_size)
        for start in bounds:
            cut = slice(start, start + self.batch_size)
            yield order[cut], None if flips is None else flips[cut]


def cache_folder() -> Path:
    """Where decoded pictures live: PRACTICUM_CACHE, else practicum/ in HF_DATASETS_CACHE (by default in HF_HOME)."""
    chosen = os.environ.get("PRACTICUM_CACHE")
    return Path(chosen).expanduser() if chosen else sources.datasets_cache() / "practicum"


def _shuffled(rows: np.ndarray) -> np.ndarray:
    return np.random.default_rng(SPLIT_SEED).permutation(rows)


def _holds_images(feature: Any) -> bool:
    """Whether a column's feature is a picture: typed so, or the bytes of one as other writers of Parquet leave it."""
    import datasets

    if isinstance(feature, datasets.Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _bytes_or_path(row: dict[str, Any] | None) -> bytes | str:
    if row is None or (row["bytes"] is None and row["path"] is None):
        raise images.Refused("empty")
    return row["bytes"] if row["bytes"] is not None else row["path"]


def _open_decoded(folder: Path) -> Decoded | None:
    """The memory map of a whole folder, or None."""
    if not (folder / "meta.json").is_file():
        return None
    meta = json.loads((folder / "meta.json").read_text())
    shape = tuple(meta["shape"])
    if (folder / "images.uint8").stat().st_size != np.prod(shape):
        return None
    pixels = np.memmap(folder / "images.uint8", dtype=np.uint8, mode="r", shape=shape)
    return Decoded(pixels, np.load(folder / "rows.npy"), meta["sha256"])


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
