import hashlib
import json
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from callbacks.extractors import Classifier, Inception, OpenClip, Timm
from callbacks.media import to_uint8
from tests.callbacks.tiny import TinyModel

LITE0 = Path(__file__).parents[2] / "../shared/weights/efficientnet_lite0/model.safetensors"


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Random weights in the published network's shape."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unfilled(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict):
            pass

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Unfilled("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(network.state_dict(), path)
    return path


def test_inception_is_torch_fidelitys_network_on_uint8(inception_weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_weights)
    )
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ours = Inception(inception_weights)
    with torch.no_grad():
        expected = theirs(to_uint8(images))[0]
    assert expected.shape == (2, 2048)
    assert torch.equal(ours(images), expected)
    assert torch.allclose(ours(images[:, :1]), ours(images[:, :1].repeat(1, 3, 1, 1)))
    # weights that are not the published ones never give `fid`
    assert (ours.name, ours.key) == ("inception_unpublished", "fd_inception_unpublished")
    ours.SHA256, ours.published = hashlib.sha256(inception_weights.read_bytes()).hexdigest(), True
    assert (ours.name, ours.key) == ("inception", "fid")


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Payload()}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="which is code"):
        Inception(tmp_path / "weights.pth")(torch.zeros(1, 3, 8, 8))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: Inception("nowhere.pth"), "no such file or folder: nowhere.pth; fetch them once with `curl"),
        (lambda: Timm("resnet18", "nowhere.pth"), "no such file or folder: nowhere.pth"),
        (lambda: Timm("resnet81"), "timm has no model 'resnet81'; the nearest name is resnet"),
        (lambda: OpenClip("ViT-B-23", "openai"), "open_clip has no model 'ViT-B-23'; the nearest name is ViT-B-"),
        (lambda: OpenClip("ViT-B-32", "opnai"), "open_clip: 'opnai' is neither a file nor a tag of ViT-B-32"),
        (lambda: Classifier("nowhere"), "no such file or folder: nowhere; train it first with `practicum fit"),
    ],
)
def test_what_is_missing_is_said_in_one_line(make, said):
    with pytest.raises(ValueError) as caught:
        make()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_no_network_is_said_within_three_seconds(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    start = time.monotonic()
    with pytest.raises(ValueError, match="timm's resnet18 are on the Hugging Face Hub, which cannot be reached"):
        Timm("resnet18")
    with pytest.raises(ValueError, match="open_clip's ViT-B-32 are on the Hugging Face Hub"):
        OpenClip("ViT-B-32", "openai")
    assert time.monotonic() - start < 3


def test_timm_by_file(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "resnet10t.pth")
    extractor = Timm("resnet10t", tmp_path / "resnet10t.pth", size=64, mean=0.5, std=0.25)
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():  # already 64 pixels: no resize; (x / 2 + .5 - .5) / .25 = 2 x
        expected = network.forward_head(network.forward_features(2 * images.repeat(1, 3, 1, 1)), pre_logits=True)
    features = extractor(images)
    assert torch.allclose(features, expected, atol=1e-5) and features.shape == (3, 512)
    assert extractor.name == "resnet10t" and extractor.key == "fd_resnet10t"
    assert extractor.about()["preprocessing"] == "bicubic to 64x64 with antialias; (x - 0.5) / 0.25 on 0..1"
    assert not any(weight.requires_grad for weight in extractor.network.parameters()) and not extractor.network.training
    with pytest.raises(ValueError, match="are not those of EfficientNet"):
        Timm("tf_efficientnet_lite0", tmp_path / "resnet10t.pth")(images)


@pytest.mark.skipif(not LITE0.exists(), reason="needs ../shared/weights/efficientnet_lite0")
def test_timm_on_real_weights():
    extractor = Timm("tf_efficientnet_lite0", LITE0, mean=127 / 255, std=128 / 255)
    features = extractor(torch.zeros(2, 3, 32, 32))
    assert features.shape == (2, 1280) and torch.isfinite(features).all()
    assert extractor.weights_sha256.startswith("153bf98ba91b")


def test_open_clip_by_file(tmp_path):
    import open_clip

    torch.manual_seed(0)
    network = open_clip.create_model("ViT-S-32-alt", pretrained=None).eval()
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    extractor = OpenClip("ViT-S-32-alt", str(tmp_path / "mine.pt"))
    features = extractor(torch.zeros(1, 3, 32, 32))
    grey = (0.5 - torch.tensor(network.visual.image_mean)) / torch.tensor(network.visual.image_std)
    with torch.no_grad():
        expected = network.encode_image(grey.view(1, 3, 1, 1).expand(1, 3, 224, 224))
    assert torch.allclose(features, expected, atol=1e-4) and extractor.name == "clip_vit_s_32_alt_mine"


@pytest.fixture
def judge(tmp_path):
    """A run folder of TinyModel, which classifies by quadrant."""
    return write_run(tmp_path / "judge", TinyModel(spread=0.5))


def write_run(folder: Path, model: nn.Module) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    path = f"{type(model).__module__}.{type(model).__qualname__}"
    config = {"model": {"class_path": path, "init_args": {"spread": 0.5}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps({"title": "quadrants"}))
    torch.save({"state_dict": model.state_dict()}, folder / "checkpoints" / "last.ckpt")
    return folder


def test_a_classifier_of_our_own_by_its_run(judge):
    extractor = Classifier(judge)
    assert extractor.name == "quadrants_classifier" and extractor.key == "fd_quadrants_classifier"
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    state = torch.get_rng_state()
    features, logits = extractor(images), extractor.classify(images)
    assert torch.equal(torch.get_rng_state(), state)  # building the network drew, and left no trace
    assert torch.equal(features, TinyModel().features(images)) and torch.equal(logits, TinyModel().classify(images))
    weights = torch.load(judge / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(extractor.network.network.weight, weights["network.weight"])
    assert extractor.network.spread == 0.5


def test_the_hash_is_of_the_weights(judge, tmp_path):
    same, other = TinyModel(), TinyModel()
    same.load_state_dict(torch.load(judge / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    digest = Classifier(judge).weights_sha256
    assert Classifier(write_run(tmp_path / "same", same)).weights_sha256 == digest
    assert Classifier(write_run(tmp_path / "other", other)).weights_sha256 != digest
