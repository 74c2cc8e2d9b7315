"""From a run to a data set of its pictures, to a classifier trained on them, to the page that compares."""

import json

import datasets
import numpy as np
import pytest
import torch
import yaml

from callbacks.extractors import load_run
from callbacks.media import to_uint8
from datamodules.image_classes import ImageClasses
from experiments import sampling, training
from experiments.__main__ import main
from experiments.catalogue import entries
from experiments.page.groups import compare, short
from experiments.request import Request, samples_in, with_samples
from experiments.runs import load_runs
from experiments.sweeps import Sweep, recipe

GENERATOR = """# a tiny conditional VAE
data: digits
model:
  class_path: lightning_modules.vae.ConditionalVAE
  init_args:
    encoder: {class_path: lightning_modules.networks.autoencoder.MLPEncoder, init_args: {num_classes: 10, width: 8}}
    decoder: {class_path: lightning_modules.networks.autoencoder.MLPDecoder, init_args: {num_classes: 10, width: 8}}
data.image_size: 16
trainer: {max_steps: 3, limit_val_batches: 0}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs/ and tiny.yaml, the generator's experiment; in all tests the same, so it is trained once."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "tiny.yaml").write_text(GENERATOR)
    (folder / "unused.yaml").write_text(GENERATOR)
    return folder


@pytest.fixture(autouse=True)
def own_runs(place, monkeypatch):
    monkeypatch.setenv("PRACTICUM_RUNS", str(place / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def generator(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("PRACTICUM_RUNS", str(place / "runs"))
        return training.fit([str(place / "tiny.yaml")], quiet=True)


def test_a_folder_is_a_data_set(generator, tmp_path, capsys):
    out = tmp_path / "drawn"
    assert main(["sample", str(generator), "--num", "25", "--seed", "7", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn"], "no half-made folder stays"
    about = json.loads((out / "parameters.json").read_text())
    assert about | {"seed": 7, "num_images": 25, "run": f"tiny/{generator.name}", "num_steps": 1} == about
    data = ImageClasses(str(out), validation_split=0.2)
    assert data.class_names == [str(digit) for digit in range(10)]
    rows = datasets.load_dataset(str(out))["train"]
    assert rows["label"] == [number % 10 for number in range(25)]
    model = load_run(generator).eval()
    for number in (0, 13, 24):      # drawn alone, with its own seed
        with torch.no_grad():
            alone = model.sample({"label": torch.tensor([number % 10])}, generator=[torch.Generator().manual_seed(7 + number)])
        assert np.abs(np.asarray(rows[number]["image"], dtype=int) - to_uint8(alone)[0, 0].numpy()).max() <= 1

    assert main(["sample", str(generator), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_batches_of_any_size_draw_the_same_pictures_and_none_twice(generator, tmp_path):
    model, labels = sampling.generative(generator), torch.zeros(30, dtype=torch.long)
    drawn = []
    for size in (7, 30):
        out = sampling.write_data_set(model, generator, tmp_path / str(size), labels, batch_size=size)
        drawn.append([np.asarray(row["image"], dtype=int) for row in datasets.load_dataset(str(out))["train"]])
    assert np.abs(np.array(drawn[0]) - np.array(drawn[1])).max() <= 1
    assert len({picture.tobytes() for picture in drawn[0]}) == 30


def test_a_folder_appears_only_when_it_is_whole(generator, tmp_path):
    model = sampling.generative(generator)

    class Breaks:
        device, sampling_settings = model.device, model.sampling_settings

        def sample(self, batch, **arguments):
            assert not (tmp_path / "drawn").exists()
            return model.sample(batch, **arguments) * float("nan")

    with pytest.raises(ValueError, match="NaN"):
        sampling.write_data_set(Breaks(), generator, tmp_path / "drawn", torch.zeros(4, dtype=torch.long))
    assert list(tmp_path.iterdir()) == []


def test_samples_of_a_run_are_trained_for_drawn_once_and_compared(place, capfd):
    """One trial on real rows, one on generated ones, one on both: the sweep trains and draws what they use, and only that."""
    few = {"trainer.max_steps": {"value": 2}, "data.limit": {"value": 60}, "data.image_size": {"value": 16}}
    drawn = f"samples:{place}/tiny.yaml:1200"
    sweep = {"name": "arms", "experiment": "real_vs_generated", "method": "grid", "metric": {"name": "val/accuracy", "goal": "maximize"},
             "parameters": {**few, "data.path.train": {"values": [["real"], [drawn], ["real", drawn]]}}}
    (place / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    assert main(["compare", str(place / "sweep.yaml"), "--workers", "1"]) == 0
    said = capfd.readouterr().out
    assert f"first, unless finished runs are there, what real_vs_generated needs: {place}/tiny.yaml" in said
    assert not (place / "runs" / "unused").exists()
    (generator,) = (path for path in (place / "runs" / "tiny").iterdir() if path.name != "latest" and (path / "samples").is_dir())
    assert [path.name for path in (generator / "samples").iterdir()] == ["data-1200-0"]

    runs = load_runs([path for path in (place / "runs" / "arms").iterdir() if (path / "status.json").is_file()])
    comparison = compare(runs)
    assert [group.label for group in comparison.groups] == ["train [real]", "train [tiny]", "train [real, tiny]"]
    assert all(run.last("val/accuracy") is not None and run.last("val/accuracy_of_3") is not None for run in runs)
    assert {run.config["data"]["init_args"]["validation_split"] for run in runs} == {"test"}
    assert "train [real, tiny]" in (place / "runs" / "arms" / "report" / "index.html").read_text()


def test_samples_that_a_flag_takes_out_are_not_drawn(place, tmp_path, monkeypatch):
    content = yaml.safe_load((next(e for e in entries("experiment") if e.name == "real_vs_generated")).path.read_text())
    content["data.path"]["init_args"]["train"] = [f"samples:{place}/unused.yaml"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    request = Request.read([str(tmp_path / "mine.yaml"), '--data.path.train=["real"]'])
    asked = []
    monkeypatch.setattr(training, "fit_need", lambda need, *_: asked.append(need))
    training.settle_samples(request, training.check(request), quiet=True)
    assert asked == []
    request = Request.read([str(tmp_path / "mine.yaml")])
    with pytest.raises(TypeError):     # fit_need gave no folder: it was asked
        training.settle_samples(request, training.check(request), quiet=True)
    assert asked == [f"{place}/unused.yaml"]


def test_an_experiment_without_data_is_a_mistake(tmp_path, capsys):
    assert main(["fit", "real_vs_generated", '--data.path.train=["samples:classifier"]']) == 2
    assert "samples:classifier: the experiment names no data set" in capsys.readouterr().err


def test_the_strings(tmp_path):
    value = {"a": ["samples:x", 1], "b": "samples:x:20", "c": '["real", "samples:./y/z.yaml:3"]', "d": "free samples: none"}
    assert samples_in(value) == {("x", 10000), ("x", 20), ("./y/z.yaml", 3)}
    assert with_samples(value, {("x", 10000): tmp_path, ("./y/z.yaml", 3): tmp_path}) == {
        "a": [str(tmp_path), 1], "b": "samples:x:20", "c": f'["real", "{tmp_path}"]', "d": "free samples: none"}
    assert short(["real", "/runs/cvae_mnist/20261122-001016-e701/samples/data-54000-0"]) == "[real, cvae_mnist]"


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist"])
def test_the_sweeps(data):
    sweep = Sweep.read(f"real_vs_generated_{data}")
    arms = sweep.parameters["data.path.train"].choices
    families = sorted({name for arm in arms for name, _ in samples_in(arm)})
    assert families == [f"cvae_{data}", f"cwgan_gp_{data}", f"ddpm_{data}_cosine"]
    assert sweep.num_trials == 21 and {entry.name for entry in entries("experiment")} >= set(families)
    assert recipe({"experiment": "real_vs_generated", "data": data})
