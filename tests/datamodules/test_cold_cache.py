"""Two processes on one cold cache, of `datasets` and of decoded pictures; in half of the rounds one of them is killed while they build."""

import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import datasets
import filelock
import numpy as np
import pytest

from tests.datamodules.numbered import numbered, ready

NUM = 2000  # pictures, nine tenths of them to train on


@pytest.fixture(autouse=True)
def own_caches(monkeypatch):
    """What `use` sets is taken back."""
    for name in ("PRACTICUM_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)


def build(cache: Path, path: Path, barrier: Any, said: Any) -> None:
    """What one process does: it says what it found."""
    use(cache)
    barrier.wait(20)
    data = ready(path)
    said.send((data.fingerprint, data.images("train")[:, 0, 0, 0].tolist(), data.labels("train").tolist()))


def use(cache: Path) -> None:
    os.environ["PRACTICUM_CACHE"], os.environ["HF_DATASETS_CACHE"] = str(cache / "practicum"), str(cache / "datasets")
    datasets.config.HF_DATASETS_CACHE = cache / "datasets"


def one_round(cache: Path, path: Path, kill_after: float | None, victim: int) -> tuple[list, str, float]:
    """What the processes found that lived, what the killed one left behind, and the seconds."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    pairs = [context.Pipe(duplex=False) for _ in range(2)]
    processes = [context.Process(target=build, args=(cache, path, barrier, says)) for _, says in pairs]
    for process in processes:
        process.start()
    barrier.wait(20)
    began = time.monotonic()
    left = "nothing"
    if kill_after is not None:
        time.sleep(kill_after)
        processes[victim].kill()
        processes[victim].join(10)
        parts = [*cache.glob("practicum/*.part"), *cache.glob("datasets/**/*.incomplete")]
        done = [*cache.glob("practicum/*[0-9a-f]/meta.json")]
        left = f"half a {parts[0].suffix[1:]} folder" if parts else "a whole cache" if len(done) == 2 else "nothing"
    living = [number for number in range(2) if kill_after is None or number != victim]
    found = []
    for number in living:
        assert pairs[number][0].poll(60), f"process {number} found nothing within a minute (one was killed after {kill_after} s)"
        found.append(pairs[number][0].recv())
        processes[number].join(20)
        assert processes[number].exitcode == 0
    return found, left, time.monotonic() - began


def rounds(folder: Path, num: int, seed: int) -> dict[str, int]:
    """`num` rounds, every other one with a kill; how often the killed process left what behind."""
    path = folder / "data"
    path.mkdir()
    numbered(path, NUM)
    choose = random.Random(seed)
    expected, _, seconds = one_round(folder / "first", path, None, 0)
    use(folder / "first")
    values = np.array(expected[0][1])
    assert expected[0] == expected[1] and len(values) == NUM * 9 // 10 and (values % 2 == expected[0][2]).all()
    leavings: dict[str, int] = {}
    for number in range(num):
        cache = folder / f"cache-{number}"
        kill_after = choose.uniform(0, 0.9 * seconds) if number % 2 else None
        found, left, took = one_round(cache, path, kill_after, choose.randrange(2))
        seconds = seconds if kill_after else min(seconds, took)
        assert all(one == expected[0] for one in found), f"round {number}, killed after {kill_after}: another data set than alone"
        if kill_after is not None:
            leavings[left] = leavings.get(left, 0) + 1
        assert not [*cache.glob("practicum/*.part")], f"round {number}: a half folder stays"
        for lock in cache.glob("**/*.lock"):
            with filelock.FileLock(lock, timeout=0):
                pass
        use(cache)
        began = time.monotonic()
        assert ready(path).fingerprint == expected[0][0]
        assert time.monotonic() - began < max(3.0, seconds), f"round {number}: the cache is built again"
    print(f"{num} rounds of two processes on a cold cache, {num // 2} with a kill (which left behind: {leavings}): every survivor right")
    return leavings


@pytest.fixture(autouse=True)
def restored(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that `use` changes comes back: the monkeypatch of `own_cache` has noted it."""


def test_two_processes_on_a_cold_cache_one_killed(tmp_path: Path) -> None:
    rounds(tmp_path, 4, seed=0)


@pytest.mark.soak
def test_twenty_rounds_of_two_processes_on_a_cold_cache(tmp_path: Path) -> None:
    leavings = rounds(tmp_path, 20, seed=1)
    assert len(leavings) > 1, f"the kills all came at one time: {leavings}"
