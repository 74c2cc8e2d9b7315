"""Which rows of a source train, validate and test."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from datamodules import sources

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")
SPLIT_SEED = 0  # of the validation share and of `limit`: the same rows in every run, whatever the run's own seed


def choose(
    source: "Mapping[str, datasets.Dataset]",
    *,
    called: str,
    train: str,
    validation: float | str | None,
    test: str,
    limit: int | None,
) -> "dict[str, tuple[datasets.Dataset, np.ndarray]]":
    """For train, validation and (where there is one) test: a split of the source, and which of its rows.

    The arguments are those of `HuggingFaceData`; a split that is named and not there is an error.
    """
    named = {"train": train, "test": test}
    if validation is None:
        validation = next((name for name in ("validation", "valid", "val", "dev") if name in source), 0.1)
    if isinstance(validation, str):
        named["validation"] = validation
    for split, name in named.items():
        if name not in source and split != "test":
            share = "; or give a share of the training split, such as 0.1" if split == "validation" else ""
            raise ValueError(
                f"{split}_split: {called} has no split {name!r}{sources.nearest(name, source)}"
                f" (it has: {', '.join(source)}{share})"
            )
    chosen = {}
    for split, name in named.items():
        if name in source:
            chosen[split] = source[name], drawn(len(source[name]), limit)
    if isinstance(validation, float):
        dataset, rows = chosen["train"]
        held_out = round(validation * len(rows))
        if not 0 < held_out < len(rows):
            raise ValueError(
                f"validation_split: a share of {validation} of {len(rows)} rows leaves no row on one side;"
                " give more rows, or another share, such as --data.validation_split 0.5"
            )
        order = _shuffled(rows)
        chosen["train"] = dataset, np.sort(order[held_out:])
        chosen["validation"] = dataset, np.sort(order[:held_out])
    return {split: chosen[split] for split in SPLITS if split in chosen}


def drawn(num_rows: int, limit: int | None) -> np.ndarray:
    """All rows, or `limit` of them drawn with a fixed seed; ascending."""
    rows = np.arange(num_rows)
    return rows if limit is None or limit >= num_rows else np.sort(_shuffled(rows)[:limit])


def rows_of(dataset: "datasets.Dataset", rows: np.ndarray) -> "datasets.Dataset":
    """The dataset itself where `rows` are all of it."""
    return dataset if len(rows) == len(dataset) else dataset.select(rows)


def _shuffled(rows: np.ndarray) -> np.ndarray:
    return np.random.default_rng(SPLIT_SEED).permutation(rows)
