"""Which rows stand in which batch: one batch is one fancy index, and the order is a function of (seed, epoch)."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, SequentialSampler


class Picked(NamedTuple):
    """The rows of a batch, int64 [B]; which of them are mirrored, bool [B]; and a draw in [0, 1) for each, float64 [B],
    that chooses one of the several texts of a row."""

    rows: np.ndarray
    flips: np.ndarray | None = None
    draws: np.ndarray | None = None


class Drawn(Protocol):
    """What rows have several of."""

    def gather(self, rows: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
        """Of each row the one that its draw chooses, as parts of a batch."""


class Rows(Dataset):
    """Arrays of N rows each, and what is drawn beside them; an item is a whole batch, gathered by its rows' numbers."""

    def __init__(self, arrays: dict[str, np.ndarray], drawn: Drawn | None = None) -> None:
        self.arrays = {key: np.asarray(values) for key, values in arrays.items()}
        self.drawn = drawn

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def __getitem__(self, picked: Picked) -> dict[str, Any]:
        rows, flips, draws = picked
        batch: dict[str, Any] = {
            key: torch.from_numpy(values.take(rows, axis=0)) for key, values in self.arrays.items()
        }
        if flips is not None:
            batch["flip"] = torch.from_numpy(flips)
        if self.drawn is not None:
            assert draws is not None
            batch.update(self.drawn.gather(rows, draws))
        return batch


class BatchOrder(SequentialSampler):
    """Which rows stand in which batch, which of them are mirrored, and their draws: a function of (seed, epoch) and
    nothing else.

    Each pass begins the next epoch; `set_epoch` (which Lightning calls) names it. A shuffled order leaves out the
    last, smaller batch, unless it is the only one; one that is not shuffled has the same draws in every epoch of every
    run. (A SequentialSampler by type: any other is replaced by Lightning where it overfits a batch.)
    """

    def __init__(
        self, num_rows: int, batch_size: int, seed: int, shuffle: bool, flip: bool = False, draw: bool = False
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.flip = flip
        self.draw = draw
        self.epoch = 0
        self.begin = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def begin_at(self, epoch: int, batch: int) -> None:
        """The first pass is that of `epoch`, without the `batch` batches before."""
        self.epoch, self.begin = epoch, (epoch, batch)

    def __len__(self) -> int:
        if self.shuffle and self.num_rows >= self.batch_size:
            return self.num_rows // self.batch_size
        return math.ceil(self.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[Picked]:  # type: ignore[override]
        first = self.begin[1] if self.epoch == self.begin[0] else 0
        random = np.random.default_rng([self.seed, self.epoch])
        # A stream of its own: the same draws with and without flips.
        draw = np.random.default_rng([self.seed, self.epoch, 1] if self.shuffle else [0, 0, 1])
        self.epoch += 1  # at the first `next`: DataLoader's worker mode asks for two iterators and uses one
        order = random.permutation(self.num_rows) if self.shuffle else np.arange(self.num_rows)
        flips = random.random(self.num_rows) < 0.5 if self.flip else None
        draws = draw.random(self.num_rows) if self.draw else None
        for start in range(first * self.batch_size, len(self) * self.batch_size, self.batch_size):
            cut = slice(start, start + self.batch_size)
            rows = order[cut]
            yield Picked(rows, None if flips is None else flips[cut], None if draws is None else draws[rows])
