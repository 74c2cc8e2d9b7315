"""Figures of trained runs, drawn for real from tiny ones: of gray digits, and of RGB scenes of 64 classes; and what they measure."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import training
from experiments.__main__ import main
from experiments.figures import _strokes, latent_cloud, latent_plane
from experiments.figures import _trained as shared

VAE = """# a tiny {kind}
model:
  class_path: lightning_modules.vae.{kind}
  init_args:
    encoder: {{class_path: lightning_modules.networks.autoencoder.MLPEncoder,
               init_args: {{num_classes: {classes}, latent_dim: {dim}, width: 32, depth: 1}}}}
    decoder: {{class_path: lightning_modules.networks.autoencoder.MLPDecoder,
               init_args: {{num_classes: {classes}, latent_dim: {dim}, width: 32, depth: 1}}}}
    optimizer: {{class_path: torch.optim.Adam, init_args: {{lr: 5.0e-3}}}}
trainer: {{max_steps: {steps}, limit_val_batches: 1, limit_test_batches: 0}}
"""
GAN = """# a tiny game
model:
  class_path: lightning_modules.wgan_gp.ConditionalWGANGP
  init_args:
    generator: {class_path: lightning_modules.networks.gan.Generator, init_args: {num_classes: 10, width: 8}}
    critic: {class_path: lightning_modules.networks.gan.Critic, init_args: {num_classes: 10, width: 8}}
    num_critic_steps: 1
trainer: {max_steps: 4, log_every_n_steps: 1, limit_val_batches: 1, limit_test_batches: 0}
"""
DIGITS = ["--data", "digits", "--data.image_size", "8"]
SCENES = ["--data.class_path", "datamodules.image_classes.ImageClasses", "--data.path", "datamodules.scenes.dataset.Scenes",
          "--data.path.num_train", "300", "--data.path.num_validation", "40", "--data.path.num_test", "10", "--data.image_size", "16"]
KEYS = {"latent_cloud": ["vae"], "latent_scatter": ["vae", "cvae"], "same_z_ten_labels": ["cvae"], "latent_plane": ["cvae"],
        "gan_grid_and_curves": ["model"], "real_and_generated": ["model"]}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of a recipe on some data, trained once."""
    folder = tmp_path_factory.mktemp("figures")
    recipes = {"vae": VAE.format(kind="VAE", classes="null", dim=3, steps=2),
               "plane_vae": VAE.format(kind="VAE", classes="null", dim=2, steps=1),
               "cvae": VAE.format(kind="ConditionalVAE", classes=10, dim=4, steps=150), "model": GAN}
    runs: dict[tuple, Path] = {}

    def fit(name: str, data: list[str]) -> Path:
        if (name, *data) not in runs:
            (folder / f"{name}.yaml").write_text(recipes[name])
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("WANDB_MODE", "disabled")
                patch.setenv("PRACTICUM_RUNS", str(folder / "runs"))
                runs[name, *data] = training.fit([str(folder / f"{name}.yaml"), *data], quiet=True)
        return runs[name, *data]

    return fit


def drawn(name: str, runs: dict[str, Path], out: Path) -> dict:
    """The JSON of a figure drawn through the command line."""
    given = [word for key, run in runs.items() for word in ("--run", f"{key}={run}")]
    assert main(["figure", name, *given, "--out", str(out)]) == 0
    picture = Image.open(out / f"{name}.png")
    assert picture.width > 1000 and len(picture.convert("RGB").getcolors(10**7) or []) > 50, "nearly empty"
    about = json.loads((out / f"{name}.json").read_text(), parse_constant=pytest.fail)       # NaN is no JSON
    assert set(about["runs"]) == set(runs) and json.loads(picture.text["Description"])["runs"] == about["runs"]
    return about["numbers"]


@pytest.mark.parametrize("name", KEYS)
def test_drawn_from_runs_on_digits(name, fitted, tmp_path):
    numbers = drawn(name, {key: fitted(key, DIGITS) for key in KEYS[name]}, tmp_path)
    if name == "latent_cloud":
        assert np.shape(numbers["points"]) == (len(numbers["labels"]), 2) and numbers["axes"][0].startswith("principal component 1 of μ (")
    if name == "latent_scatter":
        assert numbers["vae"]["points"] != numbers["cvae"]["points"] and numbers["vae"]["labels"] == numbers["cvae"]["labels"]
    if name == "same_z_ten_labels":
        assert np.shape(numbers["z"]) == (8, 4) and numbers["classes"] == [str(digit) for digit in range(10)]
    if name == "latent_plane":
        assert set(numbers["r2"]) == set("0123456789") and np.shape(numbers["measured"]) == (81, 2)
    if name == "gan_grid_and_curves":
        curves = numbers["curves"]
        assert [curve["step"] for curve in curves.values()] == [[1, 2, 3, 4]] * 4
        whole = np.array(curves["c_wass"]["value"]) + numbers["penalty_weight"] * np.array(curves["c_gp"]["value"])
        assert np.allclose(curves["c_loss"]["value"], whole, atol=2e-4)
    if name == "real_and_generated":
        assert numbers["real_per_class"] == [10] * 10 and numbers["sampling"]["conditional"]


@pytest.mark.parametrize("name", ["latent_scatter", "same_z_ten_labels", "real_and_generated"])
def test_drawn_from_rgb_pictures_of_64_classes(name, fitted, tmp_path):
    recipes = {"model": "cvae"}
    numbers = drawn(name, {key: fitted(recipes.get(key, key), SCENES) for key in KEYS[name]}, tmp_path)
    if name == "latent_scatter":
        assert len(numbers["vae"]["classes"]) == 64
    else:
        assert len(numbers["classes"]) == shared.MOST_CLASSES


def test_best_and_worst_are_told_by_the_metric_of_the_sweep(fitted, tmp_path, capsys):
    sweep = tmp_path / "sweep"
    values = {"middle": 2.0, "best": 1.0, "diverged": float("nan"), "worst": 3.0}
    trials = []
    for number, (folder, value) in enumerate(values.items()):
        shutil.copytree(fitted("model", DIGITS), sweep / folder)
        with (sweep / folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 4, "val/loss": value}) + "\n")
        trials.append({"parameters": {"lr": number, "width": 8}, "folder": folder, "state": "finished"})
    (sweep / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    (sweep / "sweep.yaml").write_text("metric: {name: val/loss, goal: minimize}\nparameters: {lr: {}, width: {}}\n")
    said = drawn("good_and_bad_hyperparameters", {"trials": sweep}, tmp_path)
    assert [(row["lr"], row["val/loss"]) for row in said["trials"]] == [(1, 1.0), (0, 2.0), (3, 3.0)]
    (sweep / "trials.jsonl").write_text(json.dumps(trials[0]) + "\n")
    assert main(["figure", "good_and_bad_hyperparameters", "--run", f"trials={sweep}"]) == 2
    assert "1 finished trials" in capsys.readouterr().err


def test_two_dimensions_are_drawn_as_they_are(fitted):
    run = fitted("plane_vae", DIGITS)
    numbers = latent_cloud.draw({"vae": run}).numbers
    vae = shared.Trained(run)
    assert numbers["axes"] == ["μ₁", "μ₂"]
    assert np.allclose(numbers["points"], vae.means(*vae.real("validation", 2000)), atol=1e-3)


def test_the_same_run_gives_the_same_pictures(fitted, tmp_path):
    run = fitted("model", DIGITS)
    first, again = (Image.open(out / "real_and_generated.png") for out in (tmp_path / "a", tmp_path / "b")
                    if drawn("real_and_generated", {"model": run}, out))
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("name, key, recipe, says", [
    ("latent_cloud", "vae", "model", "a ConditionalWGANGP has no encode()"),
    ("latent_cloud", "vae", "cvae", "told the label, and this figure has none to give"),
    ("same_z_ten_labels", "cvae", "vae", "told no label, and this figure gives it one"),
    ("gan_grid_and_curves", "model", "cvae", "it has logged no c_loss, c_wass, c_gp, g_loss"),
])
def test_a_wrong_run_is_one_line(name, key, recipe, says, fitted, tmp_path, capsys):
    run = fitted(recipe, DIGITS)
    capsys.readouterr()
    assert main(["figure", name, "--run", f"{key}={run}", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and "--run" in error and error.count("\n") == 1


def stroke(degrees: float, width: float, size: int = 28, ink: float = 1.0, paper: float = -1.0, channels: int = 1) -> np.ndarray:
    """A straight stroke through the middle, leaning right by `degrees`, `width` pixels across, its edges antialiased."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2).astype(float)
    across = np.abs(x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees)))
    along = np.abs(-x * math.sin(math.radians(degrees)) + y * math.cos(math.radians(degrees)))
    share = np.clip(width / 2 - across + 0.5, 0, 1) * np.clip(0.36 * size - along + 0.5, 0, 1)
    return np.repeat((paper + (ink - paper) * share)[None], channels, 0)


@pytest.mark.parametrize("degrees", [-30, -10, 0, 15, 35])
@pytest.mark.parametrize("look", [{}, {"ink": -1.0, "paper": 1.0, "channels": 3}, {"size": 64}], ids=["digit", "dark on white", "large"])
def test_slant_of_a_known_stroke(degrees, look):
    assert _strokes.slant(stroke(degrees, 2.5, **look)) == pytest.approx(degrees, abs=1.5)


@pytest.mark.parametrize("width", [2.0, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("degrees", [0, 20])
@pytest.mark.parametrize("ink", [1.0, 0.0])
def test_width_of_a_known_stroke(width, degrees, ink):
    assert _strokes.stroke_width(stroke(degrees, width, ink=ink)) == pytest.approx(width, rel=0.16)


def test_wider_strokes_measure_wider_and_slant_is_apart_from_width():
    measured = _strokes.measure(np.stack([stroke(12, width) for width in np.linspace(1.5, 6, 10)]))
    assert (np.diff(measured[:, 1]) > 0).all() and np.ptp(measured[:, 0]) < 1.5


def test_no_ink_has_no_measure():
    assert np.isnan(_strokes.measure(np.full((2, 3, 8, 8), 0.3))).all()


def test_the_likeliest_latent_is_asked_for():
    rng = np.random.default_rng(0)
    mu, true = rng.normal(size=(500, 6)), rng.normal(size=(6, 2))
    slopes, offsets = latent_plane.regression(mu, mu @ true + [3.0, 2.0])
    assert np.allclose(slopes, true) and np.allclose(offsets, [3, 2])
    asked = np.array([[3.0, 2.0], [4.0, 1.0]])
    z = latent_plane.latents(asked, slopes, offsets)
    assert np.allclose(z @ true + [3.0, 2.0], asked) and np.allclose(z[0], 0)
    other = z[1] + (np.eye(6) - true @ np.linalg.pinv(true)) @ rng.normal(size=6)             # says the same, and is farther away
    assert np.allclose(other @ true, z[1] @ true) and np.linalg.norm(other) > np.linalg.norm(z[1])
    assert latent_plane.told_by_latent(mu, mu @ true) == pytest.approx([1, 1])
    assert latent_plane.told_by_latent(mu[:10], (mu @ true)[:10]) is None


def test_axes_of_the_plane_hold_the_most_variance():
    points = np.random.default_rng(0).normal(size=(400, 5)) * [1, 5, 0.1, 3, 0.5]
    plane, names = shared.to_plane(points)
    assert np.allclose(np.abs(np.corrcoef(plane.T, points[:, [1, 3]].T)[:2, 2:]).diagonal(), 1, atol=0.02)
    share = points.var(0)[[1, 3]] / points.var(0).sum()
    assert [f"{part:.0%}" in name for part, name in zip(share, names, strict=True)] == [True, True]


def test_a_model_of_one_latent_dimension_is_drawn():
    plane, names = shared.to_plane(torch.randn(20, 1).numpy())
    assert plane.shape == (20, 2) and (plane[:, 1] == 0).all() and names == ["μ₁", ""]
