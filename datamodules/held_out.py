"""Classes that are never trained on, and asked about all the same: the data of zero-shot learning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datamodules import columns as tables
from datamodules import sources, splits
from datamodules.labels import Labels

if TYPE_CHECKING:
    import datasets


class HeldOut(sources.Source):
    """A data set whose training rows lack some classes (Socher et al., 2013); the numbers of the classes stay as they were.

    Validation and test have all classes. Where the data has no validation split, the share of its training rows that a run
    on the whole data holds out is held out here too.

    Args:
        whole: The whole data set, as `HuggingFaceData` takes a path; its first ClassLabel column is used.
        unseen: The names of the classes that are left out of the training rows.
    """

    shares_train = False

    def __init__(self, whole: str | sources.Source, unseen: Sequence[str]) -> None:
        self.whole, self.unseen = whole, list(unseen)
        if not self.unseen or len(set(self.unseen)) < len(self.unseen):
            raise ValueError(f"unseen: {self.unseen} must name a class, and none twice; give names such as [cat, truck]")

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"{self._called}_without_{'_'.join(self.unseen)}"

    @property
    def _called(self) -> str:
        return Path(self.whole).name if isinstance(self.whole, str) else self.whole.title

    def load(self, image_size: int | None) -> "Mapping[str, datasets.Dataset]":
        """train without the unseen classes; validation and (where there is one) test with all."""
        source = sources.load(self.whole, image_size=image_size)
        chosen = splits.choose(source, called=self._called, train="train", validation=None, test="test", limit=None)
        whole = {split: dataset.select(rows) for split, (dataset, rows) in chosen.items()}
        typed = tables.classes(whole["train"].features)
        if not typed:
            columns = ", ".join(whole["train"].column_names)
            raise ValueError(f"whole: {self._called} has no ClassLabel column (it has: {columns}); take a data set with one")
        labels = Labels(whole, typed[0], self._called)
        for name in self.unseen:
            if name not in labels.values:
                near = sources.nearest(name, labels.values)
                raise ValueError(f"unseen: {self._called} has no class {name!r}{near} (it has: {', '.join(labels.values)})")
        if len(labels.values) - len(self.unseen) < 2:
            raise ValueError(f"unseen: {self.unseen} leaves fewer than two classes to train on; hold out fewer")
        kept = ~np.isin(labels.read("train"), [labels.values.index(name) for name in self.unseen])
        return {**whole, "train": whole["train"].select(np.flatnonzero(kept))}
