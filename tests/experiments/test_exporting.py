"""`practicum export`: what it writes, open_clip reads by itself, and sees the same."""

import json

import open_clip
import pytest
import tokenizers
import torch
from PIL import Image
from torch.nn import functional as F

from callbacks.clips import Clip
from experiments import training
from experiments.__main__ import main

TINY = """# tiny towers
data: scenes
model:
  class_path: lightning_modules.{model}
  init_args:
    network:
      class_path: lightning_modules.networks.towers.TwoTowers
      init_args:
        image: {{class_path: lightning_modules.networks.vision.{image}}}
        text: {{class_path: lightning_modules.networks.text.{text}}}
        embedding_dim: 24
data.image_size: 16
data.path.num_train: 64
data.path.num_validation: 16
data.path.num_test: 16
data.batch_size: 16
trainer: {{max_steps: 2, limit_val_batches: 0}}
"""
TEXTS = ["a red star", "two objects: a small blue ring above a large spotted green heart", "a zebra"]


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def run(model="clip.CLIP", image="ViT", text="TextTransformer", flags=()):
        file = tmp_path / "tiny.yaml"
        file.write_text(TINY.format(model=model, image=image, text=text))
        return training.fit([str(file), *flags], out=tmp_path / "run", quiet=True)
    return run


def assert_alike(folder, exported, texts=TEXTS):
    """The same vectors and logits of a picture and texts, ours by the run's folder and open_clip's by what was exported."""
    ours = Clip(run=folder)
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{exported}")
    pixels = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    if (channels := ours.shape[0]) == 1:
        pixels = pixels[..., :1].expand(-1, -1, 3)
    picture = pixels[None].permute(0, 3, 1, 2)[:, :channels] / 127.5 - 1
    tokens, mask = ours.tokenizer(texts)
    with torch.no_grad():
        image, text = ours.network.embed_images(picture), ours.network.embed_tokens(tokens, mask)
        torch.testing.assert_close(theirs.encode_image(preprocess(Image.fromarray(pixels.numpy()))[None], normalize=True), image,
                                   rtol=0, atol=1e-5)
        torch.testing.assert_close(theirs.encode_text(tokens, normalize=True), text, rtol=0, atol=1e-5)
    settings = ours.network.similarity_settings()
    assert float(theirs.logit_scale.exp()) == pytest.approx(settings["scale"], rel=1e-5)
    assert (None if theirs.logit_bias is None else float(theirs.logit_bias)) == (settings["bias"] and pytest.approx(settings["bias"]))
    return theirs


@pytest.mark.parametrize("model", ["clip.CLIP", "siglip.SigLIP"])
def test_a_run_is_read_by_open_clip(model, train, tmp_path, capsys):
    folder, out = train(model), tmp_path / "exported"
    assert main(["export", str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert_alike(folder, out)
    assert {path.name for path in out.iterdir()} == {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json",
                                                     "tokenizer_config.json"}
    texts = [*TEXTS, "a red star and " * 20]
    tokens, mask = Clip(run=folder).tokenizer(texts)
    read = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json")).encode_batch(texts)
    assert [encoded.ids for encoded in read] == tokens.tolist()
    assert [encoded.attention_mask for encoded in read] == mask.int().tolist()


def test_gray_pictures_and_clips_own_tokens(train, tmp_path):
    folder = train(flags=["--data.channels", "1", "--data.tokenizer", "datamodules.tokenizers.ClipTokenizer"])
    assert main(["export", str(folder), "--out", str(tmp_path / "exported")]) == 0
    assert_alike(folder, tmp_path / "exported")
    assert not (tmp_path / "exported" / "tokenizer.json").exists()
    ours = Clip(run=folder).tokenizer(TEXTS)[0]
    assert open_clip.get_tokenizer(f"local-dir:{tmp_path / 'exported'}")(TEXTS).tolist() == ours.tolist()


def test_an_exported_run_is_trained_on_and_exported_again(train, tmp_path):
    """A folder of open_clip's as the network: its weights and its scale are the start, and what comes out is read again."""
    first = train()
    assert main(["export", str(first), "--out", str(tmp_path / "first")]) == 0
    file = tmp_path / "again.yaml"
    content = TINY.format(model="siglip.SigLIP", image="ViT", text="TextTransformer")
    start, end = content.index("    network:"), content.index("data.image_size")
    network = f"    network: {{class_path: lightning_modules.networks.towers.OpenClip, init_args: {{name: {tmp_path / 'first'}}}}}\n"
    file.write_text(content[:start] + network + content[end:])
    again = training.fit([str(file)], out=tmp_path / "second_run", quiet=True)
    assert main(["export", str(again), "--out", str(tmp_path / "second")]) == 0
    theirs = assert_alike(again, tmp_path / "second")
    before = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'first'}", return_transform=False)
    assert F.cosine_similarity(theirs.token_embedding.weight, before.token_embedding.weight).mean() > 0.9


@pytest.mark.parametrize(("image", "text", "said"), [("ResNet", "TextTransformer", "network.image: open_clip has no ResNet"),
                                                     ("ViT", "BagOfWords", "network.text: open_clip has no BagOfWords")])
def test_towers_that_open_clip_lacks(image, text, said, train, tmp_path, capsys):
    folder = train(image=image, text=text)
    assert main(["export", str(folder), "--out", str(tmp_path / "exported")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error and "train it with lightning_modules.networks." in error
    assert not (tmp_path / "exported").exists()


def test_a_folder_that_is_there_is_kept(train, tmp_path, capsys):
    folder, out = train(), tmp_path / "exported"
    out.mkdir()
    (out / "mine").write_text("kept")
    assert main(["export", str(folder), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
