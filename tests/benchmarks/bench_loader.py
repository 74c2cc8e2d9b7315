"""The loader against the usual one: `with_transform` (Pillow, ToTensor, [-1, 1]) behind a default DataLoader, on 32 px PNGs.

Both sides shuffle the same pictures, give float32 batches of 128 in [-1, 1] with labels, and run in this process on one
thread; the floats are made on both sides.

Run alone: python -m tests.benchmarks.bench_loader
"""

import os
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_tensor

from datamodules.image_classes import ImageClasses

NUM_ROWS, BATCH, ROUNDS, TARGET = 6400, 128, 5, 20.0


def pictures(folder: Path) -> Path:
    """Smooth colour pictures of 32 px (noise would make Pillow's side slower than photos do), written as Parquet."""
    random = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"image": [], "label": []}
    for row in range(NUM_ROWS):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        buffer = BytesIO()
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "PNG")
        rows["image"].append({"bytes": buffer.getvalue(), "path": None})
        rows["label"].append(row % 10)
    names = [str(label) for label in range(10)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


def measure() -> list[dict[str, Any]]:
    """Rows {"what", "ours", "theirs", "ratio", "target", "holds"}: CPU microseconds a picture, minimum of interleaved rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = os.environ.get("PRACTICUM_CACHE")
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PRACTICUM_CACHE"] = f"{folder}/cache"
            return [_measure(pictures(Path(folder)))]
    finally:
        torch.set_num_threads(threads)
        if cache is None:
            os.environ.pop("PRACTICUM_CACHE", None)
        else:
            os.environ["PRACTICUM_CACHE"] = cache


def _measure(folder: Path) -> dict[str, Any]:
    data = ImageClasses(str(folder), batch_size=BATCH, validation_split="train")
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()

    def transform(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"image": [to_tensor(image) * 2 - 1 for image in rows["image"]], "label": rows["label"]}

    source = datasets.load_dataset(
        "parquet", data_files=str(folder / "train.parquet"), split="train", cache_dir=str(folder / "datasets")
    )
    usual = DataLoader(source.with_transform(transform), batch_size=BATCH, shuffle=True, drop_last=True)
    control = np.random.default_rng(1).random((400, 400))

    def ours() -> float:
        return sum(data.on_after_batch_transfer(batch, 0)["image"][0, 0, 0, 0].item() for batch in loader)

    def theirs() -> float:
        return sum(batch["image"][0, 0, 0, 0].item() for batch in usual)

    def steady() -> float:
        return float(np.sort(np.tile(control, (4, 4)), axis=0)[0, 0])  # memory and arithmetic, no library threads

    first, second = next(iter(data.val_dataloader())), next(iter(DataLoader(source.with_transform(transform), BATCH)))
    same = torch.allclose(data.on_after_batch_transfer(first, 0)["image"], second["image"], atol=1e-6)

    sides: dict[str, Callable[[], float]] = {"control": steady, "ours": ours, "theirs": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            begin = time.process_time()
            run()
            seconds[name].append(time.process_time() - begin)
    per_picture = {name: min(taken) / (NUM_ROWS // BATCH * BATCH) * 1e6 for name, taken in seconds.items()}
    ratio = per_picture["theirs"] / per_picture["ours"]
    drifted = max(seconds["control"]) > 1.25 * min(seconds["control"])
    return {
        "what": "loader, CPU microseconds a 32 px PNG, against with_transform + DataLoader",
        "ours": per_picture["ours"],
        "theirs": per_picture["theirs"],
        "ratio": ratio,
        "target": TARGET,
        "holds": None if drifted else same and ratio >= TARGET,  # None: void, the machine was not steady
    }


if __name__ == "__main__":
    for row in measure():
        print(row)
