"""The columns of a data set nobody here prepared: which hold pictures, classes or texts, and the texts themselves.

A path names a column, or a field of one: `sentences.raw` is the field `raw` of each struct in the column `sentences`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datamodules import sources

if TYPE_CHECKING:
    import datasets
    import pyarrow

TEXT, BYTES = ("string", "large_string"), ("binary", "large_binary")  # types of a Value


class Strings(NamedTuple):
    """The texts of a column: `texts` [L] trimmed, null where there is none; `rows` int64 [L], the row of each,
    ascending; and whether a row is a list of them."""

    texts: "pyarrow.LargeStringArray"
    rows: np.ndarray
    listed: bool


def choose(
    key: str, mapped: str | None, candidates: Sequence[str], names: Sequence[str], *, kind: str, called: str
) -> str:
    """The column of a key: the mapped one, which must be among `names`, else the first candidate."""
    if mapped is not None and mapped not in names:
        raise ValueError(
            f"columns: {called} has no column {mapped!r}{sources.nearest(mapped, names)} (columns: {', '.join(names)})"
        )
    if mapped is not None:
        return mapped
    if not candidates:
        raise ValueError(
            f"columns: {called} has no {kind} column (columns: {', '.join(names)});"
            f" name it with --data.columns '{{{key}: NAME}}'"
        )
    return candidates[0]


def holds_images(feature: Any) -> bool:
    """Whether a column's feature is a picture: typed so, or the bytes of one as other writers of Parquet leave it."""
    import datasets  # two seconds, needed only now that there is a data set

    if isinstance(feature, datasets.Value):
        return feature.dtype in BYTES
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def classes(features: Mapping[str, Any]) -> list[str]:
    """The columns typed as classes."""
    import datasets

    return [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]


def is_discrete(feature: Any) -> bool:
    """Whether a column holds texts, whole numbers or truth values."""
    import datasets

    return isinstance(feature, datasets.Value) and (
        feature.dtype in (*TEXT, "bool") or feature.dtype.startswith(("int", "uint"))
    )


def text_paths(features: Mapping[str, Any]) -> list[str]:
    """Every path whose rows hold a text or one list of texts."""
    import datasets

    def walk(path: str, feature: Any, listed: bool) -> Iterator[str]:
        if isinstance(feature, datasets.Value) and feature.dtype in TEXT:
            yield path
        elif isinstance(feature, (datasets.List, datasets.LargeList)) and not listed:
            yield from walk(path, feature.feature, True)
        elif isinstance(feature, dict) and not holds_images(feature):
            for name, field in feature.items():
                yield from walk(f"{path}.{name}", field, listed)

    return [path for name, feature in features.items() for path in walk(name, feature, False)]


def named(paths: Sequence[str], words: Iterable[str]) -> list[str]:
    """The paths whose column is named by one of the words, in the words' order; in any case, singular before plural.

    Of a column of structs, its path counts only if it has but one.
    """
    columns = [path.split(".")[0] for path in paths]
    sure = [path for path, column in zip(paths, columns, strict=True) if columns.count(column) == 1]
    found = []
    for word in words:
        same = [path for path in sure if path.split(".")[0].lower() in (word, f"{word}s")]
        found += sorted(same, key=lambda path: len(path.split(".")[0]))
    return found


def checked(path: str, paths: Sequence[str], called: str) -> str:
    """The path, if its rows hold texts."""
    if path not in paths:
        raise ValueError(f"columns: {path!r} of {called} holds no texts (texts: {', '.join(paths) or 'none'})")
    return path


def read_texts(dataset: "datasets.Dataset", path: str) -> Strings:
    """All texts of a path of `text_paths`."""
    import pyarrow
    import pyarrow.compute as compute

    column, *fields = [path] if path in dataset.column_names else path.split(".")
    texts, rows, listed, start = [pyarrow.array([], pyarrow.large_string())], [np.zeros(0, np.int64)], False, 0
    for array in dataset.select_columns([column]).with_format("arrow")[:][column].chunks:
        row, left = np.arange(start, start + len(array)), list(fields)
        start += len(array)
        while not pyarrow.types.is_string(array.type) and not pyarrow.types.is_large_string(array.type):
            if pyarrow.types.is_struct(array.type):
                array = compute.struct_field(array, left.pop(0))
            else:
                row, array, listed = row[compute.list_parent_indices(array)], compute.list_flatten(array), True
        trimmed = compute.utf8_trim_whitespace(array.cast(pyarrow.large_string()))
        texts.append(compute.if_else(compute.equal(trimmed, ""), None, trimmed))
        rows.append(row)
    return Strings(pyarrow.concat_arrays(texts), np.concatenate(rows), listed)
