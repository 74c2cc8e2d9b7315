"""The verb `fit`: mistakes in one line, needed runs, data that nobody prepared, repeatable runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import training
from experiments.__main__ import main
from experiments.catalogue import find
from experiments.request import Request, as_flag, flag_pairs, split_equals, with_runs
from experiments.runs import load_runs

TINY = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.limit_val_batches", "1", "--data.batch_size", "8",
        "--trainer.callbacks", "[]"]


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")


MISTAKES = [
    (["fit", "ddpm_digits_cosin"], ["'ddpm_digits_cosin'", "ddpm_digits_cosine"]),
    (["fit", "classifier", "--data", "digit"], ["'digit'", "digits"]),
    (["fit", "classifier"], ["--data"]),
    (["fit"], ["which experiment"]),
    (["fit", "classifier", "--data"], ["--data needs a value"]),
    (["fit", "ddpm_digits_linear", "--model.schedule", "Cosin"], ["model.schedule", "'Cosin'", "Cosine"]),
    (["fit", "ddpm_digits_linear", "--model.schedul", "Cosine"], ["model.schedul", "schedule"]),
    (["fit", "ddpm_digits_linear", "--model.network.widht", "8"], ["model.network.widht", "width"]),
    (["fit", "ddpm_digits_linear", "--model.sampler", "DDIM", "--model.sampler.eta", "x"], ["eta", "float", "'x'"]),
    (["fit", "ddpm_digits_linear", "--model.optimizer", "AdamWw"], ["model.optimizer", "'AdamWw'", "AdamW"]),
    (["fit", "ddpm_digits_linear", "--model.optimizer.lr=fast"], ["model.optimizer.lr", "float", "'fast'"]),
    (["fit", "ddpm_digits_linear", "--trainer.max_stepz", "5"], ["--trainer.max_stepz", "trainer.max_steps"]),
    (["fit", "ddpm_digits_linear", "--trainer.max_steps", "many"], ["trainer.max_steps", "int", "'many'"]),
    (["fit", "ddpm_digits_linear", "--data.image_sizes", "8"], ["data.image_sizes", "image_size"]),
    (["fit", "ddpm_digits_linear", "--frobnicate"], ["--frobnicate"]),
    (["fit", "ddpm_digits_linear", "stray"], ["stray"]),
    (["fit", "classifier", "--data.path", "./no/such/folder"], ["no/such/folder"]),
    (["fit", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
    (["fitt", "classifier"], ["fitt", "fit"]),
    (["sample", "no_such_run"], ["no_such_run"]),
    (["validate", "no_such_run"], ["no_such_run"]),
    (["sweep", "no_such_sweep"], ["no_such_sweep"]),
    (["report", "no_such_run"], ["no_such_run"]),
    (["compare", "noise_schedule_digits"], ["noise_schedules_digits"]),
    (["fit", "classifier", "--data", "digits", "--data.channels", "2"], ["fit: channels: 2"]),
    (["fit", "classifier", "--data", "digits", "--out", "/dev/null/run"], ["/dev/null/run"]),
    (["sample", "classifier", "--guidence", "3"], ["--guidence", "--guidance"]),
    (["sample", "classifier", "--steps", "0"], ["--steps 0"]),
    (["sample", "classifier", "--out", "picture.jpg"], ["picture.png"]),
    (["sweep", "--wrokers", "2", "noise_schedules_digits"], ["--wrokers", "--workers"]),
    (["report"], ["RUNS"]),
    (["list", "everything"], ["everything"]),
]


@pytest.mark.parametrize(("arguments", "named"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_is_one_line_and_exit_code_2(arguments, named, capsys, tmp_path):
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert [name for name in named if name not in lines[0]] == [], lines[0]
    assert not list(tmp_path.glob("runs/*/*")), "a refused command leaves no run behind"


def test_runs_that_cannot_be_written_are_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PRACTICUM_RUNS", "/dev/null")
    assert main(["fit", "classifier", "--data", "digits", *TINY]) == 2
    assert capsys.readouterr().err.strip().startswith("practicum fit: /dev/null")


def test_null_two_classes_deep():
    config = training.check(Request.read(["ddpm_digits_linear", "--model.network.num_classes", "null"]))
    assert config["model"]["init_args"]["network"]["init_args"]["num_classes"] is None


BAD_YAML = {
    "syntax": "model: {class_path: [",
    "not a mapping": "- a\n- b\n",
    "unknown key": "data: digits\nmodel: lightning_modules.classifier.Classifier\ntrainer: {max_stepz: 3}\n",
    "unknown top key": "data: digits\nmodle: lightning_modules.classifier.Classifier\n",
    "unknown data": "data: digitz\nmodel: lightning_modules.classifier.Classifier\n",
    "unknown need": "data: digits\nneeds: [clasifier]\nmodel: lightning_modules.classifier.Classifier\n",
    "run without need": "data: digits\nmodel: {class_path: lightning_modules.classifier.Classifier, init_args: {network: 'run:x'}}\n",
    "no model": "data: digits\n",
    "binary": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", BAD_YAML.values(), ids=BAD_YAML)
def test_a_bad_yaml_is_one_line_and_exit_code_2(content, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["fit", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_needed_run_is_trained_once_on_the_same_data(tmp_path, capsys):
    experiment = tmp_path / "mine.yaml"
    need = tmp_path / "judge.yaml"
    need.write_text((find("experiment", "classifier")).read_text().replace("1200", "2").replace("400", "2"))
    experiment.write_text(f"data: digits\nneeds: ['{need}']\n" + "\n".join(need.read_text().splitlines()[2:]))
    assert main(["fit", str(experiment), "--data.limit", "100", "--data.batch_size", "8"]) == 0
    assert "training it first" in capsys.readouterr().err
    assert main(["fit", str(experiment), "--data.limit", "100", "--data.batch_size", "16"]) == 0
    assert "training it first" not in capsys.readouterr().err, "another batch size is the same data"
    assert main(["fit", str(experiment), "--data.limit", "120", "--data.batch_size", "8"]) == 0
    assert "training it first" in capsys.readouterr().err, "another limit is other data"
    assert len(load_runs([tmp_path / "runs" / "judge"])) == 2


def test_the_same_seed_gives_the_same_run(tmp_path):
    def losses(seed: int, name: str) -> list:
        folder = training.fit(["classifier", "--data", "digits", *TINY, "--seed_everything", str(seed), "--trainer.log_every_n_steps", "1"],
                              out=tmp_path / name, quiet=True)
        return load_runs([folder])[0].scalars["train/loss"]

    assert losses(1, "a") == losses(1, "b") != losses(2, "c")


def test_existing_out_is_refused(tmp_path, capsys):
    arguments = ["fit", "classifier", "--data", "digits", *TINY, "--out", str(tmp_path / "here")]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "is finished, after 2 steps; make it longer with `practicum resume" in capsys.readouterr().err


def photos(folder: Path, sizes: list[tuple[int, int]], modes: list[str], kind: str) -> Path:
    random = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("cats", "dogs", "owls")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        height, width = sizes[number % len(sizes)]
        pixels = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
        image = Image.fromarray(pixels, "RGBA").convert(modes[number % len(modes)])
        image.save(place / f"{number}.{kind}")
    return folder


@pytest.mark.parametrize("experiment", ["classifier", "ddpm_digits_cosine"])
def test_photos_in_class_folders_need_one_flag(experiment, tmp_path):
    folder = photos(tmp_path / "my photos", [(20, 31), (40, 25)], ["RGB", "L", "RGBA"], "png")
    request = ["fit", experiment, "--data.path", str(folder), "--data.image_size", "16", *TINY]
    if experiment != "classifier":
        request += ["--model.num_sampling_steps", "2"]
        assert main(["fit", "classifier", *request[2:-2]]) == 0     # the judge, quickly
    assert main(request) == 0
    run = load_runs([tmp_path / "runs" / experiment])[0]
    network = run.config["model"]["init_args"]["network"]["init_args"]
    assert (network["channels"], network["num_classes"]) == (3, 3)
    assert run.status["classes"] == ["cats", "dogs", "owls"]


def test_parquet_with_other_column_names_and_rgba(tmp_path):
    import datasets

    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (12, 12, 4), dtype=np.uint8), "RGBA") for _ in range(40)]
    table = datasets.Dataset.from_dict({"pic": pictures, "kind": ["b", "a"] * 20, "shade": list(range(40))},
                                       features=datasets.Features({"pic": datasets.Image(), "kind": datasets.Value("string"),
                                                                   "shade": datasets.Value("int32")}))
    (tmp_path / "mine").mkdir()
    table.to_parquet(tmp_path / "mine" / "train.parquet")
    arguments = ["fit", "classifier", "--data.path", str(tmp_path / "mine"), "--data.columns", "{label: kind}", *TINY]
    assert main(arguments) == 0
    run = load_runs([tmp_path / "runs" / "classifier"])[0]
    assert run.status["classes"] == ["a", "b"]


def test_request_keeps_the_order_in_which_flags_win():
    request = Request.read(["ddpm_digits_linear", "--data.image_size=8", "--out", "x", "--trainer.max_steps", "5"])
    assert request.out == Path("x")
    arguments = request.command_line({"classifier": Path("/judge")})
    sizes = [arguments[place + 1] for place, flag in enumerate(arguments) if flag == "--data.image_size"]
    assert sizes[-1:] == ["8"]
    assert arguments[-2:] == ["--trainer.max_steps", "5"]
    assert json.dumps("/judge") in arguments[3]


def test_small_parts():
    assert split_equals(["--a.b=1", "x=2", "--c"]) == ["--a.b", "1", "x=2", "--c"]
    assert flag_pairs(["--a", "1", "--b", "--c", "2", "3"]) == [("--a", ["1"]), ("--b", []), ("--c", ["2", "3"])]
    assert [as_flag(value) for value in (3, "x", [1, 2], {"a": None}, True)] == ["3", "x", "[1, 2]", '{"a": null}', "true"]
    assert with_runs({"a": ["run:judge", 1]}, {"judge": Path("/r")}) == {"a": ["/r", 1]}


def test_help_answers_within_a_third_of_a_second_of_cpu():
    code = "import resource, sys; from experiments.__main__ import main; main({}); print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    for arguments in (["--help"], ["list"], ["fitt"]):
        done = subprocess.run([sys.executable, "-c", code.format(arguments)], capture_output=True, text=True, check=True)
        assert float(done.stdout.strip().splitlines()[-1]) < 0.3


def test_a_run_cut_short_is_validated_at_its_end(tmp_path):
    folder = training.fit(["classifier", "--data", "digits", "--trainer.max_steps", "3"], out=tmp_path / "short", quiet=True)
    assert load_runs([folder])[0].last("val/accuracy") is not None


def test_a_need_that_a_flag_has_made_superfluous_is_not_trained(tmp_path, capsys):
    assert main(["fit", "ddpm_digits_linear", "--data.limit", "100", *TINY]) == 0     # TINY takes the callbacks out
    assert "training it first" not in capsys.readouterr().err
    assert not (tmp_path / "runs" / "classifier").exists()


def test_a_trainer_that_cannot_be_built_leaves_no_run(tmp_path, capsys):
    assert main(["fit", "classifier", "--data", "digits", "--trainer.accelerator", "cudaa"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("runs/*/*"))


def test_ctrl_c_saves_a_checkpoint_and_exits_with_130(tmp_path):
    environment = {**os.environ, "PRACTICUM_RUNS": str(tmp_path / "runs"), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments", "fit", "classifier", "--data", "digits", "--out", str(tmp_path / "run"),
               "--trainer.max_steps", "100000", "--trainer.log_every_n_steps", "1"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    record = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (record.is_file() and record.read_text().count("\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "stopped by SIGINT; `practicum resume" in error.splitlines()[-1]
    assert load_runs([tmp_path / "run"])[0].state == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
