"""A Hub that refuses, is silent, answers 503, sends half a file or lacks a revision: the cache if it is there, else the remedy, soon."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest

from datamodules import sources
from tests.datamodules.hub import COMMIT, Hub
from tests.datamodules.test_sources import small_set

OFFLINE_FAULTS = [("refusing", "info", "does not answer"), ("silent", "info", "does not answer"), ("silent", "file", "does not answer"),
                  ("503", "info", "answers with error 503"), ("503", "file", "answers with error 503")]
LOAD = """
import json, os, sys, time
import datasets
from datamodules import sources
began = time.monotonic()
try:
    rows = len(sources.load("someone/flowers", revision=sys.argv[1] if len(sys.argv) > 1 else None)["train"])
    said = None
except ValueError as error:
    rows, said = None, str(error)
print(json.dumps([rows, said, time.monotonic() - began]))
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a data set on the Hub."""
    (tmp_path / "files").mkdir()
    small_set(60).to_parquet(tmp_path / "files" / "train-00000-of-00001.parquet")
    (tmp_path / "files" / "README.md").write_text("# flowers\n")
    return tmp_path / "files"


def fill_cache(folder: Path) -> None:
    """Puts a data set into the cache, as a download of someone/flowers leaves it."""
    datasets.load_dataset(str(folder))
    built = next(path for path in datasets.config.HF_DATASETS_CACHE.glob("*/*/*/*") if path.is_dir())
    cached = datasets.config.HF_DATASETS_CACHE / "someone___flowers" / "default" / "0.0.0" / COMMIT
    cached.parent.mkdir(parents=True)
    built.rename(cached)
    for file in cached.glob("*.arrow"):
        file.rename(file.with_name(f"flowers-{file.name.split('-', 1)[1]}"))


@pytest.mark.parametrize(("fault", "since", "words"), OFFLINE_FAULTS)
def test_a_failing_hub_is_the_cache_or_a_remedy(fault, since, words, files, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    sources.say_once.cache_clear()
    with Hub("someone/flowers", files, fault, since) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        began = time.monotonic()
        with pytest.raises(ValueError, match=f"'someone/flowers' is not in the cache and the Hub {words}; connect, or give") as caught:
            sources.load("someone/flowers")
        assert time.monotonic() - began < 3 and "\n" not in str(caught.value)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        fill_cache(files)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        began = time.monotonic()
        assert len(sources.load("someone/flowers")["train"]) == 60
        assert time.monotonic() - began < 3
        assert f"someone/flowers: read from the cache, as the Hub {words}" in capsys.readouterr().err


def test_another_revision_than_the_cached_one_is_refused_without_the_hub(files, monkeypatch):
    fill_cache(files)  # `datasets` takes the newest of the cache for any revision
    assert len(sources.load("someone/flowers", revision=COMMIT)["train"]) == 60
    with pytest.raises(ValueError, match=f"revision: 'v2' of 'someone/flowers' is not the one in the cache \\({COMMIT}\\)"):
        sources.load("someone/flowers", revision="v2")
    reference = Path(os.environ["HF_HOME"]) / "hub" / "datasets--someone--flowers" / "refs" / "v2"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)  # as a download of this tag has left it
    assert len(sources.load("someone/flowers", revision="v2")["train"]) == 60


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def test_an_unknown_revision_is_said_at_once_in_cache_or_not(files, monkeypatch):
    fill_cache(files)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with Hub("someone/flowers", files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        began = time.monotonic()
        with pytest.raises(ValueError, match=r"revision: 'someone/flowers' has no branch, tag or commit 'v3' on the Hub"):
            sources.load("someone/flowers", revision="v3")
        assert time.monotonic() - began < 3


def test_the_library_of_the_hub_sleeps_little(monkeypatch):
    slept: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(sources.time, "sleep", slept.append)
    monkeypatch.setattr(sources.time, "monotonic", lambda: clock[0])
    import huggingface_hub.utils._http as module

    with sources._little_patience():
        module.time.sleep(sources.HUB_PATIENCE)
        with pytest.raises(ConnectionError):
            module.time.sleep(2)
        clock[0] += 11  # a long download, and another failure
        module.time.sleep(sources.HUB_PATIENCE)
        assert module.time.monotonic() == 11
    assert slept == [sources.HUB_PATIENCE] * 2 and module.time is time


def load(hub: Hub, home: Path, *revision: str) -> tuple[int | None, str | None, float]:
    """Loads in a process of its own, as the library reads the Hub's address once."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "PRACTICUM_DATA"):
        environment.pop(name, None)
    process = subprocess.run([sys.executable, "-c", LOAD, *revision], env=environment, capture_output=True, text=True, timeout=120,
                             cwd=Path(__file__).parents[2])
    assert process.returncode == 0, process.stderr
    return tuple(json.loads(process.stdout.splitlines()[-1]))


@pytest.mark.soak
def test_downloads_that_are_cut_short(files, tmp_path):
    with Hub("someone/flowers", files, "truncated", "file") as hub:
        rows, said, seconds = load(hub, tmp_path / "home")
    assert rows is None and "is not in the cache and its download failed" in said and "--data.path" in said, said
    assert seconds < 3 + 2, said  # beside the import of what reads Parquet
    print(f"Hub truncates, nothing cached: the remedy in {seconds:.1f} s")
    with Hub("someone/flowers", files) as hub:
        rows, said, seconds = load(hub, tmp_path / "home")
        assert (rows, said) == (60, None)
        assert load(hub, tmp_path / "home", COMMIT)[0] == 60
        rows, said, _ = load(hub, tmp_path / "home", "v3")
        assert rows is None and "has no branch, tag or commit 'v3'" in said
    print(f"Hub healthy: {seconds:.1f} s")
    (files / "train-00000-of-00001.parquet").write_bytes((files / "train-00000-of-00001.parquet").read_bytes() + b" ")
    for fault, since in (("truncated", "file"), ("503", "file"), ("silent", "info"), ("refusing", "info")):
        with Hub("someone/flowers", files, fault, since) as hub:
            rows, said, seconds = load(hub, tmp_path / "home")
        assert rows == 60, said
        print(f"Hub {fault}: from the cache in {seconds:.1f} s")
