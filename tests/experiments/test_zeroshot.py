"""The verb `zeroshot`: a file of open_clip, a run of ours, folders and data sets of the list; mistakes are one line, at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks import published
from callbacks.clips import Clip
from callbacks.evaluation import RealImages
from datamodules.image_classes import ImageClasses
from experiments import training
from experiments.__main__ import main
from tests.callbacks.tiny_open_clip import write_open_clip, write_open_clip_folder

SMALL = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1", "--trainer.callbacks", "[]", "--data.image_size", "16",
         "--data.path.num_train", "64", "--data.path.num_validation", "30", "--data.path.num_test", "20", "--data.batch_size", "16"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_open_clip(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps of clip_scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("PRACTICUM_RUNS", str(tmp_path_factory.mktemp("runs")))
        return training.fit(["clip_scenes", *SMALL], quiet=True)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders of flat colours in several sizes; a class has an underscore in its name."""
    for colour, pixel in (("bright_red", (255, 0, 0)), ("green", (0, 255, 0)), ("blue", (0, 0, 255))):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / colour).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((20 + 4 * number, 20, 3), pixel, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / colour / f"{number}.png")
    return tmp_path / "photos"


def table(out: Path) -> dict:
    return json.loads((out / "zeroshot.json").read_text())


def test_a_file_of_open_clip_on_a_list_of_data_sets(tiny, photos, tmp_path, capsys):
    out = tmp_path / "table"
    assert main(["zeroshot", tiny[0], "--pretrained", tiny[1], "--data", "digits", str(photos), "--num", "30", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "digits" in printed and "photos" in printed and str(out / "index.html") in printed
    found = table(out)
    digits, folder = found["rows"]
    assert (digits["num_classes"], digits["num_images"], digits["split"], digits["chance"]) == (10, 30, "test", 0.1)
    assert (folder["data"], folder["num_classes"], folder["num_images"]) == ("photos", 3, 12)
    assert found["templates"] == ["a photo of a {}"] and found["loss"] == "softmax" and len(found["clip_weights_sha256"]) == 64
    assert digits["low"] <= digits["top1"] <= digits["high"] and len(folder["said"]) == 8
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64") == 16 and "http" not in page and "a photo of a {}" in page

    clip, data = Clip(name=tiny[0], pretrained=tiny[1]), ImageClasses("digits", image_size=16)
    real = RealImages.among(data, "test")
    words = clip.embed_texts([f"a photo of a {name}" for name in data.class_names])
    right = (clip.embed_images(real.images(0, 30)) @ words.T).argmax(1) == real.labels(30)
    assert digits["top1"] == pytest.approx(right.double().mean().item()), "counted by hand"


def test_a_run_of_ours_and_a_folder_that_open_clip_has_saved(run, tmp_path):
    scenes = tmp_path / "one.yaml"
    scenes.write_text("data:\n  class_path: datamodules.image_classes.ImageClasses\n  init_args:\n    image_size: 24\n    path:\n"
                      "      class_path: datamodules.scenes.dataset.Scenes\n"
                      "      init_args: {num_train: 20, num_validation: 20, num_test: 20}\n")
    ask = ["--data", str(scenes), "digits", "--split", "validation", "--template", "a {}", "--template", "a large {}"]
    assert main(["zeroshot", str(run), *ask, "--out", str(tmp_path / "a")]) == 0
    found = table(tmp_path / "a")
    assert found["clip"] == "scenes_clip" and found["templates"] == ["a {}", "a large {}"]
    assert [row["num_images"] for row in found["rows"]] == [20, 360], "24-pixel scenes and gray digits are fitted to the towers"
    saved = write_open_clip_folder(tmp_path / "saved")
    assert main(["zeroshot", str(saved), "--data", "digits", "--num", "10", "--out", str(tmp_path / "b")]) == 0
    assert main(["zeroshot", str(run), "--data", str(scenes), "--split", "held_out", "--out", str(tmp_path / "c")]) == 0
    assert table(tmp_path / "c")["rows"][0]["split"] == "held_out"


def test_underscores_become_spaces(tiny, photos, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Clip, "classifier", lambda self, names, templates: asked.extend(names) or torch.ones(len(names), 16))
    assert main(["zeroshot", tiny[0], "--pretrained", tiny[1], "--data", str(photos), "--out", str(tmp_path / "table")]) == 0
    assert asked == ["blue", "bright red", "green"]


@pytest.mark.parametrize("arguments, said", [
    (["ViT-B-33", "--pretrained", "openai", "--data", "digits"], "open_clip has no model 'ViT-B-33'; the nearest name is ViT-B-32"),
    (["ViT-B-32", "--pretrained", "openai", "--data", "digts"], "data set 'digts': there is no such name or folder; nearest: digits"),
    (["clip_scens", "--data", "digits"], "no such run folder here or in"),
    (["ViT-B-32", "--data", "digits"], "give a tag (openai"),
    (["ViT-B-32", "--pretrained", "openai", "--data", "digits"], "are not in the cache, and HF_HUB_OFFLINE is set: give a local file"),
    (["ViT-B-32", "--pretrained", "openai", "--data", "digits", "--template", "a photo"], "--template 'a photo': has no {}"),
    (["ViT-B-32", "--data", "digits", "--num", "0"], "--num 0"),
    (["ViT-B-32", "--pretraind", "x", "--data", "digits"], "unknown flag --pretraind; nearest: --pretrained"),
])
def test_mistakes_are_one_line(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert main(["zeroshot", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_mistakes_that_the_data_show(tiny, run, tmp_path, capsys):
    ask = ["zeroshot", tiny[0], "--pretrained", tiny[1], "--data"]
    (tmp_path / "plain").mkdir()
    for number in range(12):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "plain" / f"{number}.png")
    assert main([*ask, str(tmp_path / "plain")]) == 2
    assert "has no classes, so there is nothing to name" in capsys.readouterr().err
    assert main([*ask, "digits", "--split", "held_out"]) == 2
    assert "split: digits has no split 'held_out' (it has: train, validation, test)" in capsys.readouterr().err
    assert main(["zeroshot", str(run), "--pretrained", "openai", "--data", "digits"]) == 2
    assert "has its own weights" in capsys.readouterr().err


def test_a_published_tag_without_network_is_said_within_three_seconds(tmp_path):
    """The whole command, from nothing: it imports neither torch nor open_clip, whose own attempt takes most of a minute."""
    code = ("import socket, sys, time; socket.create_connection = lambda *a, **k: time.sleep(60)\n"
            "from experiments.__main__ import main\n"
            "code = main(['zeroshot', 'ViT-B-32', '--pretrained', 'laion2b_s34b_b79k', '--data', 'digits'])\n"
            "assert 'torch' not in sys.modules and 'open_clip' not in sys.modules\nsys.exit(code)")
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | {"HF_HUB_CACHE": str(tmp_path)}
    start, before = time.monotonic(), os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the weights laion2b_s34b_b79k of open_clip's ViT-B-32 are on the Hugging Face Hub, which cannot be reached" in done.stderr
    wall, after = time.monotonic() - start, os.times()
    work = after.children_user + after.children_system - before.children_user - before.children_system
    assert min(wall, published.HUB_TIMEOUT + work) < 3, f"{wall:.1f} s, {work:.1f} s of them work"
