"""`practicum resume`: a run that was cut off anywhere ends as the unbroken one."""

import json

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
