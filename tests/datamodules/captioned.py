"""A caption set whose pictures and texts tell their own row."""

from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from datamodules.hugging_face import HuggingFaceData
from tests.datamodules.test_images import encoded

WORDINGS = ("picture {}", "a picture of {}", "number {} here")


def captioned(
    folder: Path,
    num_rows: int,
    captions: dict[int, Any] | None = None,
    *,
    name: str = "caption",
    bad: dict[int, bytes] | None = None,
    classes: bool = False,
) -> Path:
    """A Parquet set whose picture i is flat gray of value i and whose row says so in three wordings; `captions` and
    `bad` replace the texts and the bytes of some rows."""
    folder.mkdir(parents=True, exist_ok=True)
    texts: list[Any] = [[wording.format(row) for wording in WORDINGS] for row in range(num_rows)]
    pictures = [encoded(Image.new("L", (8, 8), row % 256)) for row in range(num_rows)]
    for row, text in (captions or {}).items():
        texts[row] = text
    for row, data in (bad or {}).items():
        pictures[row] = data
    features = datasets.Features({"image": datasets.Image(), name: datasets.List(datasets.Value("string"))})
    rows = {"image": [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(pictures)], name: texts}
    if classes:
        features["parity"] = datasets.ClassLabel(names=["even", "odd"])
        rows["parity"] = [row % 2 for row in range(num_rows)]
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


def ready(data: HuggingFaceData) -> Any:
    data.prepare_data()
    data.setup("fit")
    return data


def numbers(texts: list[str]) -> list[int]:
    """The row that each text speaks of."""
    return [int(next(word for word in text.split() if word.isdigit())) for text in texts]


def epochs(loader: Any, num: int) -> list[dict[int, str]]:
    """Row -> text of some epochs; each picture must stand beside its own text."""
    found = []
    for _ in range(num):
        seen = {}
        for batch in loader:
            assert batch["image"][:, 0, 0, 0].tolist() == numbers(batch["text"])
            seen.update(zip(numbers(batch["text"]), batch["text"], strict=True))
        found.append(seen)
    return found
