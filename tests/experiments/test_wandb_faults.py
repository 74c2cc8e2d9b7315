"""W&B's host refuses, is silent or slow, answers 500 or 429, or dies: training goes on, the record is whole, the run ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.wandb_mode import PATIENCE, finish, settle_wandb_mode
from tests.experiments.wandb_host import FAULTS, KEY, STAGES, Host

ROWS, EVERY = 16, 20  # values logged, and steps between two, as in configs/defaults.yaml


def train(folder: str, milliseconds: float) -> dict[str, Any]:
    """Steps of a matrix product, before, while and after a run is logged to a run folder and to W&B; what it all took."""
    from experiments.record import RunRecord, WandbRecord

    torch.set_num_threads(1)
    left = torch.randn(256, 256)
    began = time.process_time()
    for _ in range(20):
        left @ left
    products = max(1, round(milliseconds / 1e3 / ((time.process_time() - began) / 20)))

    def steps(loggers: list, first: int = 0) -> tuple[float, float]:
        """CPU seconds of `EVERY` steps, at the end of which a value is logged, and the wall seconds of that."""
        began = time.process_time()
        for _ in range(EVERY * products):
            left @ left
        clock = time.monotonic()
        for logger in loggers:
            logger.log_metrics({"train/loss": 1 / (first + 1)}, first)
        return time.process_time() - began, time.monotonic() - clock

    without = [steps([])[0] for _ in range(ROWS)]
    mode, line = settle_wandb_mode()
    loggers = [RunRecord(folder, experiment="e"), WandbRecord(folder, experiment="e")]
    begun = time.monotonic()
    for logger in loggers:
        logger.log_config({"model": {"width": 8}})
    said = {"mode": mode, "line": line, "begin": time.monotonic() - begun}
    during = [steps(loggers, first) for first in range(ROWS)]
    loggers[0].finalize("success")
    ending = time.monotonic()
    finish()
    said |= {"longest": max(wall for _, wall in during), "finish": time.monotonic() - ending}
    without += [steps([])[0] for _ in range(ROWS)]
    return said | {"ratio": min(cpu for cpu, _ in during) / min(without), "ended": time.monotonic()}


def check(said: dict[str, Any], stderr: str, folder: Path, host: Host, fault: str | None, since: str) -> None:
    """All that must hold of a run; one line of figures."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(ROWS)), "the record is whole"
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert said["begin"] < 20 and said["longest"] < 0.5 and said["finish"] + said.get("exit", 0) < 25, said
    assert "Traceback" not in stderr and KEY not in stderr, stderr
    if fault is None or (fault == "slow" and said["mode"] == "online"):
        assert [row["train/loss"] for row in host.rows] == [1 / (step + 1) for step in range(ROWS)], "W&B has every row"
        assert "W&B" not in stderr
    elif since == "viewer":
        assert said["mode"] == "offline" and host.url in said["line"]
    elif since == "run":
        assert f"W&B: offline, {host.url} failed to begin a run; `wandb sync`" in stderr
    else:
        assert said["mode"] == "online" and f"W&B: {host.url} did not take everything within" in stderr
    if fault is not None:
        assert list((folder / "wandb").glob("*run-*/*.wandb")), "what `wandb sync` sends"
    print(f"W&B {fault or 'healthy'} from `{since}` on: {said['mode']}, begun in {said['begin']:.1f} s, longest log "
          f"{1e3 * said['longest']:.0f} ms, step x{said['ratio']:.3f}, ended in {said['finish'] + said.get('exit', 0):.1f} s")


@pytest.mark.parametrize(("fault", "since"), [(None, "viewer"), ("500", "run"), ("refusing", "stream")])
def test_a_run_outlives_its_host(fault, since, tmp_path, monkeypatch, capsys):
    import wandb

    wandb.teardown()  # of another test: it keeps its host
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # restored afterwards, though the code under test sets it
        monkeypatch.delenv(name)
    for name in PATIENCE:
        monkeypatch.setitem(PATIENCE, name, 3.0)
    with Host(fault, since) as host:
        monkeypatch.setenv("WANDB_BASE_URL", host.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
        said = train(str(tmp_path / "run"), milliseconds=1)
        wandb.teardown()
        check(said, capsys.readouterr().err, tmp_path / "run", host, fault, since)


@pytest.mark.soak
@pytest.mark.parametrize("since", STAGES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_at_every_stage(fault, since, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")} | {"OMP_NUM_THREADS": "1"}
    program = f"import json; from tests.experiments.test_wandb_faults import train; print(json.dumps(train({str(tmp_path / 'run')!r}, 10)))"
    with Host(fault, since) as host:
        environment |= {"WANDB_BASE_URL": host.url, "WANDB_API_KEY": KEY, "WANDB_CONFIG_DIR": str(tmp_path)}
        process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200,
                                 cwd=Path(__file__).parents[2])
        gone = time.monotonic()
        assert process.returncode == 0, process.stderr
        said = json.loads(process.stdout.splitlines()[-1])
        said["exit"] = gone - said["ended"]
        check(said, process.stderr, tmp_path / "run", host, fault, since)
    assert said["ratio"] < 1.05, said
