"""`practicum resume`: a run that was cut off anywhere ends as the unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from experiments import training
from experiments.__main__ import main
from lightning_modules.ddpm import DDPM
from tests.experiments.resumption import EACH_STEP, SELDOM, Blow, arguments, cut_off, differences, final_state, fit, steps_of

MODELS = ("ddpm_digits_cosine", "classifier", "cwgan_gp_mnist", "cvae_mnist", "clip_scenes", "scene_reader")
PHASES = {  # at which call of which hook the signal comes
    "setup": 1, "sanity_check": 1, "train_start": 1, "train_batch_end": 7, "validation_start": 2, "validation_batch_end": 3, "sample": 1,
    "validation_epoch_end": 2, "validation_end": 2, "save_checkpoint": 6, "train_end": 1,
}
SIGNALS = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}
SANE = ["--trainer.num_sanity_val_steps", "1"]


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))


def goes_on_from_checkpoints(name, tmp_path, every):
    data = ["--data", "digits"] if name.endswith("mnist") else []
    unbroken = fit(name, tmp_path, *data, *EACH_STEP)
    expected = final_state(unbroken)
    assert steps_of(unbroken) == [*range(17)]
    for step in range(0, 16, every):
        broken = cut_off(unbroken, tmp_path / f"cut{step}", step)
        training.resume(broken, SELDOM, quiet=True)
        assert differences(expected, final_state(broken)) == [], f"cut off after step {step}"
        assert json.loads((broken / "status.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(("name", "every"), zip(MODELS, (4, 5, 5, 13, 13, 13)))
def test_a_run_goes_on_from_its_checkpoints(name, every, tmp_path):
    goes_on_from_checkpoints(name, tmp_path, every)


@pytest.mark.soak
@pytest.mark.parametrize("name", MODELS)
def test_a_run_goes_on_from_every_checkpoint_of_three_epochs(name, tmp_path):
    goes_on_from_checkpoints(name, tmp_path, 1)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        folder = tmp_path_factory.mktemp("unbroken")
        patch.setenv("PRACTICUM_RUNS", str(folder / "runs"))
        return final_state(fit("ddpm_digits_cosine", folder, *SANE))


def struck(phase, name, monkeypatch):
    """From now on the signal `name` comes in `phase`."""
    for key, value in {"BLOW_HOOK": phase, "BLOW_COUNT": str(PHASES[phase]), "BLOW_SIGNAL": name}.items():
        monkeypatch.setenv(key, value)
    drawing, blow = DDPM.sample, Blow()

    def sample(*args, **kwargs):
        blow.struck("sample")
        return drawing(*args, **kwargs)

    monkeypatch.setattr(DDPM, "sample", sample)


def stopped_by(phase, name, unbroken, tmp_path, monkeypatch, capsys):
    """A signal stops a run within ten seconds, with the shell's exit code; a second `fit` of the same command ends it as if nothing
    had happened."""
    folder = tmp_path / f"{phase}-{name}"
    folder.mkdir()
    often = EACH_STEP if phase == "save_checkpoint" else []
    command = ["fit", *arguments("ddpm_digits_cosine", folder, *SANE, *often), "--out", str(folder / "run")]
    with monkeypatch.context() as patch:
        struck(phase, name, patch)
        code = main(command)
    assert code == SIGNALS[name], phase
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert name in said and "practicum resume" in said and str(folder / "run") in said, said
    status = json.loads((folder / "run" / "status.json").read_text())
    if phase == "train_end":
        assert status["state"] == "finished"
    else:
        assert status["state"] == "interrupted" and name in status["reason"]
        if phase == "train_batch_end":
            assert steps_of(folder / "run") == [PHASES[phase]], "it stops at the batch's end"
        assert main(command) == 0
    assert differences(unbroken, final_state(folder / "run")) == [], f"{name} in {phase}"


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_every_phase(phase, unbroken, tmp_path, monkeypatch, capsys):
    stopped_by(phase, list(SIGNALS)[list(PHASES).index(phase) % 3], unbroken, tmp_path, monkeypatch, capsys)


@pytest.mark.soak
def test_every_signal_in_every_phase(unbroken, tmp_path, monkeypatch, capsys):
    for phase in PHASES:
        for name in SIGNALS:
            stopped_by(phase, name, unbroken, tmp_path, monkeypatch, capsys)
    with capsys.disabled():
        print(f"\n{len(PHASES) * len(SIGNALS)} signals in {len(PHASES)} phases: all ended as the unbroken run")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of a classifier, with all its checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        return fit("classifier", tmp_path_factory.mktemp("finished"), *EACH_STEP)


def test_what_has_changed_is_named(finished, tmp_path, capsys):
    broken = cut_off(finished, tmp_path / "run", 6)
    assert main(["resume", str(broken), "--model.optimizer.lr", "0.5"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "model.optimizer.lr is 0.002 there and 0.5 here" in line and "--allow-change model.optimizer.lr" in line
    assert main(["resume", str(broken), "--allow-change", "model.optimiser"]) == 2
    assert "nearest: model.optimizer" in capsys.readouterr().err
    assert main(["resume", str(broken), "--model.optimizer.lr", "0.5", "--allow-change", "model.optimizer"]) == 0
    status = json.loads((broken / "status.json").read_text())
    assert status["changes"] == ["model.optimizer.lr: 0.002 -> 0.5"] and status["resumed"][0]["step"] == 5


def test_other_data_are_refused(finished, tmp_path, capsys):
    broken = cut_off(finished, tmp_path / "run", 6)
    status = json.loads((broken / "status.json").read_text())
    (broken / "status.json").write_text(json.dumps(status | {"data_fingerprint": "0123456789abcdef"}))
    assert main(["resume", str(broken)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "0123456789abcdef" in line and "--allow-change data" in line
    assert main(["resume", str(broken), "--allow-change", "data"]) == 0


def test_a_finished_run_is_made_longer(finished, tmp_path, capsys):
    """16 steps and 9 more are 25 steps: the validation at 16, which the shorter run had at its end, apart."""
    longer = cut_off(finished, tmp_path / "run", 16)
    (longer / "status.json").write_text((finished / "status.json").read_text())
    assert main(["resume", str(longer)]) == 2
    assert "--trainer.max_steps N --allow-change trainer.max_steps" in capsys.readouterr().err
    assert main(["resume", str(longer), "--trainer.max_steps", "25", "--allow-change", "trainer.max_steps"]) == 0
    at_once = fit("classifier", tmp_path / "at_once", "--trainer.max_steps", "25")
    ours, theirs = final_state(longer), final_state(at_once)
    weights = [key for key in theirs if key.startswith(("checkpoint.state_dict", "checkpoint.optimizer", "checkpoint.resumable.random"))]
    assert len(weights) > 10 and [key for key in weights if ours[key] != theirs[key]] == []


def test_two_processes_do_not_train_one_run(finished, tmp_path, capsys):
    broken = cut_off(finished, tmp_path / "run", 6)
    hold = "import sys, pathlib, experiments.runs as r\nwith r.locked(pathlib.Path(sys.argv[1]), ''): print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", hold, str(broken)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert main(["resume", str(broken)]) == 2
    assert "another process is training it" in capsys.readouterr().err
    other.kill()
    other.wait()
    assert main(["resume", str(broken)]) == 0


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(finished, tmp_path, capsys):
    broken = cut_off(finished, tmp_path / "run", 6)
    newest = broken / "checkpoints" / "step-00000006.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    half_written = broken / ".status.json-12345-0f3a"
    half_written.write_text("{")
    assert main(["resume", str(broken), *SELDOM]) == 0
    said = capsys.readouterr().err
    assert "step-00000006.ckpt" in said and "goes on from step-00000005.ckpt" in said
    assert not half_written.exists()
    assert differences(final_state(finished), final_state(broken)) == []


def test_a_process_of_its_own_stops_within_ten_seconds(tmp_path):
    """From the shell, with W&B offline, in the middle of training: saved, closed, 143; then on to the same end."""
    command = [sys.executable, "-m", "experiments"]
    run = tmp_path / "run"
    process = subprocess.Popen([*command, "fit", *arguments("classifier", tmp_path, "--trainer.max_steps", "2000"), "--out", str(run)],
                               stderr=subprocess.PIPE, text=True, env={**os.environ, "WANDB_MODE": "offline"})
    while not (run / "metrics.jsonl").is_file() or (run / "metrics.jsonl").stat().st_size < 2000:
        assert process.poll() is None
        time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1].strip().splitlines()
    assert process.returncode == 143 and time.monotonic() - began < 10
    assert f"practicum resume {run}" in said[-1]
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"


def test_a_look_at_an_unfinished_run_leaves_it_as_it_is(finished, tmp_path):
    broken = cut_off(finished, tmp_path / "run", 6)
    before = json.loads((broken / "status.json").read_text())
    config = (broken / "config.yaml").read_text()
    assert main(["validate", str(broken), "--data.batch_size", "4"]) == 0
    after = json.loads((broken / "status.json").read_text())
    assert [key for key in before if before[key] != after[key] and key not in ("seconds", "host", "pid", "command")] == []
    assert json.loads((broken / "metrics.jsonl").read_text().splitlines()[-1])["step"] == before["step"]
    assert (broken / "config.yaml").read_text() == config
    assert main(["resume", str(broken), *SELDOM]) == 0
    assert differences(final_state(finished), final_state(broken)) == []
