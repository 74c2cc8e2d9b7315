"""Pictures that a table names by their paths lie in the data set's own folder, not anywhere on the disk."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datasets


def checked(loaded: "Mapping[str, datasets.Dataset]", *folders: Path) -> "Mapping[str, datasets.Dataset]":
    """The same splits; ValueError if a row has no bytes of its picture but a path that leads out of all the `folders`.

    A data set of others could show, in the pages of a run, pictures that it has no business with. Links in the folders
    are followed: whoever made them is at home there.
    """
    import datasets
    import pyarrow.compute as pc

    homes = tuple(os.path.join(os.path.abspath(form), "") for folder in folders for form in (folder, folder.resolve()))
    for split, rows in loaded.items():
        for column, feature in rows.features.items():
            if not isinstance(feature, datasets.Image):
                continue
            for part in rows.data.column(column).chunks:
                without = part.filter(pc.is_null(pc.struct_field(part, "bytes")))
                for path in pc.struct_field(without, "path").drop_null().to_pylist():
                    if "://" in path or "\0" in path or not os.path.abspath(path).startswith(homes):
                        raise ValueError(
                            f"path: {folders[0]}, {split}: column {column!r} names a picture that lies elsewhere,"
                            f" {path[:100]!r}; copy it into the folder, or save the data set with `to_parquet`"
                        )
    return loaded
