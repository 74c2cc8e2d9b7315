"""The cache, the order of batches, the flips and the splits."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from datamodules.hugging_face import BatchOrder, HuggingFaceData
from datamodules.image_classes import ImageClasses
from tests.datamodules.test_images import encoded

RANDOM = np.random.default_rng(1)


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


def test_a_batch_keeps_the_contract(tmp_path: Path) -> None:
    data = ready(numbered(tmp_path, 200), batch_size=16)
    assert data.facts() == {"channels": 1, "image_size": 8, "num_classes": 2}
    assert data.title == tmp_path.name.lower()
    wire = next(iter(data.train_dataloader()))
    assert wire["image"].dtype == torch.uint8  # a quarter of the bytes on the way to the device
    batch = data.on_after_batch_transfer(dict(wire), 0)
    assert set(batch) == {"image", "label"}
    assert batch["image"].shape == (16, 1, 8, 8) and batch["image"].dtype == torch.float32
    assert batch["label"].dtype == torch.int64 and (batch["label"] == wire["image"][:, 0, 0, 0] % 2).all()
    assert torch.equal(batch["image"], wire["image"].float() / 127.5 - 1)
    ends = data.on_after_batch_transfer({"image": torch.tensor([[[[0, 255]]]], dtype=torch.uint8)}, 0)["image"]
    assert ends.ravel().tolist() == [-1, 1]


def test_train_and_held_out_rows_are_disjoint_whole_and_the_same_for_every_seed(tmp_path: Path) -> None:
    numbered(tmp_path, 200)
    torch.manual_seed(1)
    first = ready(tmp_path, validation_split=0.25)
    torch.manual_seed(2)
    second = ready(tmp_path, validation_split=0.25)
    train, held_out = (first.images(split)[:, 0, 0, 0] for split in ("train", "validation"))
    assert len(train) == 150 and len(held_out) == 50
    assert sorted([*train, *held_out]) == list(range(200))
    assert (second.images("validation")[:, 0, 0, 0] == held_out).all()
    assert (first.labels("validation") == held_out % 2).all()
    assert held_out.min() < 20 and held_out.max() > 180  # spread over the whole set, which may be sorted by class
    limited = ready(tmp_path, limit=50, validation_split="train").images("train")[:, 0, 0, 0]
    assert limited.min() < 20 and limited.max() > 180


def test_existing_splits_are_taken_and_test_rows_never_train(tmp_path: Path) -> None:
    numbered(tmp_path / "a", 30)
    os.rename(tmp_path / "a" / "train.parquet", tmp_path / "dev.parquet")
    numbered(tmp_path, 40)
    numbered(tmp_path / "a", 20)
    os.rename(tmp_path / "a" / "train.parquet", tmp_path / "test.parquet")
    data = ready(tmp_path)
    assert [len(data.images(split)) for split in ("train", "validation", "test")] == [40, 30, 20]
    assert len(ready(tmp_path, validation_split="test").images("validation")) == 20  # only when asked for
    assert [len(ready(tmp_path, limit=7).images(split)) for split in ("train", "validation", "test")] == [7, 7, 7]
    assert len(list(data.test_dataloader())) == 1


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    numbered(tmp_path, 10)
    with pytest.raises(
        ValueError, match=r"train_split: .* has no split 'trian', did you mean 'train'\? \(it has: train\)"
    ):
        ImageClasses(str(tmp_path), train_split="trian").facts()
    with pytest.raises(ValueError, match=r"validation_split: .* has no split 'valid' \(it has: train; or give a share"):
        ImageClasses(str(tmp_path), validation_split="valid").facts()
    with pytest.raises(ValueError, match=r"has no split 'test' \(give --data.test_split"):
        ready(tmp_path).test_dataloader()
    with pytest.raises(ValueError, match=r"a share of 0.01 of 10 rows"):
        ImageClasses(str(tmp_path), validation_split=0.01).facts()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": {"lable": "x"}}, "columns: unknown key 'lable', did you mean 'label'\\? \\(keys: image, label\\)"),
        ({"channels": 2}, "channels: 2 is not one of 1, 3, 4"),
        ({"image_size": 0}, "image_size: 0 is not a positive whole number"),
        ({"batch_size": -1}, "batch_size: -1"),
        ({"limit": 0}, "limit: 0"),
        ({"validation_split": 1.5}, "validation_split: 1.5 is not a share between 0 and 1"),
    ],
)
def test_a_wrong_argument_is_named_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageClasses("digits", **arguments)


def test_the_cache_is_keyed_by_data_and_transform(tmp_path: Path, own_cache: Path) -> None:
    numbered(tmp_path, 20)
    ready(tmp_path)
    assert len(list(own_cache.glob("*/meta.json"))) == 2  # train and validation
    ready(tmp_path)
    ready(tmp_path, batch_size=3, flip=True)  # neither changes a pixel
    assert len(list(own_cache.glob("*/meta.json"))) == 2
    ready(tmp_path, image_size=16)
    ready(tmp_path, channels=3)
    ready(tmp_path, limit=10)
    assert len(list(own_cache.glob("*/meta.json"))) == 8
    time.sleep(0.01)
    numbered(tmp_path, 22)
    assert len(ready(tmp_path).images("train")) == 20 and len(list(own_cache.glob("*/meta.json"))) == 10
    assert not list(own_cache.glob("*.part"))


def test_the_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    one, two = ready(numbered(tmp_path / "one", 20)), ready(numbered(tmp_path / "two", 20))
    assert one.fingerprint == two.fingerprint
    assert ready(tmp_path / "one", image_size=9).fingerprint != one.fingerprint
    assert ready(numbered(tmp_path / "three", 21)).fingerprint != one.fingerprint
    assert ready("digits").fingerprint == "bc1c92e50ed4e21a"


def test_facts_decode_nothing(tmp_path: Path, own_cache: Path) -> None:
    data = ImageClasses(str(numbered(tmp_path, 20)))
    assert data.facts() == {"channels": 1, "image_size": 8, "num_classes": 2}
    assert not own_cache.exists()


def test_the_pictures_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    pictures = ready(numbered(tmp_path, 20)).images("train")
    assert isinstance(pictures, np.memmap) and not pictures.flags.writeable and pictures.dtype == np.uint8


def test_a_few_bad_pictures_are_left_out_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbered(tmp_path, 201, bad={17: b"nonsense"})
    data = ready(tmp_path, validation_split="train", limit=200)
    assert len(data.images("train")) == 199 and 17 not in data.images("train")[:, 0, 0, 0]
    assert (data.labels("train") == data.images("train")[:, 0, 0, 0] % 2).all()  # the labels went along
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert said[0] == f"warning: {data.title} train: 1 of 200 pictures refused: row 17 (17.png): not a picture" + (
        " (PNG, JPEG, WebP, GIF, BMP, TIFF and the like)"
    )


def test_more_than_one_per_cent_of_bad_pictures_is_an_error(tmp_path: Path, own_cache: Path) -> None:
    numbered(tmp_path, 220, bad={3: b"", 5: b"x", 150: b"y"})
    with pytest.raises(
        ValueError, match=r"3 of 198 pictures refused: row 3 .*row 5 .*row 150 .*more than 1%"
    ) as caught:
        ready(tmp_path)
    assert "\n" not in str(caught.value) and not list(own_cache.glob("*.part"))


def in_processes(num: int, work: Callable[..., None], *arguments: object) -> list[multiprocessing.Process]:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=arguments) for _ in range(num)]
    for process in processes:
        process.start()
    return processes


def build_and_check(path: Path, barrier: object) -> None:
    barrier.wait(10)
    data = ready(path)
    assert len(data.images("train")) == 1350 and data.fingerprint


def test_processes_that_find_the_same_cold_cache_build_it_once(tmp_path: Path, own_cache: Path) -> None:
    numbered(tmp_path, 1500)
    barrier = multiprocessing.get_context("fork").Barrier(3)
    processes = in_processes(3, build_and_check, tmp_path, barrier)
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(own_cache.glob("*/meta.json"))) == 2 and not list(own_cache.glob("*.part"))


def test_a_killed_builder_leaves_no_lock_and_no_half(tmp_path: Path, own_cache: Path) -> None:
    noise = [encoded(Image.fromarray(RANDOM.integers(0, 256, (512, 512), dtype=np.uint8))) for _ in range(4)]
    numbered(tmp_path, 120, bad={row: noise[row % 4] for row in range(120)})
    (process,) = in_processes(1, ready, tmp_path)
    deadline = time.monotonic() + 20
    while not list(own_cache.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(10)
    assert list(own_cache.glob("*.part")) and not list(own_cache.glob("*[0-9a-f]/meta.json"))
    began = time.monotonic()
    assert len(ready(tmp_path).images("train")) == 108
    assert time.monotonic() - began < 20 and not list(own_cache.glob("*.part"))


def test_a_shortened_file_is_built_again(tmp_path: Path, own_cache: Path) -> None:
    numbered(tmp_path, 20)
    ready(tmp_path)
    for file in own_cache.glob("*/images.uint8"):
        os.truncate(file, 100)
    assert len(ready(tmp_path).images("train")) == 18
    meta = json.loads(next(own_cache.glob("*train*/meta.json")).read_text())
    assert meta["shape"] == [18, 1, 8, 8]


def test_too_small_a_disk_is_said_before_it_is_full(tmp_path: Path) -> None:
    numbered(tmp_path, 100)
    with pytest.raises(ValueError, match=r"GB of decoded pictures do not fit into .*set PRACTICUM_CACHE"):
        ready(tmp_path, image_size=1_000_000)


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
    assert [int(rows[row]) for batch, _ in order for row in batch] == first[2]
    assert [batch[:3].tolist() for batch, _ in BatchOrder(100, 50, seed=5, shuffle=True)] == [
        [29, 49, 91],
        [18, 20, 65],
    ]


def test_one_small_batch_is_not_left_out(tmp_path: Path) -> None:
    data = ready(numbered(tmp_path, 20), batch_size=64)
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [18]
    assert [len(batch["label"]) for batch in ready(tmp_path, batch_size=8).val_dataloader()] == [2]
    assert len(data.val_dataloader()) == 1


def test_loaders_never_move_the_global_generator(tmp_path: Path) -> None:
    data = ready(numbered(tmp_path, 50), flip=True)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            data.on_after_batch_transfer(batch, 0)
    assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()


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
    assert module.seen == [rows[batch].tolist() for _ in range(3) for batch, _ in order]  # epochs 0, 1, 2
    assert module.validated[-10:] == ready(tmp_path).images("validation")[:, 0, 0, 0].tolist()


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*logging interval.*")
def test_overfitting_sees_the_same_whole_batch_again(tmp_path: Path) -> None:
    seen = fitted(ImageClasses(str(numbered(tmp_path, 100)), batch_size=30, flip=True), [], overfit_batches=1).seen
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2] and len(seen[0]) == 30
