"""A run of the conditional VAE against the usual one (Lightning, `with_transform`, a default DataLoader) and a bare PyTorch loop.

All three train the network of `cvae_mnist` (width 512, batches of 128, Adam) for 600 steps on 6,400 gray pictures of 28 px. Ours has the
run record and progress, the usual one Lightning's CSV log and bar, and Adam as PyTorch gives it; the bare loop a fused Adam, and
gathers its batches from an array in memory. Timed is the whole fit, the pictures already in the cache of each side.
One process, one thread, interleaved, CPU time, minimum of rounds.

Run alone: python -m tests.benchmarks.bench_cvae_run
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_tensor

from callbacks.training_progress import TrainingProgress
from datamodules.image_classes import ImageClasses
from experiments.record import RunRecord
from lightning_modules.losses.likelihoods import Bernoulli
from lightning_modules.networks.autoencoder import MLPDecoder, MLPEncoder
from lightning_modules.vae import ConditionalVAE
from tests.benchmarks.bench_loader import pictures

BATCH, STEPS, ROUNDS = 128, 600, 3
TARGETS = {"usual": 2.0, "bare": 0.93}


def model() -> ConditionalVAE:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": 1, "image_size": 28, "num_classes": 10, "latent_dim": 10, "width": 512}
    return ConditionalVAE(MLPEncoder(**shape), MLPDecoder(**shape), Bernoulli(),
                          optimizer=lambda p: torch.optim.Adam(p, lr=2e-3, fused=True))


class Usual(LightningModule):
    """The same network and loss, as most would wire them."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = model()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.vae.losses(batch)["loss"]
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def ours(data: ImageClasses, folder: Path) -> None:
    Trainer(max_steps=STEPS, accelerator="cpu", logger=RunRecord(folder, experiment="bench"), log_every_n_steps=20,
            callbacks=[TrainingProgress("bench", quiet=True)], check_val_every_n_epoch=None, num_sanity_val_steps=0, limit_val_batches=0,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False).fit(model(), datamodule=data)


def usual(rows: datasets.Dataset, folder: Path) -> None:
    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"image": [to_tensor(image) * 2 - 1 for image in batch["image"]], "label": batch["label"]}

    loader = DataLoader(rows.with_transform(transform), batch_size=BATCH, shuffle=True, drop_last=True)
    Trainer(max_steps=STEPS, accelerator="cpu", logger=CSVLogger(folder), enable_checkpointing=False,
            enable_model_summary=False).fit(Usual(), loader)


def bare(images: Tensor, labels: Tensor) -> None:
    trained = model().train()
    optimizer: Any = trained.configure_optimizers()
    for _ in range(STEPS):
        rows = torch.randint(len(images), (BATCH,))
        batch: Any = {"image": images[rows].float().div_(127.5).sub_(1), "label": labels[rows]}
        optimizer.zero_grad()
        trained.losses(batch)["loss"].backward()
        optimizer.step()


def measure() -> list[dict[str, Any]]:
    """Two rows: pictures a CPU second of our run, of the other side, and their ratio."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = os.environ.get("PRACTICUM_CACHE")
    control = torch.randn(600, 600)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            os.environ["PRACTICUM_CACHE"] = f"{folder}/cache"
            colour = datasets.load_dataset("parquet", data_files=str(pictures(folder) / "train.parquet"), split="train",
                                           cache_dir=str(folder / "datasets"))
            gray = colour.map(lambda row: {"image": row["image"].convert("L").resize((28, 28))})
            (folder / "gray").mkdir()
            gray.to_parquet(folder / "gray" / "train.parquet")
            data = ImageClasses(str(folder / "gray"), image_size=28, channels=1, batch_size=BATCH, validation_split="train")
            data.prepare_data()
            data.setup("fit")
            images, labels = torch.from_numpy(data.images("train").copy()), torch.from_numpy(data.labels("train"))
            sides: dict[str, Callable[[int], object]] = {
                "control": lambda number: [control @ control for _ in range(40)],
                "ours": lambda number: ours(data, folder / f"ours{number}"),
                "usual": lambda number: usual(gray, folder / f"usual{number}"),
                "bare": lambda number: bare(images, labels),
            }
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(ROUNDS):
                for side, run in sides.items():
                    begin = time.process_time()
                    run(number)
                    seconds[side].append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
        if cache is None:
            os.environ.pop("PRACTICUM_CACHE", None)
        else:
            os.environ["PRACTICUM_CACHE"] = cache
    speed = {side: STEPS * BATCH / min(taken) for side, taken in seconds.items()}
    steady = max(seconds["control"]) <= 1.25 * min(seconds["control"])
    called = {"usual": "Lightning + with_transform + DataLoader", "bare": "a bare loop with fused Adam"}
    return [{"what": f"run of the conditional VAE, pictures a CPU second, against {called[side]}", "ours": speed["ours"],
             "theirs": speed[side], "ratio": speed["ours"] / speed[side], "target": target,
             "holds": speed["ours"] >= target * speed[side] if steady else None} for side, target in TARGETS.items()]


if __name__ == "__main__":
    for row in measure():
        print(row)
