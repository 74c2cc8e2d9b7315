"""Judges of pictures and captions: a run of ours, a file and a folder of open_clip; what is missing is said at once."""

import os
import time

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.multimodal.clip_score import clip_score as torchmetrics_score

from callbacks import published
from callbacks.clip_score import clip_score
from callbacks.clips import Clip
from datamodules.tokenizers import Vocabulary
from experiments.exporting import write_vocabulary
from tests.callbacks.embedders import Matcher, write_clip_run
from tests.callbacks.test_extractors import write_run
from tests.callbacks.tiny import TinyModel
from tests.callbacks.tiny_open_clip import write_open_clip, write_open_clip_folder

IMAGES = torch.rand(6, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
TEXTS = ["a red star", "a diagram", "two dogs!", "a", "", "an orange moon on the left"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_open_clip(tmp_path_factory.mktemp("open_clip"))


def test_open_clip_by_file_embeds_as_open_clip_does(tiny):
    import open_clip

    clip = Clip(name=tiny[0], pretrained=tiny[1])
    model = open_clip.create_model("tiny_softmax", pretrained=tiny[1])
    words = clip.embed_texts(TEXTS)
    with torch.no_grad():
        assert torch.allclose(words, model.eval().encode_text(open_clip.get_tokenizer("tiny_softmax")(TEXTS), normalize=True), atol=1e-6)
        small = IMAGES[:, :, :32, :32]  # the network's own size, so that nothing is resized
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.visual.image_mean, model.visual.image_std))
        theirs = model.encode_image((small.add(1).div(2) - mean) / std, normalize=True)
        probabilities = (model.logit_scale.exp() * theirs @ words.T).softmax(1)
    assert torch.allclose(clip.embed_images(small), theirs, atol=1e-6) and clip.embed_images(small).shape == (6, 16)
    assert torch.allclose(clip.probabilities(theirs, words), probabilities, atol=1e-6)
    assert clip.embed_images(IMAGES[:, :1]).shape == (6, 16), "gray and larger pictures are fitted"
    settings = clip.settings()
    assert settings["clip"] == clip.name == "clip_tiny_softmax_tiny_softmax" and settings["loss"] == "softmax"
    assert settings["scale"] == pytest.approx(1 / 0.07, rel=1e-5) and len(settings["clip_weights_sha256"]) == 64
    assert settings["preprocessing"].startswith("bicubic to 32x32") and clip(IMAGES).shape == (6, 16), "an extractor too"


def test_a_sigmoid_of_open_clip(tmp_path):
    name, weights = write_open_clip(tmp_path, sigmoid=True)
    clip = Clip(name=name, pretrained=weights)
    image, text = clip.embed_images(IMAGES), clip.embed_texts(TEXTS)
    expected = torch.sigmoid(torch.e**2.3 * image @ text.T - 10)
    assert torch.allclose(clip.probabilities(image, text), expected, atol=1e-6) and clip.settings()["bias"] == -10


def test_a_folder_that_open_clip_has_saved(tmp_path, tiny):
    clip = Clip(name=str(write_open_clip_folder(tmp_path / "saved")))
    assert torch.equal(clip.embed_texts(TEXTS), Clip(name=tiny[0], pretrained=tiny[1]).embed_texts(TEXTS))


def test_a_folder_with_words_of_its_own(tmp_path):
    """As `practicum export` writes one; open_clip itself would need transformers to read the words."""
    import json

    vocabulary = Vocabulary(context_length=8)
    vocabulary.fit(["a red star", "two blue stars left of a moon"])
    folder = write_open_clip_folder(tmp_path / "saved", context_length=8)
    write_vocabulary(vocabulary, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "tokenizer.json"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    texts = ["a red star", "A blue moon, red", "star " * 6, "star " * 7, "star " * 30]
    clip, (tokens, mask) = Clip(name=str(folder)), vocabulary(texts)
    theirs, shown = clip.tokenizer(texts)
    assert torch.equal(theirs, tokens) and torch.equal(shown, mask)
    assert clip.num_truncated == vocabulary.num_truncated == 2 and clip.embed_texts(texts).shape == (5, 16)


def test_long_captions_keep_their_end_token_and_are_counted(tiny):
    clip = Clip(name=tiny[0], pretrained=tiny[1])
    texts = [" ".join(["star"] * num) for num in (1, 75, 76, 77, 78, 500)]
    tokens, mask = clip.tokenizer(texts)
    assert mask.sum(1).tolist() == [3, 77, 77, 77, 77, 77]
    for row, length in zip(tokens, mask.sum(1).tolist(), strict=True):
        assert row[length - 1] == 49407 and (row == 49407).sum() == 1 and (row[length:] == 0).all()
    assert clip.num_seen == 6 and clip.num_truncated == 4
    words = clip.embed_texts(texts)
    assert torch.equal(words[1], words[5]), "the same 75 words are left" and not torch.equal(words[0], words[1])


def test_clip_score_is_that_of_torchmetrics_with_the_same_towers(tiny):
    """To 1e-5, torchmetrics' own function with the model given to it; and to the paper's scale."""
    clip = Clip(name=tiny[0], pretrained=tiny[1])

    class Processor:
        def __call__(self, images=None, text=None, **kwargs):
            if images is not None:
                return {"pixel_values": torch.stack(images)}
            tokens, mask = clip.tokenizer(text)
            return {"input_ids": tokens, "attention_mask": mask}

    class Model(torch.nn.Module):
        config = None

        def get_image_features(self, pixels):
            return 3 * clip.embed_images(pixels).double()

        def get_text_features(self, tokens, mask):
            return clip.network.clip.encode_text(tokens).double()

    pairs = list(zip(IMAGES, TEXTS, strict=True))
    ours = torch.cat([clip_score(clip.embed_images(image[None]), clip.embed_texts([text])) for image, text in pairs])
    with torch.inference_mode():
        theirs = [torchmetrics_score(image, text, lambda: (Model(), Processor())) for image, text in pairs]
    assert ours.tolist() == pytest.approx([float(score) for score in theirs], abs=1e-5)
    assert len({round(score, 3) for score in ours.tolist()}) > 1
    by_hand = F.relu((clip.embed_images(IMAGES).double() * clip.embed_texts(TEXTS).double()).sum(1))
    assert torch.allclose(clip_score(clip.embed_images(IMAGES), clip.embed_texts(TEXTS), 2.5).double(), 2.5 * by_hand, atol=1e-5)


def test_a_run_of_ours(tmp_path):
    run = write_clip_run(tmp_path / "run", Matcher(), data={"image_size": 8})
    clip = Clip(run=run)
    assert clip.name == "quadrants_clip" and clip.settings()["loss"] == "softmax"
    pictures = torch.full((2, 1, 32, 32), 5 / 127.5 - 1)
    assert clip.embed_images(pictures).argmax(1).tolist() == [5, 5]
    assert clip.embed_texts(["5", "7 1 1 1 1"]).argmax(1).tolist()[0] == 5 and clip.num_truncated == 1
    assert clip.shape == (None, 8) and clip.preprocessing == "bicubic to 8x8 with antialias"


@pytest.mark.parametrize("arguments, said", [
    ({}, "give either `run`"),
    ({"run": "a", "name": "b"}, "give either `run`"),
    ({"run": "a", "pretrained": "b"}, "pretrained: b goes with `name`"),
    ({"run": "nowhere"}, "no such file or folder: nowhere; train it first, for instance with `practicum fit clip_scenes`"),
    ({"name": "ViT-B-33", "pretrained": "openai"}, "open_clip has no model 'ViT-B-33'; the nearest name is ViT-B-32"),
    ({"name": "ViT-B-32"}, "give a tag (openai, laion400m_e31"),
    ({"name": "ViT-B-32", "pretrained": "laion2b_s34b_b79"}, "neither a file nor a tag of ViT-B-32; the nearest name is laion2b_s34b_b79k"),
    ({"name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}, "are not in the cache, and HF_HUB_OFFLINE is set: give a local file"),
])
def test_what_is_missing_is_said_in_one_line(arguments, said, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ValueError) as caught:
        Clip(**arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value) and time.monotonic() - start < 3


def test_a_host_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("socket.create_connection", lambda *args, **kwargs: time.sleep(60))
    start = time.monotonic()
    with pytest.raises(ValueError, match="are on the Hugging Face Hub, which cannot be reached"):
        Clip(name="ViT-B-32", pretrained="laion2b_s34b_b79k")
    assert time.monotonic() - start < 3


def test_weights_in_the_cache_are_not_asked_for(monkeypatch, tmp_path):
    """A tag whose file is in the Hub's cache is there, though nothing answers."""
    folder = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / "open_clip_model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("socket.create_connection", lambda *args, **kwargs: pytest.fail("asked"))
    assert published.checked("ViT-B-32", "laion2b_s34b_b79k")
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with published.offline():
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


def test_open_clips_own_table_is_read_as_open_clip_reads_it():
    import open_clip

    assert published.architectures() == sorted(path for path in open_clip.list_models() if not path.startswith("tiny"))
    theirs = {name: set(open_clip.list_pretrained_tags_by_model(name)) for name in published.architectures()}
    assert {name: set(published.published().get(name, {})) for name in theirs} == theirs


def test_a_run_that_cannot_embed_or_has_no_words(tmp_path):
    run = write_run(tmp_path / "run", TinyModel())
    with pytest.raises(ValueError, match="Clip asks TinyModel for embed_images"):
        Clip(run=run).embed_images(IMAGES)
    run = write_clip_run(tmp_path / "other", Matcher())
    os.remove(run / "tokenizer.json")
    with pytest.raises(ValueError, match="json; train the run again"):
        Clip(run=run).embed_texts(["1"])
