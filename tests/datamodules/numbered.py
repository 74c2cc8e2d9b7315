"""A data set whose pictures tell their own row."""

from pathlib import Path

import datasets
from PIL import Image
from torch import Tensor

from datamodules.image_classes import ImageClasses
from tests.datamodules.test_images import encoded


def numbered(folder: Path, num_rows: int, size: int = 8, bad: dict[int, bytes] | None = None) -> Path:
    """A Parquet set whose picture i is flat gray of value i % 256 and whose label is i % 2."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [encoded(Image.new("L", (size, size), row % 256)) for row in range(num_rows)]
    for row, data in (bad or {}).items():
        pictures[row] = data
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
    rows = {"image": [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(pictures)]}
    rows["label"] = [row % 2 for row in range(num_rows)]
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


def ready(path: Path | str, **arguments: object) -> ImageClasses:
    data = ImageClasses(str(path), **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


def raw(batch: dict[str, Tensor]) -> list[int]:
    return batch["image"][:, 0, 0, 0].tolist()
