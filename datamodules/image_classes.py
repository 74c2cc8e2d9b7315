"""Pictures with one class each."""

from functools import cached_property
from typing import Any

from datamodules import columns as tables
from datamodules.held_out import HeldOut
from datamodules.hugging_face import HuggingFaceData
from datamodules.labels import Labels


class ImageClasses(HuggingFaceData):
    """Batches of `image` float32 [B, C, H, W] in [-1, 1] and `label` int64 [B] in 0..K-1.

    The arguments are those of `HuggingFaceData`; `columns` may map image and label.
    The label column is the mapped one, else the first ClassLabel, else the column named label, else the only column of
    texts or whole numbers. Texts and numbers become 0..K-1 in sorted order. A missing label is an error.
    """

    def facts(self) -> dict[str, Any]:
        """What a network must know: that of the base, the names of the classes, and which of them have no training image."""
        unseen = {"unseen": self.path.unseen} if isinstance(self.path, HeldOut) else {}
        return {**super().facts(), "class_names": self.class_names, **unseen}

    @cached_property
    def _labels(self) -> Labels:
        features = self._splits["train"].features
        typed = tables.classes(features)
        plain = [name for name, feature in features.items() if tables.is_discrete(feature)]
        named = [name for name in plain if name == "label"]
        column = self._column("label", typed or named or (plain if len(plain) == 1 else []), "label")
        return Labels(self._splits, column, self._called)
