"""Which rows stand in which batch: one batch is one fancy index, and the order is a function of (seed, epoch)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler


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
