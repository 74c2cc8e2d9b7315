"""Every YAML of experiments/configs: two batches, validation, checkpoint, reload, sample."""

import json
from pathlib import Path

import pytest
import yaml

from experiments.__main__ import main
from experiments.catalogue import FOLDERS, entries
from experiments.runs import load_runs
from tests.experiments.small import LIMITS, sized, small

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
WEIGHTS = SHARED.parent / "weights"
def needs_mirror(name: str, monkeypatch) -> None:
    """Data that are not built in come from the workshop's mirror; elsewhere the test is skipped."""
    if name == "digits" or name.startswith("scenes"):
        return
    folder = SHARED / name.removesuffix("_captions")
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not here: no folder {folder}")
    monkeypatch.setenv("PRACTICUM_DATA", str(SHARED))


def needs_words(text: str, monkeypatch) -> None:
    """Word vectors come from the workshop's folder of weights; elsewhere the test is skipped."""
    if "word_vectors_minilm" in text:
        if not (WEIGHTS / "word_vectors_minilm").is_dir():
            pytest.skip(f"the word vectors are not here: no folder {WEIGHTS / 'word_vectors_minilm'}")
        monkeypatch.setenv("PRACTICUM_WEIGHTS", str(WEIGHTS))


@pytest.fixture
def small_experiment(tmp_path):
    def write(path: Path) -> Path:
        copy = tmp_path / path.name
        copy.write_text(yaml.safe_dump(small(yaml.safe_load(path.read_text()))))
        return copy
    return write


@pytest.mark.parametrize("entry", entries("experiment"), ids=lambda entry: entry.name)
def test_every_experiment(entry, tmp_path, monkeypatch, small_experiment, capsys):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    content = yaml.safe_load(entry.path.read_text())
    data = content.get("data", "digits")
    needs_mirror(data, monkeypatch)
    needs_words(entry.path.read_text(), monkeypatch)
    size = sized(data)
    choose = [] if "data" in content else ["--data", data]
    for need in content.get("needs", []):
        chosen = [] if "data" in yaml.safe_load((FOLDERS["experiment"] / f"{need}.yaml").read_text()) else ["--data", data]
        assert main(["fit", need, *chosen, *size, *LIMITS]) == 0
    assert main(["fit", str(small_experiment(entry.path)), *choose, *size, *LIMITS]) == 0
    folder = (tmp_path / "runs" / entry.name / "latest").resolve()
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    run = load_runs([folder])[0]
    assert run.last("train/loss") is not None or run.last("val/loss") is not None
    assert run.last("val/loss") > 0

    assert main(["validate", str(folder)]) == 0
    again = load_runs([folder])[0]
    assert len(again.scalars["val/loss"]) == len(run.scalars["val/loss"]) + 1
    assert again.last("val/loss") == pytest.approx(run.last("val/loss"), rel=1e-4), "the checkpoint is not what was validated"
    assert main(["test", str(folder)]) == 0
    if "SampleGrid" in entry.path.read_text():
        out = tmp_path / "grid.png"
        steps = ["--steps", "2"] if "schedule" in content["model"]["init_args"] else []
        assert main(["sample", str(folder), "--num", "4", *steps, "--out", str(out)]) == 0
        assert out.stat().st_size > 100
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("entry", entries("experiment"), ids=lambda entry: entry.name)
def test_experiment_files_are_short_and_described(entry):
    lines = entry.path.read_text().splitlines()
    assert len(lines) <= 40, "at most 40 lines"
    assert entry.summary, "the first line is a comment that says what it shows"
