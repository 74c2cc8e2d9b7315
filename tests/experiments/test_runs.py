"""Run folders: written, found, read back, and without secrets."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from experiments.record import RunRecord, WandbRecord
from experiments.runs import find_run, is_secret_key, latest, load_runs, new_run_folder, scrub

WANDB_KEY = "0123456789abcdef0123456789abcdef01234567"
HUB_KEY = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"
PLANTED = "planted-in-a-named-field"
SECRETS = (WANDB_KEY, HUB_KEY, PLANTED)


class Line(LightningModule):
    """y = w x, trained towards zero."""

    def __init__(self, hub_token: str, width: int = 3, error: type[BaseException] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.error = error

    def training_step(self, batch, index):
        if self.error is not None and index == 3:
            raise self.error("on purpose")
        loss = (self.weight * batch[0]).square().mean()
        self.log("train/loss", loss)
        self.log("train/nan", math.nan)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(loggers, error=None):
    trainer = Trainer(
        max_epochs=2, logger=loggers, log_every_n_steps=1, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Line(PLANTED, error=error), DataLoader(TensorDataset(torch.ones(5, 1))))
    return trainer


def finished(root: Path, name: str) -> Path:
    folder = new_run_folder(root, name)
    record = RunRecord(folder, experiment=name)
    record.log_metrics({"train/loss": 1.0, "epoch": 0}, step=1)
    record.finalize("success")
    return folder


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_trainer_with_both_loggers(tmp_path, monkeypatch):
    for name, value in {"WANDB_MODE": "offline", "WANDB_API_KEY": WANDB_KEY, "HF_TOKEN": HUB_KEY}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--data.token", PLANTED])  # W&B would keep it
    folder = new_run_folder(tmp_path, "line")
    command = ["practicum", "fit", "line", "--data.token", PLANTED, f"--wandb.api_key={PLANTED}", f"--url=x?key={HUB_KEY}"]
    record = RunRecord(folder, experiment="line", seed=7, command=command)
    wandb = WandbRecord(folder, experiment="line")
    config = {
        "seed_everything": 7,
        "data": {"token": PLANTED, "urls": [f"https://user:{HUB_KEY}@host"], "num_tokens": 77, "tokenizer": "bpe"},
        "model": {"init_args": {"password": PLANTED, "schedule": "Cosine"}},
    }
    for logger in (record, wandb):
        logger.log_config(yaml.safe_dump(config))
    record.update(title="ones", device=f"cpu {HUB_KEY}", parameters=1)
    train([record, wandb])
    print(f"as a library might: {PLANTED}")  # W&B would keep the console
    for logger in (record, wandb):
        logger.log_image("val/samples", images=[Image.new("L", (4, 4), 9)], step=10, caption=[f"of {HUB_KEY}"])
        logger.log_table("val/loss_by_noise", columns=["t", "loss"], data=[[0.5, math.nan], [1.0, 2.0], [HUB_KEY, None]], step=10)
        logger.log_about("val/fd_x", {"extractor": "x", "secret_path": PLANTED, "num_generated": np.int64(500)})
    wandb.close()

    (run,) = load_runs(tmp_path)
    assert (run.name, run.seed, run.state, run.status["title"]) == ("line", 7, "finished", "ones")
    assert run.config["data"] == {
        "token": "***",
        "urls": ["https://user:***@host"],
        "num_tokens": 77,
        "tokenizer": "bpe",
    }
    assert run.flat_config["model.init_args.schedule"] == "Cosine" and run.flat_config["model.init_args.password"] == "***"
    assert run.status["command"] == "practicum fit line --data.token '***' '--wandb.api_key=***' '--url=x?key=***'"
    steps, losses = zip(*run.scalars["train/loss"], strict=True)
    assert steps == tuple(range(10)) and losses[0] == 1.0 and losses[1] == pytest.approx(0.64)
    assert math.isnan(run.scalars["train/nan"][-1][1]) and run.last("val/never") is None
    table = run.tables["val/loss_by_noise"]
    assert table.columns == ["t", "loss"] and math.isnan(table.rows[0][1]) and table.rows[1:] == [[1.0, 2.0], ["***", None]]
    assert Image.open(run.media["val/samples"]).getpixel((0, 0)) == 9
    assert run.about["val/fd_x"] == {"extractor": "x", "secret_path": "***", "num_generated": 500}

    leet: list[str] = [
        str(Path(sys.executable).parent / "wandb"),
        "leet",
        "inspect",
        "--json",
        str(next((folder / "wandb").glob("offline-run*"))),
    ]
    records = [json.loads(line) for line in subprocess.run(leet, capture_output=True, text=True, check=True).stdout.splitlines()]
    sent: dict[str, Any] = {}
    for update in (item["config"]["update"] for item in records if item["type"] == "config"):
        sent |= update
    assert sent["data"] == run.config["data"] and sent["model"] == run.config["model"] and sent["hub_token"] == "***"
    history = [item["history"]["item"] for item in records if item["type"] == "history"]
    assert [item["train/loss"] for item in history if "train/loss" in item] == pytest.approx(losses)
    assert {"val/samples._type", "val/loss_by_noise._type"} <= {key for item in history for key in item}
    summary = [item["summary"]["update"] for item in records if item["type"] == "summary"]
    assert any("about/val/fd_x" in key for item in summary for key in item)

    written = everything_in(folder) + json.dumps(records).encode()
    assert b"num_tokens" in written and b"Cosine" in written  # the search finds what is there
    assert [secret for secret in SECRETS if secret.encode() in written] == []


@pytest.mark.parametrize(("error", "state"), [(None, "finished"), (RuntimeError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_how_a_run_ends(tmp_path, error, state):
    folder = new_run_folder(tmp_path, "line")
    record = RunRecord(folder, experiment="line")
    handler = signal.getsignal(signal.SIGINT)
    try:
        train([record], error)
    except (RuntimeError, SystemExit):
        record.finalize("failed")  # the caller may end it once more, as training.py does
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores Ctrl-C after the first
    (run,) = load_runs([folder])
    assert run.state == state
    assert (latest(tmp_path / "line") == folder) == (state == "finished")
    assert state != "failed" or run.status["reason"] == "RuntimeError: on purpose"
    later = RunRecord(folder, experiment="line")
    later.log_metrics({"test/loss": 1.0}, step=10)
    later.finalize("failed")
    assert load_runs([folder])[0].state == ("finished" if state == "finished" else "failed")


def test_hyperparameters_fill_in_where_no_config_was_written(tmp_path):
    record = RunRecord(tmp_path / "a", experiment="a")
    record.log_hyperparams({"width": 3, "loss": torch.nn.MSELoss(), "token": PLANTED})
    assert load_runs(tmp_path)[0].config == {"width": 3, "loss": "MSELoss()", "token": "***"}
    record.log_config({"model": "fuller"})
    record.log_hyperparams({"width": 4})
    assert load_runs(tmp_path)[0].config == {"model": "fuller"}


def write_and_die(folder: str) -> None:
    record = RunRecord(folder, experiment="killed")
    for step in range(1000000):
        record.log_metrics({"train/loss": 1 / (step + 1)}, step)


def test_killed_while_writing_then_continued(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=write_and_die, args=(str(tmp_path / "run"),))
    process.start()
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.is_file() or metrics.stat().st_size < 20000:
        time.sleep(0.01)
    process.kill()
    process.join()
    with open(metrics, "a") as file:  # what a full disk leaves
        file.write('{"step": 5, "train/lo')
    (run,) = load_runs(tmp_path)
    before = run.scalars["train/loss"]
    assert run.state == "running" and len(before) > 200 and before[99] == (99, 0.01)

    record = RunRecord(tmp_path / "run", experiment="killed")
    record.log_metrics({"train/loss": 0.5}, step=len(before))
    record.finalize("success")
    (again,) = load_runs(tmp_path)
    assert again.scalars["train/loss"] == [*before, (len(before), 0.5)]
    assert again.status["started"] == run.status["started"] and again.state == "finished"


def test_infinities_and_bad_rows(tmp_path):
    record = RunRecord(tmp_path / "run", experiment="x")
    record.log_metrics({"a": math.inf, "b": -math.inf}, step=0)
    record.log_metrics({"epoch": 3}, step=1)  # an epoch alone is no line
    record.log_metrics({"a": 2}, step=2)
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (run,) = load_runs(tmp_path)
    assert run.scalars == {"a": [(0, math.inf), (2, 2.0)], "b": [(0, -math.inf)]}
    with pytest.raises(ValueError, match="2 images but 1 captions"):
        record.log_image("x", [Image.new("L", (1, 1))] * 2, caption=["one"])


def new_folder(root: str) -> str:
    return str(new_run_folder(root, "same"))


def test_no_two_processes_share_a_run_folder(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = pool.map(new_folder, [str(tmp_path)] * 400, chunksize=1)
    assert len(set(folders)) == 400 and all(Path(folder).is_dir() for folder in folders)


def test_latest_is_the_last_finished_run(tmp_path, monkeypatch):
    first = finished(tmp_path, "line")
    RunRecord(new_run_folder(tmp_path, "line"), experiment="line").log_metrics({"a": 1.0}, 0)
    assert find_run("line", tmp_path) == first
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no symlinks here")))
    second = finished(tmp_path, "line")
    assert not (tmp_path / "line" / "latest").is_symlink()
    assert find_run("line", tmp_path) == find_run("line/latest", tmp_path) == second
    monkeypatch.undo()
    third = finished(tmp_path, "line")
    assert (tmp_path / "line" / "latest").is_symlink() and find_run("line", tmp_path) == third
    assert len(load_runs(tmp_path / "line")) == 4  # latest is not counted twice


def test_runs_are_found_by_path_name_and_id(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path))
    folder = finished(tmp_path, "ddpm_digits")
    for spec in (folder, folder.parent, "ddpm_digits", f"ddpm_digits/{folder.name}", os.path.relpath(folder)):
        assert find_run(spec) == folder
    with pytest.raises(ValueError, match=r"run 'ddpm_digit': .* nearest: ddpm_digits"):
        find_run("ddpm_digit")
    unfinished = new_run_folder(tmp_path, "vae")
    RunRecord(unfinished, experiment="vae").log_metrics({"a": 1.0}, 0)
    with pytest.raises(ValueError, match=f"there is no latest finished one among its 1 runs; name one: .*{unfinished.name}"):
        find_run("vae")
    with pytest.raises(ValueError, match="no run folder there"):
        load_runs([tmp_path / "vae" / "nothing"])


def test_secret_keys():
    for key in (
        "token",
        "hf_token",
        "HF_TOKEN",
        "authToken",
        "api_key",
        "API-KEY",
        "wandb.apiKey",
        "Password",
        "client_secret",
    ):
        assert is_secret_key(key), key
    for key in ("tokens", "num_tokens", "tokenizer", "tokenizer_path", "max_tokens", "key", "keys", "bypass", "monkey"):
        assert not is_secret_key(key), key
    assert scrub({"class_token": 1, "use_token": True, "token": None, "password": 1234, "secrets": ["a", "b"]}) == {
        "class_token": 1, "use_token": True, "token": None, "password": "***", "secrets": "***",
    }  # fmt: skip
    assert scrub(["--hf_token", "abc", "--num_tokens", "5", "--x.token=abc"]) == [
        "--hf_token",
        "***",
        "--num_tokens",
        "5",
        "--x.token=***",
    ]


def test_reading_needs_no_torch():
    code = "import sys, experiments.runs, experiments.statistics, experiments.sweeps, experiments.doctor\n" + (
        "print([name for name in ('torch', 'lightning', 'wandb', 'scipy', 'optuna', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_hundred_runs_load_quickly(tmp_path):
    record = RunRecord(tmp_path / "run-000", experiment="x")
    record.log_config({"model": {"init_args": {f"key{number}": number for number in range(120)}}})
    for step in range(2000):
        record.log_metrics({"train/loss": 1 / (step + 1), "train/lr": 1e-3, "epoch": step // 100}, step)
    record.finalize("success")
    for number in range(1, 100):
        folder = tmp_path / f"run-{number:03d}"
        folder.mkdir()
        for file in ("status.json", "config.yaml", "metrics.jsonl"):
            (folder / file).write_bytes((tmp_path / "run-000" / file).read_bytes())
    began = time.process_time()
    runs = load_runs(tmp_path)
    seconds = time.process_time() - began
    assert len(runs) == 100 and len(runs[99].scalars["train/loss"]) == 2000
    assert seconds < 1.5, f"{seconds:.2f} s of CPU"
