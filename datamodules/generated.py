"""Real pictures to train on, generated ones, or both: what generated data is worth is measured on real data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules import columns as tables
from datamodules import sources, splits

if TYPE_CHECKING:
    import datasets

REAL = "real"  # in `train`: the real training split


class WithGenerated(sources.Source):
    """A real data set whose training rows are replaced by generated ones, or joined by them (Ravuri and Vinyals, 2019).

    Validation and test are real always. Where the real data has no validation split, the share of its training rows that a
    run on the real data holds out is held out here too: the real rows are those that a generator trained on.

    Args:
        real: The real data set, as `HuggingFaceData` takes a path; its first picture column and first ClassLabel are used.
        train: What to train on: the word real, folders written by `practicum sample RUN --num N --out FOLDER`, or both.
        copies: How many rows are taken from each folder, as a multiple of the real training rows; none is taken twice.
    """

    shares_train = False

    def __init__(self, real: str | sources.Source, train: Sequence[str] = (REAL,), copies: float = 1.0) -> None:
        self.real, self.train, self.copies = real, list(train), copies
        if not self.train or len(set(self.train)) < len(self.train):
            raise ValueError(f"train: {self.train} must name something, and nothing twice; give real, a folder, or both")
        if copies <= 0:
            raise ValueError(f"copies: {copies} is not above 0; to train on real rows alone give train: [real]")

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"{self._called}_with_generated"

    @property
    def _called(self) -> str:
        return Path(self.real).name if isinstance(self.real, str) else self.real.title

    def load(self, image_size: int | None) -> "Mapping[str, datasets.Dataset]":
        """train: what `train` names, in its order; validation and (where there is one) test: real rows."""
        import datasets

        source = sources.load(self.real, image_size=image_size)
        chosen = splits.choose(source, called=self._called, train="train", validation=None, test="test", limit=None)
        real = {split: dataset.select(rows) for split, (dataset, rows) in chosen.items()}
        columns = _columns(real["train"], self._called)
        real = {split: dataset.select_columns(columns) for split, dataset in real.items()}
        num = round(self.copies * len(real["train"]))
        parts = []
        for what in self.train:
            if what == REAL:
                parts.append(real["train"])
                continue
            rows = sources.load(what)["train"]
            found = _columns(rows, what)
            names, expected = rows.features[found[1]].names, real["train"].features[columns[1]].names
            if names != expected:
                raise ValueError(
                    f"train: the classes of {what} are {names} and those of {self._called} {expected};"
                    " draw from a run on that data set"
                )
            if len(rows) < num:
                raise ValueError(
                    f"copies: {self.copies} of {len(real['train'])} real rows are {num}, and {what} holds {len(rows)};"
                    f" draw more (practicum sample RUN --num {num} --out FOLDER), or take fewer copies"
                )
            taken = rows.select(range(num)).select_columns(found).rename_columns(dict(zip(found, columns, strict=True)))
            parts.append(taken.cast(real["train"].features))
        return {**real, "train": datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]}


def _columns(rows: "datasets.Dataset", called: str) -> list[str]:
    """The first picture column and the first class column."""
    pictures = [name for name, feature in rows.features.items() if tables.holds_images(feature)]
    classes = tables.classes(rows.features)
    if not pictures or not classes:
        raise ValueError(
            f"real, train: {called} has no {'ClassLabel' if pictures else 'picture'} column (it has: "
            f"{', '.join(rows.column_names)}); take a data set with both"
        )
    return [pictures[0], classes[0]]
