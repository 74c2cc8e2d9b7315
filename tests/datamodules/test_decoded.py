"""The cache: what it is keyed by, refused pictures, processes at once, killed builders, small disks."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datamodules.numbered import numbered, ready
from tests.datamodules.test_images import encoded

RANDOM = np.random.default_rng(1)


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


def test_the_pictures_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    pictures = ready(numbered(tmp_path, 20)).images("train")
    assert isinstance(pictures, np.memmap) and not pictures.flags.writeable and pictures.dtype == np.uint8


def test_a_few_bad_pictures_are_left_out_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbered(tmp_path, 201, bad={17: b"nonsense"})
    data = ready(tmp_path, validation_split="train", limit=200)
    assert len(data.images("train")) == 199 and 17 not in data.images("train")[:, 0, 0, 0]
    assert (data.labels("train") == data.images("train")[:, 0, 0, 0] % 2).all()  # the labels went along
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert said[0] == f"warning: {data.title} train: 1 of 200 rows refused: row 17 (17.png): not a picture" + (
        " (PNG, JPEG, WebP, GIF, BMP, TIFF and the like)"
    )


def test_more_than_one_per_cent_of_bad_pictures_is_an_error(tmp_path: Path, own_cache: Path) -> None:
    numbered(tmp_path, 220, bad={3: b"", 5: b"x", 150: b"y"})
    with pytest.raises(
        ValueError, match=r"3 of 198 rows refused: row 3 .*row 5 .*row 150 .*more than 1%"
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
    with pytest.raises(ValueError, match=r"MB of decoded pictures do not fit into .*set PRACTICUM_CACHE"):
        ready(tmp_path, image_size=1_000_000)
