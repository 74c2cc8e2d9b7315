"""The verb `sample` on a real, tiny run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import training
from experiments.__main__ import main
from experiments.sampling import at_precision, labels_for, sampler_named
from lightning_modules.diffusion import samplers

EXPERIMENT = """# a tiny diffusion model
data: digits
model:
  class_path: lightning_modules.ddpm.DDPM
  init_args:
    network: {class_path: lightning_modules.networks.unet.UNet, init_args: {num_classes: 10, width: 8, multipliers: [1, 2]}}
    schedule: Cosine
    num_sampling_steps: 4
data.image_size: 8
trainer: {max_steps: 2, limit_val_batches: 0}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampling")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("PRACTICUM_RUNS", str(folder / "runs"))
        return training.fit([str(folder / "tiny.yaml")], quiet=True)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_what_drew_the_picture_stands_in_it(run, tmp_path, capsys):
    out = tmp_path / "grid.png"
    assert main(["sample", str(run), "--num", "4", "--sampler", "Euler Ancestral", "--steps", "3", "--guidance", "2", "--seed", "5",
                 "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    written = json.loads(Image.open(out).text["parameters"])
    assert written | {"sampler": "EulerAncestral(spacing='trailing')", "num_steps": 3, "guidance": 2.0, "seed": 5, "size": "8x8",
                      "label": None} == written


def test_the_precision_is_the_runs_or_the_one_asked_for(run, tmp_path):
    def written(*flags: str) -> str:
        assert main(["sample", str(run), "--num", "1", "--out", str(tmp_path / "one.png"), *flags]) == 0
        return json.loads(Image.open(tmp_path / "one.png").text["parameters"])["precision"]

    assert written() == ("bf16-mixed" if torch.cuda.is_available() else "32-true")
    assert written("--precision", "bf16-mixed") == "bf16-mixed"
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        with at_precision(precision, torch.device("cpu")):
            assert (torch.eye(2) @ torch.eye(2)).dtype == dtype


def test_the_same_seed_draws_the_same_picture_and_flags_count(run, tmp_path):
    def drawn(name: str, *flags: str) -> np.ndarray:
        assert main(["sample", str(run), "--num", "2", "--out", str(tmp_path / name), *flags]) == 0
        return pixels(tmp_path / name)

    first = drawn("a.png", "--label", "3")
    assert np.array_equal(first, drawn("b.png", "--label", "3"))
    assert not np.array_equal(first, drawn("c.png", "--label", "3", "--seed", "9"))
    assert not np.array_equal(first, drawn("d.png", "--label", "3", "--sampler", "ancestral"))


def test_default_place_is_in_the_run(run, capsys):
    assert main(["sample", str(run), "--num", "10", "--label", "7"]) == 0
    assert (run / "samples" / "7-ddim-4-0.png").is_file()


@pytest.mark.parametrize(("flags", "named"), [
    (["--label", "11"], "--label 11"), (["--sampler", "dim"], "ddim"), (["--num", "0"], "--num 0"), (["--steps", "5000"], "5000"),
])
def test_mistakes(run, flags, named, capsys):
    assert main(["sample", str(run), *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert named in error[0]


def test_names_of_samplers():
    assert isinstance(sampler_named("DPMSolverPP2M"), samplers.DPMSolverPP2M)
    assert isinstance(sampler_named("euler ancestral"), samplers.EulerAncestral)


def test_labels():
    assert labels_for(None, ["a", "b", "c"], 5).tolist() == [0, 1, 2, 0, 1]
    assert labels_for("b", ["a", "b"], 2).tolist() == [1, 1]
    assert labels_for("1", ["a", "b"], 2).tolist() == [1, 1]
    assert torch.equal(labels_for(None, [], 3), torch.zeros(3, dtype=torch.long))


def test_beginnings_of_names_are_enough_where_only_one_begins_so():
    assert isinstance(sampler_named("Euler a"), samplers.EulerAncestral)
    assert isinstance(sampler_named("dpm"), samplers.DPMSolverPP2M)
    assert isinstance(sampler_named("euler"), samplers.Euler)


def test_a_classifier_draws_no_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = training.fit(["classifier", "--data", "digits", "--trainer.max_steps", "1"], out=tmp_path / "judge", quiet=True)
    assert main(["sample", str(folder)]) == 2
    assert "a Classifier draws no pictures" in capsys.readouterr().err


ONE_STEP = """# a tiny conditional VAE
data: digits
model:
  class_path: lightning_modules.vae.ConditionalVAE
  init_args:
    encoder: {class_path: lightning_modules.networks.autoencoder.MLPEncoder, init_args: {num_classes: 10, width: 8}}
    decoder: {class_path: lightning_modules.networks.autoencoder.MLPDecoder, init_args: {num_classes: 10, width: 8}}
data.image_size: 8
trainer: {max_steps: 2, limit_val_batches: 0}
"""


def test_a_model_of_one_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "tiny.yaml").write_text(ONE_STEP)
    folder = training.fit([str(tmp_path / "tiny.yaml")], out=tmp_path / "run", quiet=True)
    assert main(["sample", str(folder), "--label", "3", "--num", "4"]) == 0
    picture = folder / "samples" / "3-mean-1-0.png"
    assert json.loads(Image.open(picture).text["parameters"])["num_steps"] == 1
    capsys.readouterr()
    for flag, value in (("--steps", "5"), ("--guidance", "2.0"), ("--sampler", "ddim")):
        assert main(["sample", str(folder), flag, value]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert f"{flag} {value}: a ConditionalVAE draws in one step" in error[0]
