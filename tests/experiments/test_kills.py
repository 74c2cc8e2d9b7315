"""Runs that are killed at random moments, again and again, end as if nobody had touched them."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from callbacks import checkpoints
from experiments import training
from experiments.catalogue import entries
from experiments.runs import is_run
from tests.experiments.resumption import differences, final_state, fit

OFTEN = ["--checkpoints.every_minutes", "0.002", "--data.num_workers"]


def models() -> dict[str, str]:
    """One experiment for each kind of model, by its class; of those that learn from digits or scenes, which are always here."""
    found: dict[str, str] = {}
    for entry in entries("experiment"):
        content = yaml.safe_load(entry.path.read_text())
        if content.get("data", "digits").startswith(("digits", "scenes")) or entry.name.endswith("mnist"):
            found.setdefault(content["model"]["class_path"].rpartition(".")[2], entry.name)
    return found


def train_in_a_child(name: str, folder: Path, workers: int) -> int:
    """A child process that begins a run, or goes on with it. It is forked: the libraries are imported once for all of them."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if is_run(folder / "run"):
            training.resume(folder / "run", [*OFTEN, str(workers)], quiet=True)
        else:
            fit(name, folder, *data_for(name), *OFTEN, str(workers))
        code = 0
    finally:
        os._exit(code)


def data_for(name: str) -> list[str]:
    return ["--data", "digits"] if name.endswith("mnist") else []


def killed_again_and_again(name: str, folder: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kills children of a run until `kills` have died, beginning again with a new run when one has ended; returns how many runs ended,
    and how many times a child found no checkpoint that loads, though there was one. Every ended run must be equal to the unbroken one."""
    chance = random.Random(seed)
    expected = final_state(fit(name, folder / "unbroken", *data_for(name)))
    ended = unloadable = died = 0
    begun = 0.0
    while died < kills or not ended:
        home = folder / f"killed-{ended}"
        home.mkdir(exist_ok=True)
        kept = list((home / "run" / "checkpoints").glob("step-*.ckpt"))
        if kept and checkpoints.newest_valid(home / "run" / "checkpoints") is None:
            unloadable += 1
        start = time.monotonic()
        pid = train_in_a_child(name, home, workers=died % 3 if died % 5 == 0 else 0)
        limit = chance.uniform(0.05, 1.2 * begun) if begun and died < kills else 1000.0
        while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() - start < limit:
            time.sleep(0.005)
        if done == (0, 0):
            os.kill(pid, signal.SIGKILL)
            done = os.waitpid(pid, 0)
        if os.WIFSIGNALED(done[1]):
            died += 1
            continue
        assert os.waitstatus_to_exitcode(done[1]) == 0, (home / "log").read_text()[-3000:]
        begun = begun or time.monotonic() - start
        assert differences(expected, final_state(home / "run")) == [], f"{name}, run {ended} after {died} kills"
        ended += 1
    return ended, unloadable


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))


def test_a_classifier_that_is_killed(tmp_path):
    ended, unloadable = killed_again_and_again("classifier", tmp_path, kills=3, seed=0)
    assert ended and not unloadable


@pytest.mark.soak
@pytest.mark.parametrize("name", models().values())
def test_fifty_kills(name, tmp_path, capsys):
    ended, unloadable = killed_again_and_again(name, tmp_path, kills=50, seed=1)
    assert not unloadable
    with capsys.disabled():
        print(f"\n{name}: 50 kills, {ended} runs ended as the unbroken one, 0 different, 0 checkpoints that did not load")
