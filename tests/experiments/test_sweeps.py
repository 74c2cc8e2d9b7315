"""Sweep files, and sweeps over real worker processes."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.runs import load_runs
from experiments.sweeps import Attempt, Sweep, duration, earlier_trials, key_of, main, recipe, run_sweep, run_trials
from experiments.workers import Slots

# An experiment that does what it is told: works, raises, or takes its process with it.
MODEL = """
import os, signal
import torch
from lightning_modules.base import Model

class Obedient(Model):
    def __init__(self, how: str = "work", lr: float = 0.1) -> None:
        super().__init__(lambda parameters: torch.optim.SGD(parameters, lr))
        self.how, self.weight = how, torch.nn.Parameter(torch.ones(()))

    def losses(self, batch):
        if self.how == "raise":
            print("my key is", os.environ["HF_TOKEN"])
            raise RuntimeError("told to fail with " + os.environ["HF_TOKEN"])
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"loss": (self.weight * batch["image"]).square().mean()}
"""
EXPERIMENT = """
data: digits
model: {class_path: obedient.Obedient}
trainer: {max_steps: 3, limit_val_batches: 1, val_check_interval: 3, log_every_n_steps: 1, accelerator: cpu}
"""
HUB_KEY = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "obedient.py").write_text(MODEL)
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    monkeypatch.setenv("PRACTICUM_ALLOW_MODULES", "tests,obedient")
    monkeypatch.setenv("HF_TOKEN", HUB_KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))
    return tmp_path


def write(folder: Path, **content: object) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "experiment": str(folder / "tiny.yaml"), "method": "grid", **content}, sort_keys=False))
    return file


def test_trials_end_each_in_its_own_way(folder, capfd):
    file = write(folder, parameters={"seed_everything": {"value": 0}, "model.how": {"values": ["raise", "work", "die"]}})
    out, attempts = run_trials(Sweep.read(file), workers=2)
    assert out == folder / "runs" / "mine"
    assert [attempt.state for attempt in attempts] == ["failed", "finished", "failed"]
    assert attempts[0].reason == "RuntimeError: told to fail with ***"
    assert attempts[2].reason == "its worker process died (out of memory, or killed)"
    log = (out / "logs" / "trial-00.log").read_text()
    assert "my key is ***" in log and "Traceback" in log
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == "3 trials on 2 workers" and sum(line.startswith("[3/3] ") and line.endswith("done") for line in lines) == 1
    runs = load_runs([out / attempt.folder for attempt in attempts if attempt.state == "finished"])
    assert [run.config["model"]["init_args"]["how"] for run in runs] == ["work"]
    assert all(run.last("train/loss") is not None and run.seed == 0 for run in runs)
    assert HUB_KEY.encode() not in b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())

    write(folder, parameters={"seed_everything": {"value": 0}, "model.how": {"values": ["work"]}})
    began = time.monotonic()
    assert run_sweep(file) == [out / attempts[1].folder]  # the same trial again: kept, and no worker begins
    assert time.monotonic() - began < 3
    assert "kept, finished earlier" in capfd.readouterr().out
    (out / "trials.jsonl").write_text((out / "trials.jsonl").read_text() + '{"number": 9, "para')  # killed while writing
    asked = Attempt(0, attempts[1].parameters, recipe(attempts[1].parameters))
    assert key_of(asked) in earlier_trials(out)
    (folder / "tiny.yaml").write_text(EXPERIMENT + "seed_everything: 5\n")
    asked = Attempt(0, attempts[1].parameters, recipe(attempts[1].parameters))
    assert key_of(asked) not in earlier_trials(out)  # an edited experiment is run again


def test_the_cores_are_shared_unless_the_threads_are_given(folder, monkeypatch):
    for given, threads in (("", 4), ("3", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with Slots(2, 8, folder) as slots:
            assert slots.threads == threads


def test_a_worker_that_died_is_replaced(folder):
    (folder / "logs").mkdir()
    with Slots(2, 2, folder) as slots:
        other, doomed = slots.free
        future = slots.submit([str(folder / "tiny.yaml")], folder / "run", "trial-00.log")
        (process,) = doomed._processes.values()
        process.kill()
        assert slots.result(future).reason == "its worker process died (out of memory, or killed)"
        assert len(slots.free) == 2 and other in slots.free and doomed not in slots.free


def processes_below(pid: int) -> set[int]:
    table = [line.split() for line in subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines()]
    found, grown = {pid}, True
    while grown:
        more = {int(child) for child, parent in table if int(parent) in found} - found
        found, grown = found | more, bool(more)
    return found - {pid}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_sweep(folder, how):
    file = write(folder, parameters={"seed_everything": {"values": [0, 1]}, "trainer.max_steps": {"value": 1000000}})
    command = [sys.executable, "-m", "experiments", "sweep", str(file), "--workers", "1"]
    sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    sign = "tiny-*/metrics.jsonl" if how == signal.SIGINT else "logs/workers.log"  # in a training step; in the imports
    while not list((folder / "runs" / "mine").glob(sign)):
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    workers = processes_below(sweep.pid)
    assert workers
    sweep.send_signal(how)
    assert sweep.wait(timeout=30) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "Traceback" not in str(sweep.stderr and sweep.stderr.read())
        (run,) = load_runs(folder / "runs")
        assert run.state == "interrupted"
    deadline = time.monotonic() + 10
    while any(running(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)])
def test_a_sweep_that_was_stopped_goes_on(folder, how):
    """Finished trials stay, the one that was stopped goes on, none runs twice, no lock is left."""
    steps, often = {"value": 80}, {"value": 0}
    file = write(folder, parameters={"seed_everything": {"values": [0, 1]}, "trainer.max_steps": steps, "checkpoints.every_minutes": often})
    command = [sys.executable, "-m", "experiments", "sweep", str(file), "--workers", "1"]
    sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len({path.parent for path in (folder / "runs" / "mine").glob("tiny-*/checkpoints/step-*.ckpt")}) < 2:
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    sweep.send_signal(how)
    assert sweep.wait(timeout=10) == (143 if how == signal.SIGTERM else -signal.SIGKILL)
    runs = load_runs(folder / "runs")
    assert [run.state for run in runs] == ["finished", "interrupted" if how == signal.SIGTERM else "running"]
    begun = runs[0].folder.joinpath("status.json").read_text()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "kept, finished earlier" in again.stdout and f"goes on with {runs[1].folder.name}" in again.stdout
    runs = load_runs(folder / "runs")
    assert [run.state for run in runs] == ["finished", "finished"]
    assert [[step for step, _ in run.scalars["train/loss"]] for run in runs] == [[*range(80)]] * 2
    assert runs[0].folder.joinpath("status.json").read_text() == begun and len(runs[1].status["resumed"]) == 1


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ask(sweep: Sweep) -> list[dict[str, Any]]:
    study, asked = sweep.study(), []
    for _ in range(sweep.num_trials):
        trial = study.ask()
        asked.append({key: parameter.suggest(trial, key) for key, parameter in sweep.parameters.items()})
    return asked


def test_a_grid_is_the_product_in_the_order_written(folder):
    values: dict[str, list[Any]] = {
        "model.schedule": ["Linear", {"class_path": "Cosine"}, None],
        "x": [True, 0.5],
        "seed_everything": [0, 1, 2],
    }
    file = write(folder, parameters={key: {"values": choices} for key, choices in values.items()})
    asked = [{key: value for key, value in trial.items() if key != "experiment"} for trial in ask(Sweep.read(file))]
    assert asked == [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def test_random_and_bayes_are_reproducible_and_in_range(folder):
    ranges = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "width": {"min": 8, "max": 64},
        "dropout": {"min": 0.0, "max": 0.5},
        "how": {"values": ["a", "b"]},
    }
    for method in ("random", "bayes"):
        file = write(folder, method=method, run_cap=40, metric={"name": "val/loss"}, parameters=ranges)
        asked = ask(Sweep.read(file))
        assert asked == ask(Sweep.read(file)) and len({str(trial) for trial in asked}) == 40
        assert all(1e-4 <= trial["lr"] <= 1e-1 and 0 <= trial["dropout"] <= 0.5 for trial in asked)
        assert all(type(trial["width"]) is int and 8 <= trial["width"] <= 64 for trial in asked)
        assert 5 < sum(trial["lr"] < 3.16e-3 for trial in asked) < 35  # half of a logarithmic range


def test_a_wandb_file_with_its_own_keys(folder, capsys):
    parameters = {"seed_everything": {"values": [0, 1]}, "model.flag": {"value": False}, "model.betas": {"value": [0.9, -0.5]}}
    file = write(
        folder, program="train.py", command=["python"], project="p", metric={"name": "val/x", "goal": "maximize"}, parameters=parameters
    )
    assert main([str(file), "--dry-run"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"practicum fit {folder}/tiny.yaml --seed_everything=0 --model.flag=false --model.betas=[0.9, -0.5]"
    assert "--seed_everything=1" in second and Sweep.read(file).minimize is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"methd": "grid"}, "unknown key 'methd'; nearest: method"),
        ({"method": "gird"}, "method 'gird' does not exist; nearest: grid"),
        ({"parameters": {}}, "`parameters` is missing or empty"),
        ({"parameters": {"a": {"values": []}}}, r"a.values is \[\]; give a list with at least one value"),
        ({"parameters": {"a": {"valeus": [1]}}}, "unknown key 'a.valeus'; nearest: values, value"),
        ({"parameters": {"a": 3}}, "a is 3; give a mapping with value, values"),
        ({"parameters": {"a": {"min": 2, "max": 1}}}, "give value, values, or numbers min < max"),
        ({"parameters": {"a": {"min": 0, "max": 1, "distribution": "unifrom"}}}, "a.distribution 'unifrom' .* nearest: uniform"),
        ({"parameters": {"a": {"min": 0, "max": 1, "distribution": "log_uniform_values"}}}, "a.min is 0; a logarithmic range"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, "method grid needs values for a"),
        ({"parameters": {"model": {"parameters": {"a": {"value": 1}}}}}, "parameter model is nested; write flat dotted keys"),
        ({"method": "random", "parameters": {"a": {"min": 0, "max": 1}}}, "add `run_cap: 20`"),
        ({"method": "bayes", "run_cap": 3, "parameters": {"a": {"min": 0, "max": 1}}}, "method bayes needs a metric"),
        ({"run_cap": 0, "parameters": {"a": {"value": 1}}}, "run_cap 0 is not a number of trials"),
        ({"metric": {"name": "x", "goal": "minimise"}, "parameters": {"a": {"value": 1}}}, "goal 'minimise' .* nearest: minimize"),
        ({"metric": "val/loss", "parameters": {"a": {"value": 1}}}, "metric is 'val/loss'; give a mapping with name, goal"),
        ({"experiment": "classifer", "parameters": {"a": {"value": 1}}}, "experiment 'classifer' does not exist; nearest: classifier"),
        ({"data": "digist", "parameters": {"a": {"value": 1}}}, "data set 'digist' does not exist; nearest: digits"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(folder, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        Sweep.read(write(folder, **content))
    assert "\n" not in str(caught.value)


def test_mistakes_of_the_command_line(folder):
    with pytest.raises(ValueError, match="sweep 'noise_schedule_digits' does not exist; nearest: noise_schedules_digits"):
        main(["noise_schedule_digits"])
    with pytest.raises(ValueError, match="--workers 0: give at least 1"):
        main([str(write(folder)), "--workers", "0"])
    (folder / "sweep.yaml").write_text("experiment: classifier\nparameters: {}\n")
    with pytest.raises(ValueError, match="method None does not exist"):
        main([str(folder / "sweep.yaml")])


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 42, 200, 7500)] == ["0 s", "42 s", "3 min 20 s", "2 h 05 min"]
