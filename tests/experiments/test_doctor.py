"""The doctor's findings on this machine, and the faults it must know by name."""

import subprocess
import sys
import time

import pytest

from experiments import doctor

KEY = "0123456789abcdef0123456789abcdef01234567"


def found(findings, name):
    return next(finding for finding in findings if finding.name == name)


@pytest.mark.parametrize(
    ("package", "version", "text"),
    [
        ("lightning", "2.6.2", "malware"),
        ("lightning", "2.6.3", "malware"),
        ("numpy", "1.26.4", "`import datasets` fails"),
        ("torch", "2.9.1+cu128", "older than what is tested"),
        ("wandb", "0.16.0", "0.16.0, but >=0.31 is needed"),
    ],
)
def test_known_faults(package, version, text):
    from importlib import metadata

    findings = doctor.packages(lambda name: version if name == package else metadata.version(name))
    assert found(findings, package).fault and text in found(findings, package).text and found(findings, package).remedy
    assert [finding.name for finding in findings if finding.fault] == [package]


def test_a_missing_package():
    from importlib import metadata

    def version(name: str) -> str:
        if name == "optuna":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    assert found(doctor.packages(version), "optuna")[2:] == ("missing", "run `make setup`", True)


def test_mirror(monkeypatch, tmp_path):
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("PRACTICUM_DATA", str(tmp_path))
    findings = doctor.cached()
    assert found(findings, "mnist").text == f"in the mirror, {tmp_path / 'mnist'}" and not found(findings, "mnist").remedy
    assert found(findings, "digits").text == "built in"
    monkeypatch.setenv("PRACTICUM_DATA", str(tmp_path / "elsewhere"))
    assert found(doctor.cached(), "PRACTICUM_DATA").fault


def test_online_without_a_key_is_a_fault(monkeypatch, tmp_path):
    for name, value in {"WANDB_MODE": "online", "WANDB_API_KEY": "", "NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert found(doctor.settings(hub=True, wandb=True), "WANDB_MODE")[2:] == (
        "online without a key: a run dies",
        "unset WANDB_MODE: practicum then goes offline by itself; or `wandb login`",
        True,
    )
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert "blocks 102 s" in found(doctor.settings(hub=True, wandb=False), "WANDB_MODE").text
    assert not found(doctor.settings(hub=True, wandb=True), "WANDB_MODE").fault


def test_the_whole_examination(monkeypatch, tmp_path):
    for name, value in {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "PRACTICUM_RUNS": str(tmp_path / "runs")}.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_BASE_URL", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    began = time.monotonic()
    process = subprocess.run([sys.executable, "-m", "experiments", "doctor"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert time.monotonic() - began < 20  # 5 to 7 s on an idle machine
    assert "http://127.0.0.1:9 does not answer; a key" in process.stdout and KEY not in process.stdout + process.stderr
    for name in ("torch", "cores", "free disk", "accelerator", "Inception weights"):
        assert f" {name}: " in process.stdout
