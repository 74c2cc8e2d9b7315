"""Pictures with one class each."""

from functools import cached_property
from typing import Any

import numpy as np

from datamodules.hugging_face import HuggingFaceData


class ImageClasses(HuggingFaceData):
    """Batches of `image` float32 [B, C, H, W] in [-1, 1] and `label` int64 [B] in 0..K-1.

    The arguments are those of `HuggingFaceData`; `columns` may map image and label.
    The label column is the mapped one, else the first ClassLabel, else the column named label, else the only column of
    texts or whole numbers. Texts and numbers become 0..K-1 in sorted order. A missing label is an error.
    """

    keys = ("image", "label")

    def facts(self) -> dict[str, Any]:
        """What a network must know, without decoding a picture: channels, image_size and num_classes."""
        return {**super().facts(), "num_classes": len(self.class_names)}

    def labels(self, split: str) -> np.ndarray:
        """int64 [N] of train, validation or test, row for row with `images(split)`."""
        return self._arrays(split)["label"]

    @property
    def class_names(self) -> list[str]:
        """The K names in the order of the labels."""
        return [str(value) for value in self._classes]

    @cached_property
    def _label_column(self) -> str:
        features = self._splits["train"].features
        import datasets  # two seconds, needed only now that there is a data set

        typed = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
        plain = [name for name, feature in features.items() if _is_discrete(feature)]
        named = [name for name in plain if name == "label"]
        column = self._column("label", typed or named or (plain if len(plain) == 1 else []), "label")
        if column not in typed + plain:
            raise ValueError(f"columns: {column!r} of {self._called} holds {features[column]}, not classes")
        return column

    @cached_property
    def _classes(self) -> list[Any]:
        """The K values that the label column can take: names of a ClassLabel, else those found in any split, sorted."""
        feature = self._splits["train"].features[self._label_column]
        import datasets

        if isinstance(feature, datasets.ClassLabel):
            return list(feature.names)
        found: set[Any] = set()
        for dataset in self._splits.values():
            found.update(dataset.unique(self._label_column))
        return sorted(found - {None})

    def _arrays(self, split: str) -> dict[str, np.ndarray]:
        import datasets

        dataset = self._split(split).select_columns([self._label_column])
        values = dataset.with_format("arrow")[:][self._label_column].to_pylist()
        if isinstance(dataset.features[self._label_column], datasets.ClassLabel):
            ids = [-1 if value is None else value for value in values]
        else:
            known = {value: number for number, value in enumerate(self._classes)}
            ids = [-1 if value is None else known[value] for value in values]
        label = np.array(ids, dtype=np.int64)
        wrong = np.flatnonzero((label < 0) | (label >= len(self._classes)))
        if len(wrong):
            raise ValueError(
                f"labels: {len(wrong)} of {len(label)} rows of the {split} split have no label in"
                f" 0..{len(self._classes) - 1} (row {wrong[0]}: {values[wrong[0]]}); mend column"
                f" {self._label_column!r} of {self._called}, or choose another column or split"
            )
        return {"label": label[self._read(split).rows]}


def _is_discrete(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Value) and (
        feature.dtype in ("string", "large_string", "bool") or feature.dtype.startswith(("int", "uint"))
    )
