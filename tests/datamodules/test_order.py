"""The order of batches and the flips, alone, in worker processes and under a Trainer."""

from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from datamodules.hugging_face import HuggingFaceData
from datamodules.image_classes import ImageClasses
from datamodules.order import BatchOrder
from tests.datamodules.numbered import numbered, raw, ready
from tests.datamodules.test_images import encoded


def test_the_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    def epochs(seed: int, num: int) -> list[list[int]]:
        torch.manual_seed(seed)
        loader = ready(tmp_path, batch_size=32).train_dataloader()
        torch.rand(seed + 3)  # what else is drawn makes no difference
        return [[value for batch in loader for value in raw(batch)] for _ in range(num)]

    numbered(tmp_path, 200)
    first = epochs(0, 3)
    assert first == epochs(0, 3)
    assert first[0] != first[1] != first[2] and epochs(1, 1)[0] != first[0]
    assert all(len(set(epoch)) == 160 for epoch in first)  # 180 rows in whole batches of 32, none twice
    order = BatchOrder(180, 32, seed=0, shuffle=True)
    order.set_epoch(2)
    rows = ready(tmp_path).images("train")[:, 0, 0, 0]
    assert [int(rows[row]) for picked in order for row in picked.rows] == first[2]
    assert [picked.rows[:3].tolist() for picked in BatchOrder(100, 50, seed=5, shuffle=True)] == [
        [29, 49, 91],
        [18, 20, 65],
    ]


def test_one_small_batch_is_not_left_out(tmp_path: Path) -> None:
    data = ready(numbered(tmp_path, 20), batch_size=64)
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [18]
    assert [len(batch["label"]) for batch in ready(tmp_path, batch_size=8).val_dataloader()] == [2]
    assert len(data.val_dataloader()) == 1


def test_worker_processes_give_the_same_batches(tmp_path: Path) -> None:
    numbered(tmp_path, 60)
    torch.manual_seed(0)
    alone, shared = (ready(tmp_path, batch_size=8, num_workers=num).train_dataloader() for num in (0, 2))
    for _ in range(3):
        assert [raw(batch) for batch in alone] == [raw(batch) for batch in shared]


def test_flips_are_per_picture_half_of_them_and_only_in_training(tmp_path: Path) -> None:
    left = np.zeros((8, 8), np.uint8)
    left[:, :4] = 255
    numbered(tmp_path, 400, bad={row: encoded(Image.fromarray(left)) for row in range(400)})
    torch.manual_seed(0)
    data = ready(tmp_path, batch_size=360, flip=True)
    loader = data.train_dataloader()
    epochs = [data.on_after_batch_transfer(next(iter(loader)), 0) for _ in range(2)]
    mirrored = [(batch["image"][:, 0, 0, 0] == -1) for batch in epochs]
    assert set(epochs[0]) == {"image", "label"} and (epochs[0]["image"].mean((1, 2, 3)) == 0).all()
    assert all(140 < int(mask.sum()) < 220 for mask in mirrored) and not torch.equal(*mirrored)
    unflipped = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    assert (unflipped["image"][:, 0, 0, 0] == 1).all()
    assert "flip" not in next(iter(ready(tmp_path).train_dataloader()))


class Recorder(lightning.LightningModule):
    """Notes what it sees; trains one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []
        self.validated: list[int] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        assert batch["image"].dtype == torch.float32
        self.seen.append(((batch["image"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist())
        return self.weight * batch["image"].mean()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.validated += ((batch["image"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class DrawsInValidation(Callback):
    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        torch.rand(7)


def fitted(data: HuggingFaceData, callbacks: list[Callback], overfit_batches: int = 0) -> Recorder:
    lightning.seed_everything(3, verbose=False)
    module = Recorder()
    trainer = lightning.Trainer(
        max_epochs=3, overfit_batches=overfit_batches, accelerator="cpu",
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*logging interval.*")
def test_a_trainer_sees_the_order_of_seed_and_epoch(tmp_path: Path) -> None:
    numbered(tmp_path, 100)
    module = fitted(ImageClasses(str(tmp_path), batch_size=30), [])
    assert module.seen == fitted(ImageClasses(str(tmp_path), batch_size=30), [DrawsInValidation()]).seen
    rows = ready(tmp_path).images("train")[:, 0, 0, 0]
    order = BatchOrder(90, 30, seed=3, shuffle=True)
    assert module.seen == [rows[picked.rows].tolist() for _ in range(3) for picked in order]  # epochs 0, 1, 2
    assert module.validated[-10:] == ready(tmp_path).images("validation")[:, 0, 0, 0].tolist()


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*logging interval.*")
def test_overfitting_sees_the_same_whole_batch_again(tmp_path: Path) -> None:
    seen = fitted(ImageClasses(str(numbered(tmp_path, 100)), batch_size=30, flip=True), [], overfit_batches=1).seen
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2] and len(seen[0]) == 30


def test_draws_belong_to_rows_and_are_fixed_where_nothing_is_shuffled() -> None:
    def draws(order: BatchOrder) -> dict[int, float]:
        picked = list(order)
        assert all(batch.draws is not None and len(batch.draws) == len(batch.rows) for batch in picked)
        return {int(row): draw for batch in picked for row, draw in zip(batch.rows, batch.draws, strict=True)}

    train = BatchOrder(60, 20, seed=3, shuffle=True, draw=True)
    for epoch in range(3):
        assert draws(train) == dict(enumerate(np.random.default_rng([3, epoch, 1]).random(60)))
    assert draws(BatchOrder(60, 20, seed=3, shuffle=True, flip=True, draw=True)) == dict(
        enumerate(np.random.default_rng([3, 0, 1]).random(60))
    )
    fixed = BatchOrder(60, 20, seed=3, shuffle=False, draw=True)
    assert draws(fixed) == draws(fixed) == draws(BatchOrder(60, 7, seed=4, shuffle=False, draw=True))
    assert next(iter(BatchOrder(60, 20, seed=3, shuffle=True))).draws is None
