"""Twenty secrets, each planted where one strays in by accident: none is in any byte that a run writes, W&B's folder included."""

import base64
import json
import urllib.parse
import zlib
from pathlib import Path

import pytest

from experiments import runs
from experiments.__main__ import main
from experiments.runs import scrub
from experiments.training import fit

VARIABLES = {  # names of environment variables -> what they hold
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567", "HF_TOKEN": "plantedHubToken123456",
    "OPENAI_API_KEY": "planted-openai-value-77", "AWS_SECRET_ACCESS_KEY": "pLaNtEd/aws+secret/9876543210",
    "GITHUB_TOKEN": "planted_github_value_31", "DB_PASSWORD": "planted-Pa55phrase", "MY_SERVICE_CREDENTIALS": "planted:service:credentials",
}
SHAPES = {  # what says of itself that it is a secret
    "hub": "hf_AbCdEfGhIjKlMnOpQrStUvWx", "github": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "fine": "github_pat_11ABCDEFG0planted_0123456789",
    "openai": "sk-proj-plantedplanted0123456789", "aws": "AKIAPLANTEDPLANTED01", "google": "AIzaSyPlantedPlantedPlantedPlanted01234",
    "slack": "xoxb-123456789012-plantedplanted", "jwt": "eyJhbGciOiJQTEFOVEVE.eyJzdWIiOiJwbGFudGVk.c2lnbmF0dXJlUGxhbnRlZA",
    "url": "plantedUrlPassw0rd", "assigned": "plantedAssigned42", "yaml": "plantedYamlValue43", "netrc": "plantedNetrcPassw0rd",
    "pem": "MIIEplantedplantedplantedplanted0123456789",
}
SECRETS = [*VARIABLES.values(), *SHAPES.values()]
TEXT = " ".join((f"see {SHAPES['hub']} and {SHAPES['github']}, {SHAPES['fine']}; {SHAPES['openai']}", SHAPES["aws"], SHAPES["google"],
                 SHAPES["slack"], SHAPES["jwt"], f"https://anna:{SHAPES['url']}@host.org/x", f"password={SHAPES['assigned']}",
                 f"api_key: {SHAPES['yaml']}", SHAPES["netrc"], *VARIABLES.values(),
                 f"-----BEGIN RSA PRIVATE KEY-----\n{SHAPES['pem']}\n-----END RSA PRIVATE KEY-----"))


@pytest.fixture
def planted(tmp_path, monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "netrc").write_text(f"machine api.example.org login user password {SHAPES['netrc']}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs._netrc_passwords.cache_clear()
    yield tmp_path
    runs._netrc_passwords.cache_clear()


def hits(folder: Path) -> list[str]:
    """"secret in file" for each secret found in any file below a folder: plain, in base64, in a URL, in JSON, or in zlib's streams."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        data = file.read_bytes()
        for start in (at for at in range(len(data)) if data[at:at + 2] in (b"x\x9c", b"x\x01", b"x\xda")) if file.suffix == ".png" else ():
            try:
                data += zlib.decompressobj().decompress(data[start:])
            except zlib.error:
                continue
        for secret in SECRETS:
            forms = {secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1], *(
                base64.b64encode(bytes(shift) + secret.encode()).decode()[4:-4] for shift in range(3))}
            found += [f"{secret} in {file.relative_to(folder)}" for form in forms if form.encode() in data][:1]
    return found


def plant(arguments: list[str], folder: Path) -> list[str]:
    """A run's arguments with all the secrets in what a config can hold."""
    text = json.dumps(TEXT)
    (folder / "planted.yaml").write_text(f"""data: digits
model:
  class_path: lightning_modules.classifier.Classifier
  init_args: {{network: {{class_path: tests.experiments.test_secrets.Noted, init_args: {{note: {text}, api_key: {SHAPES['yaml']}}}}}}}
""")
    return [str(folder / "planted.yaml"), *arguments]


def test_there_are_twenty():
    assert len(set(SECRETS)) >= 20
    assert [secret for secret in SECRETS if secret in scrub("nothing of it")] == []


def test_hits_are_seen(tmp_path):
    """The search itself finds a secret in each form."""
    secret = SECRETS[3]
    for number, form in enumerate((secret, urllib.parse.quote(secret, safe=""), base64.b64encode(b"xy" + secret.encode()).decode())):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_text(f"before {form} after")
        assert hits(tmp_path / str(number)), form


def test_no_secret_in_a_text(planted):
    for value in (TEXT, {"a": [TEXT]}, {"x": {"note": (TEXT, 3)}}, [TEXT, "--hf_token", SHAPES["yaml"]],
                  json.dumps({"api_key": SHAPES["yaml"]})):
        left = json.dumps(scrub(value), ensure_ascii=False)
        assert [secret for secret in SECRETS if secret in left] == []


def test_harmless_text_stays(planted):
    for text in ("a photo of a red star", "runs/x/20261121-194803-3f2a", "https://host.org/a:b/c", "step 3: loss=0.5", "12:30:05",
                 "token ids", "lightning_modules.ddpm.DDPM", "user@host.org", "fedcba9876543210" * 4, "C:/folder",
                 "ssh://git@host/x", "num_tokens: 5"):
        assert scrub(text) == text


def test_a_run(planted, capsys):
    arguments = plant(["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--data.batch_size", "8", "--data.limit", "50",
                       "--trainer.callbacks+=tests.experiments.test_secrets.Leaky", "--allow-module", "tests"], planted)
    assert main(["fit", *arguments]) == 0, capsys.readouterr().err
    (folder,) = (planted / "runs" / "planted").glob("2*")
    assert list(folder.rglob("*.png")) and list(folder.rglob("*.wandb")) and (folder / "checkpoints").is_dir()
    assert "***" in (folder / "config.yaml").read_text() and "***" in (folder / "metrics.jsonl").read_text()
    assert hits(planted / "runs") == []


def test_a_run_that_fails(planted, capsys):
    arguments = plant(["--trainer.max_steps", "2", "--data.batch_size", "8", "--data.limit", "50", "--trainer.callbacks+=Failing"], planted)
    with pytest.raises(RuntimeError, match="planted"):
        fit(arguments)
    assert hits(planted / "runs") == []


def test_a_sweep(planted, capsys):
    from experiments.sweeps import Sweep
    from experiments.workers import run_trial

    arguments = plant(["--trainer.max_steps", "2", "--data.batch_size", "8", "--data.limit", "50", "--trainer.callbacks+=Failing"], planted)
    (planted / "runs" / "s").mkdir(parents=True)
    outcome = run_trial(arguments, planted / "runs" / "s" / "trial", planted / "runs" / "s" / "trial.log")
    assert "***" in outcome.reason
    parameters = f"{{note: {{value: {json.dumps(TEXT)}}}}}"
    (planted / "sweep.yaml").write_text(f"method: grid\nexperiment: classifier\ndata: digits\nparameters: {parameters}\n")
    (planted / "runs" / "s" / "sweep.yaml").write_text(Sweep.read(planted / "sweep.yaml").text + outcome.reason)
    assert hits(planted / "runs") == []


# What a config of the tests above names --------------------------------------------------------------------------------------------------

from lightning.pytorch import Callback  # noqa: E402
from torch import nn  # noqa: E402


class Noted(nn.Module):
    """A classifier's network that is told too much."""

    width = 256

    def __init__(self, note: str = "", api_key: str = "", num_classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(256, num_classes)

    def features(self, images):
        return images.flatten(1)

    def forward(self, images):
        return self.layer(self.features(images))


class Leaky(Callback):
    """Gives every logger what it should not have."""

    def on_train_end(self, trainer, pl_module):
        from PIL import Image

        from callbacks.media import declare, log_image, log_table

        log_image(trainer, "val/picture", Image.new("RGB", (8, 8)), caption=TEXT)
        log_table(trainer, "val/table", ["name", TEXT], [[TEXT, 1.0], ["b", None]])
        declare(trainer, "val/x", {"extractor": "x", "note": TEXT, "secret_path": SHAPES["yaml"]})
        print(TEXT)


class Failing(Callback):
    def on_train_start(self, trainer, pl_module):
        raise RuntimeError(f"failed with {TEXT}")
