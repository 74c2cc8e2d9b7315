"""Figures of what was never trained on, drawn for real from tiny runs: words and images, detection, robustness."""

import json

import pytest
from PIL import Image

from experiments import training
from experiments.__main__ import main
from experiments.figures import robustness, words_and_images, zero_shot_detection

ROAD = """# a tiny model of images among words
model:
  class_path: {model}
  init_args:
    network: {{class_path: lightning_modules.networks.conv.ConvNet, init_args: {{width: 4}}}}
    words: {{class_path: lightning_modules.networks.word_vectors.WordVectors, init_args: {{path: {words}}}}}
data.path: {{class_path: datamodules.held_out.HeldOut, init_args: {{whole: digits, unseen: ["3", "7"]}}}}
data.class_path: datamodules.image_classes.ImageClasses
data.image_size: 8
trainer: {{max_steps: 2, limit_val_batches: 1, limit_test_batches: 0}}
"""
SCENES = "{class_path: datamodules.scenes.dataset.Scenes, init_args: {max_objects: 1, num_train: 300, num_validation: 20, num_test: 20}}"
CLIP = """# a tiny CLIP
data: scenes
data.path: SCENES
data.batch_size: 32
model:
  class_path: lightning_modules.clip.CLIP
  init_args:
    network:
      class_path: lightning_modules.networks.towers.TwoTowers
      init_args:
        image: {class_path: lightning_modules.networks.vision.ResNet, init_args: {widths: [8, 32]}}
        text: {class_path: lightning_modules.networks.text.BagOfWords, init_args: {width: 16}}
        embedding_dim: 16
trainer: {max_steps: 2, limit_val_batches: 1, limit_test_batches: 0}
""".replace("SCENES", SCENES)
CLASSIFIER = """# a tiny classifier
data: scenes_classes
data.path: SCENES
data.batch_size: 32
model:
  class_path: lightning_modules.classifier.Classifier
  init_args:
    network: {class_path: lightning_modules.networks.conv.ConvNet, init_args: {num_classes: 64, width: 4}}
trainer:
  max_steps: 4
  val_check_interval: 2
  limit_val_batches: 1
  limit_test_batches: 0
  callbacks:
    - class_path: callbacks.accuracy_on.AccuracyOn
      init_args:
        data:
""".replace("SCENES", SCENES) + "".join(
    f"          {name}: {{class_path: datamodules.image_classes.ImageClasses, init_args: {{image_size: 32, path: {SCENES[:-2]}, "
    f"shift: {shift}}}}}}}}}\n"
    for name, shift in robustness.SHIFTS.items())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The run of a recipe, trained once."""
    folder = tmp_path_factory.mktemp("zero_shot")
    (folder / "words.txt").write_text("".join(f"{digit} {digit - 4.5} {(digit * 7) % 10 - 4.5} 1\n" for digit in range(10)))
    models = {"socher": "lightning_modules.socher.Socher", "devise": "lightning_modules.devise.DeViSE"}
    recipes = {name: ROAD.format(model=model, words=folder / "words.txt") for name, model in models.items()}
    recipes |= {"clip": CLIP, "classifier": CLASSIFIER}
    runs = {}

    def fit(name: str):
        if name not in runs:
            (folder / f"{name}.yaml").write_text(recipes[name])
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("WANDB_MODE", "disabled")
                patch.setenv("PRACTICUM_RUNS", str(folder / "runs"))
                runs[name] = training.fit([str(folder / f"{name}.yaml")], quiet=True)
        return runs[name]

    return fit


def check(figure, out, width: int = 800) -> None:
    figure.savefig(out / "figure.png")
    picture = Image.open(out / "figure.png")
    assert picture.width > width and len(picture.convert("RGB").getcolors(10**7) or []) > 50, "nearly empty"


def test_words_and_images(fitted, tmp_path, capsys):
    figure, numbers = words_and_images.draw({"socher": fitted("socher"), "devise": fitted("devise")})
    check(figure, tmp_path)
    assert json.loads(json.dumps(numbers)) and set(numbers["space"]["words"]) == set("0123456789")
    hits = numbers["hits"]
    assert hits["unseen classes hit@1"][3] == 0.1 and 0 <= hits["seen classes hit@5"][0] <= 1
    curve = numbers["gate"]["curve"]
    assert curve[0][2] == 0 and curve[-1][3] == 0 and curve[-1][2] == pytest.approx(numbers["gate"]["among_seen"][0], abs=1e-4)
    assert main(["figure", "words_and_images", "--run", f"socher={fitted('clip')}", "--run", f"devise={fitted('devise')}"]) == 2
    assert "a CLIP has no recognise(), which this figure asks for" in capsys.readouterr().err


def test_zero_shot_detection(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(zero_shot_detection, "NUM", 16)
    monkeypatch.setattr(zero_shot_detection, "SHOWN", 1)
    figure, numbers = zero_shot_detection.draw({"clip": fitted("clip")})
    check(figure, tmp_path)
    assert json.loads(json.dumps(numbers))["measured"]["clip"]["iou"][3] == numbers["measured"]["middle"]["iou"][3] > 16
    assert len(numbers["shown"][0]) == 3


def test_robustness(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "NUM", 20)
    figure, numbers = robustness.draw({"clip": fitted("clip"), "classifiers": fitted("classifier")})
    check(figure, tmp_path)
    assert [len(values) for values in json.loads(json.dumps(numbers))["points"].values()] == [2] * 6
    value, low, high = numbers["shifts"]["noise"]["effective_robustness"]
    assert low <= value <= high
