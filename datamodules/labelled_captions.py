"""Captions made of class names, so that any labelled data set trains a model of pictures and texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules import columns as tables
from datamodules import sources

if TYPE_CHECKING:
    import datasets


class LabelledCaptions(sources.Source):
    """A labelled data set with one more column, `caption`: the name of the row's class in each of the templates.

    A row without a label (-1, as in a secret test split) has no caption.

    Args:
        labelled: The data set, as `HuggingFaceData` takes a path; its first ClassLabel column is used.
        templates: Texts with a {} for the name of the class, in which _ becomes a space.
        class_names: Other words for the classes, in the order of the labels.
    """

    def __init__(
        self,
        labelled: str | sources.Source,
        templates: Sequence[str] = ("a photo of a {}",),
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.labelled, self.templates = labelled, list(templates)
        self.class_names = None if class_names is None else list(class_names)
        if not self.templates:
            raise ValueError("templates: none is given; give for instance 'a photo of a {}', or '{}' for the bare name")
        for template in self.templates:
            if "{}" not in template:
                raise ValueError(f"templates: {template!r} has no {{}} for the name of the class")

    @property
    def title(self) -> str:  # type: ignore[override]
        return Path(self.labelled).name if isinstance(self.labelled, str) else self.labelled.title

    @property
    def shares_train(self) -> bool:  # type: ignore[override]
        return isinstance(self.labelled, str) or self.labelled.shares_train

    def load(self, image_size: int | None) -> "Mapping[str, datasets.Dataset]":
        """The splits of the data set, row for row, with captions."""
        source = dict(sources.load(self.labelled, image_size=image_size))
        features = next(iter(source.values())).features
        typed = tables.classes(features)
        if not typed or "caption" in features:
            trouble = "a column named caption" if typed else "no ClassLabel column"
            raise ValueError(f"labelled: {self.title} has {trouble} (it has: {', '.join(features)}); take another data set")
        classes = features[typed[0]].names
        names = [name.replace("_", " ") for name in classes] if self.class_names is None else self.class_names
        if len(names) != len(classes):
            raise ValueError(f"class_names: {len(names)} names for the {len(classes)} classes of {self.title}")
        captions = [[template.replace("{}", name) for template in self.templates] for name in names]
        return {split: _captioned(rows, typed[0], captions) for split, rows in source.items()}


def _captioned(rows: "datasets.Dataset", column: str, captions: list[list[str]]) -> "datasets.Dataset":
    """The rows with the captions of their class."""
    import datasets
    import pyarrow as pa

    label = rows.select_columns([column]).with_format("arrow")[:][column].combine_chunks().fill_null(-1).to_numpy()
    known = pa.array([*captions, None], pa.list_(pa.string()))  # the last for rows without a label
    said = datasets.Dataset(pa.table({"caption": known.take(pa.array(label % len(known)))}))
    return datasets.concatenate_datasets([rows, said], axis=1)
