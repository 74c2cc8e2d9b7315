"""The towers against open_clip's: copied weights give the same vectors, and its own models behind `OpenClip` do as they do there."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer as TheirText
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import nn

from datamodules.tokenizers import ClipTokenizer
from experiments.exporting import of_image, of_text
from lightning_modules.networks.text import TextTransformer
from lightning_modules.networks.towers import OpenClip
from lightning_modules.networks.vision import ViT

SMALL = {"embed_dim": 24,
         "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
         "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
TEXTS = ["a red star", "two objects: a small blue ring above a large spotted green heart", ""]


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """With gains and biases too that are not the ones and zeros they start as."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize(("size", "patch", "channels"), [(32, 4, 3), (24, 8, 3), (32, 8, 1)])
def test_vit(size, patch, channels):
    ours = stirred(ViT(channels=channels, image_size=size, patch_size=patch, width=48, depth=3, head_dim=16))
    projection = stirred(nn.Linear(48, 20, bias=False))
    theirs = VisionTransformer(image_size=size, patch_size=patch, width=48, layers=3, heads=3, mlp_ratio=4.0, output_dim=20)
    theirs.load_state_dict({name.removeprefix("visual."): weight for name, weight in of_image(ours, projection).items()})
    images = torch.rand(5, channels, size, size) * 2 - 1
    with torch.no_grad():
        assert_same(projection(ours(images)), theirs(images.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("pool", ["argmax", "eos"])
def test_text_transformer(pool):
    tokenizer = ClipTokenizer()
    ours = stirred(TextTransformer(width=48, depth=3, head_dim=16))
    projection = stirred(nn.Linear(48, 20, bias=False))
    theirs = TheirText(width=48, heads=3, layers=3, output_dim=20, pool_type=pool, eos_id=tokenizer.end)
    theirs.load_state_dict(of_text(ours, projection))
    tokens, mask = tokenizer([*TEXTS, "word " * 200])
    with torch.no_grad():
        assert_same(projection(ours(tokens, mask)), theirs(tokens))


@pytest.fixture
def architecture(tmp_path):
    """A JSON file of a small architecture, and weights that open_clip has saved of it."""
    described, weights = tmp_path / "ViT-small-practicum.json", tmp_path / "weights.pt"
    described.write_text(json.dumps(SMALL))
    open_clip.add_model_config(described)
    model = stirred(open_clip.create_model(described.stem), seed=1)
    torch.save({"state_dict": model.state_dict()}, weights)
    return described, weights, model


def test_a_file_of_weights_does_as_in_open_clip(architecture):
    described, weights, model = architecture
    network = OpenClip(str(described), str(weights)).eval()
    assert network.learned_scale == pytest.approx(model.logit_scale.exp().item())
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    preprocess = open_clip.image_transform(model.visual.image_size, is_train=False)
    tokens, mask = ClipTokenizer()(TEXTS)
    with torch.no_grad():
        ours = network.image(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1)
        assert_same(ours, model.encode_image(preprocess(Image.fromarray(pixels))[None]))
        assert_same(network.text(tokens, mask), model.encode_text(open_clip.get_tokenizer(described.stem)(TEXTS)))


def test_pictures_of_another_size_are_resized_as_open_clip_does(architecture):
    described, weights, model = architecture
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = coarse.resize((40, 40), Image.Resampling.BICUBIC)
    preprocess = open_clip.image_transform(model.visual.image_size, is_train=False)
    seen = {}
    network = OpenClip(str(described), str(weights)).eval()
    network.model.visual.register_forward_pre_hook(lambda module, inputs: seen.update(pixels=inputs[0]))
    with torch.no_grad():
        network.image(torch.from_numpy(np.asarray(smooth).copy()).permute(2, 0, 1)[None] / 127.5 - 1)
    levels = (seen["pixels"] - preprocess(smooth)[None]) * network.std * 255
    assert levels.abs().max() < 1.5, "Pillow rounds to whole levels after each of its two passes; nothing else differs"


def test_gray_pictures_become_rgb(architecture):
    network = OpenClip(str(architecture[0]), str(architecture[1])).eval()
    gray = torch.rand(2, 1, 16, 16) * 2 - 1
    with torch.no_grad():
        assert_same(network.image(gray), network.image(gray.repeat(1, 3, 1, 1)))


def test_mistakes_are_one_line_with_the_remedy(architecture, tmp_path, monkeypatch):
    described, weights, _ = architecture
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(weights.read_bytes()[:5000])
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, other)
    for arguments, said in (
        ({"name": "ViT-B32"}, "take ViT-B-32"),
        ({"name": "ViT-B-32", "pretrained": "laion3b"}, "neither a file nor a tag of ViT-B-32 (tags: openai"),
        ({"name": "RN50", "pretrained": "yfcc15m"}, "not in the cache"),
        ({"name": str(described), "pretrained": str(damaged)}, "damaged.pt cannot be loaded"),
        ({"name": str(described), "pretrained": str(other)}, "other.pt cannot be loaded"),
        ({"name": str(described), "vocabulary_size": 60}, "give --data.tokenizer datamodules.tokenizers.ClipTokenizer"),
        ({"name": str(described), "context_length": 100}, "give 77"),
    ):
        with pytest.raises(ValueError) as caught:
            OpenClip(**arguments)
        assert said in str(caught.value) and "\n" not in str(caught.value), caught.value


def test_a_checkpoint_runs_no_code(architecture, tmp_path):
    import os

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    file = tmp_path / "harmful.pt"
    torch.save({"state_dict": {"weight": Harmful()}}, file)
    with pytest.raises(ValueError, match="cannot be loaded"):
        OpenClip(str(architecture[0]), str(file))
    assert not (tmp_path / "run").exists()
