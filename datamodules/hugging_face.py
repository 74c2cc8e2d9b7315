"""Any Hugging Face `datasets` source behind a LightningDataModule: choose the splits, find the columns, load batches.

The road of a picture: a source (built-in, folder, mirror or Hub) gives a `datasets.Dataset` per split (sources.py); every
picture is decoded once into one memory map per split (decoded.py); from then on a batch is one fancy index into that map
(order.py). The float conversion and the flips happen on the device.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from datamodules import columns as tables
from datamodules import decoded, images, sources, splits
from datamodules.batch import Batch
from datamodules.labels import Labels
from datamodules.order import BatchOrder, Rows
from datamodules.texts import SplitTexts, Texts

if TYPE_CHECKING:
    import datasets


class HuggingFaceData(lightning.LightningDataModule):
    """Pictures of one fixed shape from any `datasets` source; the base of one DataModule per kind of sample.

    A subclass adds what stands beside the picture: `_arrays(split)` returns more arrays of N rows, and `_texts` are
    what is said of the pictures. A class column, the mapped one or the first ClassLabel, is read where there is one.

    Args:
        path: A built-in name (digits), a folder (Parquet files, class folders of pictures, `save_to_disk`), a Hub id,
            or a `Source` that makes its rows. With the environment variable PRACTICUM_DATA=DIR, a Hub id whose last
            part is a folder of DIR is read from there.
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

    keys: tuple[str, ...] = ("image", "label")  # of `columns`
    _texts: SplitTexts | None = None

    def __init__(
        self,
        path: str | sources.Source,
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
        self._opened: dict[str, decoded.Decoded] = {}
        self._begin = (0, 0)
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
        if isinstance(validation_split, float) and isinstance(path, sources.Source) and not path.shares_train:
            raise ValueError(
                f"validation_split: training rows of {path.title} do not validate; give a split's name, such as test"
            )

    # What the data is -----------------------------------------------------------------------------------------------

    @property
    def _called(self) -> str:
        """The data set's name in errors: the path as it was given, or a source's title."""
        return self.path if isinstance(self.path, str) else self.path.title

    @property
    def title(self) -> str:
        """The data set's short name, fit for a file's: a source's title, or the last part of the folder or Hub id."""
        name = Path(self._called).name or Path(self._called).resolve().name
        return re.sub(r"[^a-z0-9.-]+", "_", name.lower()).strip("_.") or "data"

    def facts(self) -> dict[str, Any]:
        """What a network must know, without decoding a picture: channels, image_size, and where there are classes or
        texts, num_classes, vocabulary_size and context_length."""
        facts = {"channels": self._shape[0], "image_size": self._shape[1]}
        if self._labels is not None:
            facts["num_classes"] = len(self._labels.values)
        return facts if self._texts is None else facts | self._texts.facts()

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the content: all pixels, and what stands beside them in train and validation.

        The same on every machine and from every source. Needs `prepare_data`.
        """
        digest = hashlib.sha256()
        for split in [split for split in splits.SPLITS if split in self._splits]:
            digest.update(f"{split} {self._read(split).image.shape} {self._read(split).sha256} ".encode())
        for split in ("train", "validation"):  # labels of a test split may be secret
            for key, values in self._arrays(split).items():
                digest.update(key.encode() + np.ascontiguousarray(values).tobytes())
            if self._texts is not None:
                digest.update(self._texts.kept(split, self._read(split).rows).digest())
        return digest.hexdigest()[:16]

    def images(self, split: str) -> np.ndarray:
        """Memory-mapped uint8 [N, C, H, W] of train, validation, test or a further split of the source (held_out): the
        pictures as the model sees them."""
        return self._read(split).image

    def labels(self, split: str) -> np.ndarray:
        """int64 [N], row for row with `images(split)`."""
        if "label" not in (arrays := self._arrays(split)):
            raise ValueError(f"labels: {self._called} has no classes; name a column with --data.columns.label NAME")
        return arrays["label"]

    @property
    def class_names(self) -> list[str]:
        """The K names in the order of the labels; none where there are no classes."""
        return [] if self._labels is None else [str(value) for value in self._labels.values]

    def _arrays(self, split: str) -> dict[str, np.ndarray]:
        """More arrays of N rows that stand in the batch beside the picture."""
        if self._labels is None:
            return {}
        rows = self._read(split).rows  # first: it names a split that is not there
        try:
            return {"label": self._labels.read(split)[rows]}
        except ValueError as error:
            if self._labels.needed:
                raise
            sources.say_once(f"{error}; these batches go without labels")
            return {}

    def _drawn(self, split: str) -> Texts | None:
        """What stands in the batch beside the picture and is one of several."""
        if self._texts is None:
            return None
        return self._texts.tokenized(split, self._read(split).rows, f"{self.title} {split}")

    # Lightning's hooks ----------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Find the data and decode what is not in the cache; safe in several processes at once."""
        for split in self._splits:
            self._read(split)

    def setup(self, stage: str | None = None) -> None:
        """Open the memory maps, and make tokens of the texts with the words that are kept in the trainer's folder."""
        if self._texts is not None and self.trainer is not None:
            self._texts.keep(Path(self.trainer.default_root_dir), write=stage == "fit" and self.trainer.is_global_zero)
        for split in ("test",) if stage == "test" else ("train", "validation"):
            self._read(split)
            self._arrays(split)
            self._drawn(split)

    def begin_at(self, epoch: int, batch: int) -> None:
        """Where the next training begins, for a run that goes on: without the first `batch` batches of `epoch`."""
        self._begin = (epoch, batch)

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
        texts = self._drawn(split)
        rows = Rows({"image": self.images(split), **self._arrays(split)}, texts)
        order = BatchOrder(
            len(rows), self.batch_size, seed, shuffle=shuffle, flip=shuffle and self.flip, draw=texts is not None
        )
        if split == "train":
            order.begin_at(*self._begin)
        return DataLoader(
            rows,
            batch_size=None,  # the sampler gives the whole batch's rows: one fancy index instead of B items to collate
            sampler=order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(seed),  # else each epoch's iterator draws from the global one
        )

    # Source -> one datasets.Dataset per split -----------------------------------------------------------------------

    @cached_property
    def _source(self) -> "Mapping[str, datasets.Dataset]":
        return sources.load(self.path, self.name, self.revision, self.image_size)

    @cached_property
    def _chosen(self) -> "dict[str, tuple[datasets.Dataset, np.ndarray]]":
        """For train, validation and (where there is one) test: a split of the source, and which of its rows; further
        splits join them when they are asked for."""
        return splits.choose(
            self._source,
            called=self._called,
            train=self.train_split,
            validation=self.validation_split,
            test=self.test_split,
            limit=self.limit,
        )

    @cached_property
    def _splits(self) -> "dict[str, datasets.Dataset]":
        """The rows of the chosen splits, pictures still encoded."""
        return {split: splits.rows_of(*chosen) for split, chosen in self._chosen.items()}

    def _split(self, split: str) -> "datasets.Dataset":
        if split in self._splits:
            return self._splits[split]
        if split == "test":
            raise ValueError(
                f"test_split: {self._called} has no split {self.test_split!r} (give --data.test_split NAME)"
            )
        if split not in self._source:
            near = sources.nearest(split, self._source)
            raise ValueError(f"split: {self._called} has no split {split!r}{near} (it has: {', '.join(self._source)})")
        self._chosen[split] = self._source[split], splits.drawn(len(self._source[split]), self.limit)
        return self._splits.setdefault(split, splits.rows_of(*self._chosen[split]))

    def _column(self, key: str, candidates: Sequence[str], kind: str, paths: Sequence[str] = ()) -> str:
        """The column of a key, or one of the `paths` into columns: the mapped one, else the first candidate."""
        names = list(dict.fromkeys([*self._splits["train"].column_names, *paths]))
        return tables.choose(key, self.columns.get(key), candidates, names, kind=kind, called=self._called)

    @cached_property
    def _image_column(self) -> str:
        features = self._splits["train"].features
        pictures = [name for name, feature in features.items() if tables.holds_images(feature)]
        column = self._column("image", pictures, "image")
        if column not in pictures:
            raise ValueError(
                f"columns: {column!r} of {self._called} holds {features[column]}, not pictures or their bytes"
            )
        return column

    @cached_property
    def _labels(self) -> Labels | None:
        """The class column: the mapped one, else the first ClassLabel, if there is one."""
        features = self._splits["train"].features
        typed = tables.classes(features)
        if not typed and "label" not in self.columns:
            return None
        column = self._column("label", typed, "label")
        return Labels(self._splits, column, self._called, needed="label" in self.columns)

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
        headers = decoded.headers(self._encoded("train"), self._image_column)
        if not headers:
            raise ValueError(f"{self._called}: no picture of column {self._image_column!r} can be read")
        sizes = sorted({(header.width, header.height) for header in headers})
        if self.image_size is None and len(sizes) > 1:
            raise ValueError(
                f"image_size: the pictures of {self._called} have several sizes ({sizes[0][0]}x{sizes[0][1]} to"
                f" {sizes[-1][0]}x{sizes[-1][1]}); give one, such as --data.image_size 64"
            )
        channels = self.channels or (1 if all(header.gray for header in headers) else 3)
        return channels, self.image_size or min(sizes[0])

    def _read(self, split: str) -> decoded.Decoded:
        """The decoded split, opened once."""
        if split not in self._opened:
            dataset = self._encoded(split)  # first: it names a split that is not there
            channels, size = self._shape
            column, rows, title = self._image_column, self._chosen[split][1], f"{self.title} {split}"
            missing = {} if self._texts is None else self._texts.missing(split)
            self._opened[split] = decoded.open_or_decode(
                dataset, column, size=size, channels=channels, source_rows=rows, title=title, missing=missing
            )
        return self._opened[split]

