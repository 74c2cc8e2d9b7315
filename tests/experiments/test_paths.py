"""What a run, a sweep or a caption is called makes nothing be read or written outside of the run's own folder."""

import json

import pytest
from PIL import Image

from experiments.__main__ import main
from experiments.record import RunRecord
from experiments.runs import load_runs
from experiments.sweeps import earlier_trials
from tests.experiments.test_allowlist import write_run

ELSEWHERE = ["../../escaped", "/tmp/escaped_of_practicum", "a/../../../escaped", "..", ".", "a\\..\\b", "~/escaped", "x" * 300,
             "nul\0", "\n"]


def test_keys_and_captions_of_pictures(tmp_path):
    record = RunRecord(tmp_path / "runs" / "x" / "1", experiment="x")
    for key in ELSEWHERE[:7]:
        record.log_image(key, [Image.new("RGB", (4, 4))], caption=key)
    record.finalize("success")
    written = list(tmp_path.rglob("*.png"))
    assert len(written) == 7 and {path.parent for path in written} == {tmp_path / "runs" / "x" / "1" / "media"}


@pytest.mark.parametrize("file", ["../../secret.txt", "/etc/hostname", "media/link.png", "{folder}/../../secret.txt"])
def test_media_of_a_run_of_others(file, tmp_path):
    """A report holds the bytes of a run's pictures: not those of other files on this machine."""
    (tmp_path / "secret.txt").write_text("secret")
    run = write_run(tmp_path / "runs" / "r")
    (run / "media").mkdir()
    (run / "media" / "good.png").write_bytes(b"x")
    (run / "media" / "link.png").symlink_to(tmp_path / "secret.txt")
    lines = [{"step": 1, "media": "good", "file": "media/good.png"}, {"step": 1, "media": "bad", "file": file.format(folder=run)}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert set(load_runs(run)[0].media) == {"good"}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_name_of_a_sweep(name, tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(f"name: {json.dumps(name)}\nmethod: grid\nexperiment: classifier\nparameters: {{a: {{value: 1}}}}\n")
    assert main(["sweep", str(tmp_path / "s.yaml"), "--dry-run"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_trials_that_lie_elsewhere(tmp_path):
    run = write_run(tmp_path / "sweep" / "mine")
    write_run(tmp_path / "other")
    lines = [{"folder": folder, "state": "finished", "parameters": {"n": folder}, "recipe": "", "seconds": 1.0}
             for folder in ("mine", "../other", str(tmp_path / "other"))]
    (run.parent / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [kept["folder"] for kept in earlier_trials(run.parent).values()] == ["mine"]
