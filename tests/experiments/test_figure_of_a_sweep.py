"""The figure of a study, drawn from the folders of two sweeps with known numbers; and how a sweep is found, run or refused."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from experiments import drawing, sweeps
from experiments.__main__ import main
from experiments.catalogue import Entry, Mistake, find
from experiments.figures import siglip_and_clip as figure

AHEAD = {16: 6.0, 64: 4.0, 256: 0.0, 1024: -8.0}      # SigLIP's points at each batch size; seeds add -1, 0, 1 to both


def write_trial(folder: Path, kind: str, batch: int, seed: int, accuracy: float, bias: float | None = None) -> None:
    folder.mkdir(parents=True)
    arguments = {"bias": bias} if kind == "SigLIP" else {}
    config = {"seed_everything": seed, "data": {"init_args": {"batch_size": batch}},
              "model": {"class_path": f"lightning_modules.{kind.lower()}.{kind}", "init_args": arguments}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"state": "finished", "seed": seed, "started": "2026-01-01"}))
    values = {figure.METRIC: accuracy / 100, figure.MEMORY: 2.0 * batch}
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "epoch": 0, "time": 1.0, **values}) + "\n")


@pytest.fixture
def studies(tmp_path):
    """Folders of both sweeps."""
    for seed in (0, 1, 2):
        for batch, ahead in AHEAD.items():
            for kind in figure.COLOURS:
                noise = (seed - 1) * (0.9 if kind == "SigLIP" else 1.0)
                write_trial(tmp_path / "study" / f"{kind}-{batch}-{seed}", kind, batch, seed, 50 + noise + ahead * (kind == "SigLIP"))
        for bias in (-10.0, None):
            write_trial(tmp_path / "bias" / f"{bias}-{seed}", "SigLIP", 64, seed, 30.0 + seed + 20 * (bias is None), bias)
    for name in ("study", "bias"):
        (tmp_path / name / "trials.jsonl").write_text("")
    return tmp_path


def test_its_numbers_are_those_of_the_runs(studies, capsys):
    out = studies / "figures"
    given = [word for key in ("study", "bias") for word in ("--run", f"{key}={studies / key}")]
    assert main(["figure", "siglip_and_clip", *given, "--out", str(out)]) == 0
    assert Image.open(out / "siglip_and_clip.png").width > 2000
    about = json.loads((out / "siglip_and_clip.json").read_text(), parse_constant=pytest.fail)
    numbers = about["numbers"]
    assert set(about["runs"]) == {"study", "bias"}
    assert numbers["accuracy"]["CLIP"]["64"] == pytest.approx({"0": 49.0, "1": 50.0, "2": 51.0})
    for batch, ahead in AHEAD.items():
        difference = numbers["siglip_minus_clip"][str(batch)]
        assert difference["mean"] == pytest.approx(ahead) and difference["interval"][0] < ahead < difference["interval"][1]
    assert numbers["claim"] == "SigLIP ahead at N = 16, 64; CLIP ahead at N = 1024; no difference shown at N = 256"
    assert numbers["bias_minus_10_less_prior_odds"]["mean"] == pytest.approx(-20)
    assert numbers["step_memory_mb"]["SigLIP"]["1024"]["0"] == 2048


def test_a_missing_arm_is_one_line(studies, capsys):
    for folder in (studies / "study").glob("SigLIP-*"):
        (folder / "metrics.jsonl").write_text("")
    assert main(["figure", "siglip_and_clip", "--run", f"study={studies / 'study'}", "--run", f"bias={studies / 'bias'}"]) == 2
    assert "no batch size of both losses" in capsys.readouterr().err


def test_a_folder_that_is_no_sweeps(studies):
    with pytest.raises(Mistake, match=r"no folder of a sweep .*practicum sweep siglip_vs_clip"):
        drawing.sought(str(studies / "study" / "CLIP-16-0"), "sweep:siglip_vs_clip", "siglip_and_clip")


def test_a_finished_sweep_is_found_and_another_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path))
    ran: list[str] = []
    monkeypatch.setattr(sweeps, "run_trials", lambda sweep: ran.append(sweep.name) or (tmp_path, []))
    assert drawing.swept("siglip_bias") == tmp_path / "siglip_bias" and ran == ["siglip_bias"]
    lines = []
    for number, (seed, bias) in enumerate((seed, bias) for seed in (0, 1, 2) for bias in (-10.0, None)):
        folder = tmp_path / "siglip_bias" / str(number)
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": "finished"}))
        asked = {"experiment": "siglip_vs_clip", "seed_everything": seed, "data.batch_size": 64,
                 "model": "lightning_modules.siglip.SigLIP", "model.bias": bias}
        lines.append(json.dumps({"folder": str(number), "state": "finished", "parameters": asked, "recipe": "of an older YAML"}))
    (tmp_path / "siglip_bias" / "trials.jsonl").write_text("\n".join(lines))
    assert drawing.swept("siglip_bias") == tmp_path / "siglip_bias" and ran == ["siglip_bias"]
    (tmp_path / "siglip_bias" / "5" / "status.json").write_text(json.dumps({"state": "running"}))
    drawing.swept("siglip_bias")
    assert ran == ["siglip_bias"] * 2


def test_a_trial_that_failed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path))
    failed = sweeps.Attempt(3, {}, "", state="failed", reason="out of memory")
    monkeypatch.setattr(sweeps, "run_trials", lambda sweep: (tmp_path, [failed]))
    with pytest.raises(Mistake, match="trial 3 failed: out of memory"):
        drawing.draw(Entry("siglip_and_clip", find("figure", "siglip_and_clip")), {}, tmp_path)
