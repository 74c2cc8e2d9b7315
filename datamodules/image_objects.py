"""Pictures of several objects, each with its classes and its place."""

from functools import cached_property
from typing import Any

import numpy as np
import torch

from datamodules.batch import Batch
from datamodules.hugging_face import HuggingFaceData


class ImageObjects(HuggingFaceData):
    """Batches of `image` float32 [B, C, H, W] in [-1, 1], `attributes` int64 [B, K, A] (-1 where there is no object),
    `centre` [B, K, 2] and `box` [B, K, 4], both float32 in 0..1 of the side; `label` where there is a class column.

    The arguments are those of `HuggingFaceData`; `columns` may map image, objects and label. The column of objects (by default
    the one of that name) holds a list of structs for each picture: every ClassLabel among their fields is an attribute;
    `box` is x0 y0 x1 y1 and `centre` x y (the middle of the box where there is none). K is the most objects of a picture.
    The pictures must be square: places are fractions of the side.
    """

    keys = ("image", "objects", "label")

    def facts(self) -> dict[str, Any]:
        """What a network must know: that of the base, and the names of each attribute's classes."""
        return {**super().facts(), "attributes": self._attributes}

    def objects(self, split: str) -> list[list[dict[str, Any]]]:
        """The objects of each picture of a split, with words for classes, x and y of the middle, and `box` (x0 y0 x1 y1) where
        there are boxes; row for row with `images`."""
        return [
            [
                {
                    **{name: words[thing[name]] for name, words in self._attributes.items()},
                    **dict(zip("xy", _centre(thing))),
                    **({"box": thing["box"]} if thing.get("box") else {}),
                }
                for thing in things
            ]
            for things in self._things(split)
        ]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """As the base, and the places of mirrored pictures are mirrored too."""
        if "flip" in batch:
            flip = batch["flip"][:, None]
            x, y = batch["centre"].unbind(-1)
            x0, y0, x1, y1 = batch["box"].unbind(-1)
            batch["centre"] = torch.stack([torch.where(flip, 1 - x, x), y], -1)
            batch["box"] = torch.stack([torch.where(flip, 1 - x1, x0), y0, torch.where(flip, 1 - x0, x1), y1], -1)
        return super().on_after_batch_transfer(batch, dataloader_idx)

    @cached_property
    def _objects_column(self) -> str:
        named = [name for name in self._splits["train"].column_names if name == "objects"]
        return self._column("objects", named, "objects")

    @cached_property
    def _attributes(self) -> dict[str, list[str]]:
        import datasets

        feature: Any = self._splits["train"].features[self._objects_column]
        fields = getattr(feature, "feature", None)
        if not isinstance(fields, dict) or not {"box", "centre"} & set(fields):
            raise ValueError(
                f"columns: {self._objects_column!r} of {self._called} is no list of structs with a box or a centre; map one"
                " with --data.columns.objects NAME"
            )
        return {name: list(field.names) for name, field in fields.items() if isinstance(field, datasets.ClassLabel)}

    @cached_property
    def _most(self) -> int:
        return max(1, *(len(things) for split in self._splits for things in self._things(split)))

    def _things(self, split: str) -> list[list[dict[str, Any]]]:
        column = self._objects_column
        return self._split(split).select_columns([column]).with_format("arrow")[:][column].to_pylist()

    def _arrays(self, split: str) -> dict[str, np.ndarray]:
        things = self._things(split)
        attributes = np.full((len(things), self._most, len(self._attributes)), -1, dtype=np.int64)
        centre = np.zeros((len(things), self._most, 2), dtype=np.float32)
        box = np.zeros((len(things), self._most, 4), dtype=np.float32)
        for row, objects in enumerate(things):
            for number, thing in enumerate(objects):
                attributes[row, number] = [thing[name] for name in self._attributes]
                centre[row, number] = _centre(thing)
                box[row, number] = thing.get("box") or (0, 0, 0, 0)
        rows = self._read(split).rows
        places = {"attributes": attributes[rows], "centre": centre[rows], "box": box[rows]}
        return {**super()._arrays(split), **places}


def _centre(thing: dict[str, Any]) -> tuple[float, float]:
    if thing.get("centre"):
        return tuple(thing["centre"])
    x0, y0, x1, y1 = thing["box"]
    return (x0 + x1) / 2, (y0 + y1) / 2
