"""The class column of a data set."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules import columns as tables

if TYPE_CHECKING:
    import datasets


class Labels:
    """The values that a column takes, and each row's as a number 0..K-1: of a ClassLabel as it says, else sorted.

    `needed`: whether a split without labels is an error.
    """

    def __init__(
        self, splits: "Mapping[str, datasets.Dataset]", column: str, called: str, needed: bool = True
    ) -> None:
        feature = splits["train"].features[column]
        if column not in tables.classes(splits["train"].features) and not tables.is_discrete(feature):
            raise ValueError(f"columns: {column!r} of {called} holds {feature}, not classes")
        self.splits = splits
        self.column = column
        self.called = called
        self.needed = needed

    @cached_property
    def values(self) -> list[Any]:
        """The K values: names of a ClassLabel, else those found in any split, sorted."""
        if names := self._typed:
            return names
        found: set[Any] = set()
        for dataset in self.splits.values():
            found.update(dataset.unique(self.column))
        return sorted(found - {None})

    def read(self, split: str) -> np.ndarray:
        """int64 [N] of a split; a label that is missing or out of range is an error that names its row."""
        rows = self.splits[split].select_columns([self.column]).with_format("arrow")[:]
        values = rows[self.column].to_pylist()
        if self._typed:
            ids = [-1 if value is None else value for value in values]
        else:
            known = {value: number for number, value in enumerate(self.values)}
            ids = [-1 if value is None else known[value] for value in values]
        label = np.array(ids, dtype=np.int64)
        wrong = np.flatnonzero((label < 0) | (label >= len(self.values)))
        if len(wrong):
            raise ValueError(
                f"labels: {len(wrong)} of {len(label)} rows of the {split} split have no label in"
                f" 0..{len(self.values) - 1} (row {wrong[0]}: {values[wrong[0]]}); mend column"
                f" {self.column!r} of {self.called}, or choose another column or split"
            )
        return label

    @property
    def _typed(self) -> list[str]:
        import datasets  # two seconds, needed only now that there is a data set

        feature = self.splits["train"].features[self.column]
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else []
