"""Figures of pictures and captions, drawn for real from runs of two steps: softmax and sigmoid, scenes and a data set of another kind."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from experiments import training
from tests.experiments.test_figures_of_runs import drawn

STEPS = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1", "--trainer.callbacks", "[]", "--data.batch_size", "16"]
SCENES = ["--data.image_size", "16", "--data.path.num_train", "64", "--data.path.num_validation", "30", "--data.path.num_test", "20"]


def colours(folder: Path) -> Path:
    """Flat gray pictures of three classes with captions, 60 rows."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark_gray", "gray", "white"]),
                                  "caption": datasets.Value("string")})
    label = np.arange(60) % 3
    rows = {"image": [Image.fromarray(np.full((12, 12), 100 * value, np.uint8)) for value in label], "label": label,
            "caption": [f"a {('dark', 'gray', 'white')[value]} square, number {row}" for row, value in enumerate(label)]}
    folder.mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The run of an experiment on some data, of two steps, trained once."""
    folder = tmp_path_factory.mktemp("figures")
    runs: dict[tuple, Path] = {}

    def fit(*arguments: str) -> Path:
        if arguments not in runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("WANDB_MODE", "disabled")
                patch.setenv("PRACTICUM_RUNS", str(folder / "runs"))
                runs[arguments] = training.fit([*arguments, *STEPS], quiet=True)
        return runs[arguments]

    return fit


@pytest.mark.parametrize("experiment", ["clip_scenes", "siglip_scenes"])
def test_cards_of_scenes(experiment, fitted, tmp_path):
    numbers = drawn("zero_shot_cards", {"clip": fitted(experiment, *SCENES)}, tmp_path)
    assert len(numbers["cards"]) == 12 and numbers["num_classes"] == 64
    assert [card["split"] for card in numbers["cards"]] == ["validation"] * 8 + ["held_out"] * 4
    for card in numbers["cards"]:
        shares = [share for _, share in card["best"]]
        assert shares == sorted(shares, reverse=True) and len(shares) == 5 and 1 <= card["rank"] <= 64
        assert (card["rank"] <= 5) == (card["right"] in [text for text, _ in card["best"]])
        assert card["probability"] <= shares[0]


def test_three_panels_of_scenes(fitted, tmp_path):
    numbers = drawn("clip_three_panels", {"clip": fitted("clip_scenes", *SCENES)}, tmp_path)
    cosine = np.array(numbers["cosine"])
    assert cosine.shape == (6, 6) and (np.abs(cosine) <= 1).all() and len(set(numbers["captions"])) == 6
    assert numbers["nearest_is_own"] == pytest.approx((cosine.argmax(1) == np.arange(6)).mean())
    assert numbers["split"] == "held_out" and max(numbers["probabilities"], key=numbers["probabilities"].get) == numbers["named"]


def test_of_another_kind_of_data(fitted, tmp_path, tmp_path_factory):
    """Gray pictures in three classes: fewer than a card or a panel could show; no split was held out."""
    data = ["--data.path", str(colours(tmp_path_factory.mktemp("data") / "colours")), "--data.image_size", "12"]
    run = fitted("clip_scenes", "--data.class_path", "datamodules.image_captions.ImageCaptions", *data)
    numbers = drawn("zero_shot_cards", {"clip": run}, tmp_path)
    assert {card["split"] for card in numbers["cards"]} == {"validation"} and len(numbers["cards"]) == 6
    assert all(len(card["best"]) == 3 for card in numbers["cards"]) and numbers["cards"][0]["right"].startswith("a ")
    panels = drawn("clip_three_panels", {"clip": run}, tmp_path)
    assert set(panels["probabilities"]) == {"dark gray", "gray", "white"} and np.shape(panels["cosine"]) == (6, 6)


def test_a_wrong_run_is_one_line(tmp_path, capsys):
    from experiments.__main__ import main

    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "status.json").write_text(json.dumps({"experiment": "x", "id": "run", "state": "running", "title": "scenes"}))
    assert main(["figure", "zero_shot_cards", "--run", f"clip={tmp_path / 'run'}", "--out", str(tmp_path)]) == 2
    assert "no checkpoint there" in capsys.readouterr().err
