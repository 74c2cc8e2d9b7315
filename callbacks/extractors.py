"""Feature networks of Fréchet and kernel distances, each with the name that stands in the metric's key.

`extractor(images [B, C, H, W] in [-1, 1]) -> features [B, D]`. An extractor is no part of the LightningModule (its
weights stay out of checkpoints), is loaded when first asked, moves to the images' device and keeps no gradient.
One-channel images are repeated to three where the network wants three. A value measured with one extractor compares
only with values of the same weights and preprocessing: `about()`.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from callbacks.allowlist import check, denied, guard_parser, run_config
from callbacks.checkpoints import load
from callbacks.media import to_uint8
from callbacks.protocols import Classifies, require
from callbacks.published import checked, is_offline, offline, require_hub


class Extractor:
    """The base: a subclass gives `name`, `preprocessing`, `load` and `features`."""

    name: str
    preprocessing: str

    def load(self) -> nn.Module:
        """The network with its weights."""
        raise NotImplementedError

    def features(self, network: Any, images: Tensor) -> Tensor:
        """Features [B, D] of images [B, C, H, W] in [-1, 1]."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """How the Fréchet distance over it is called: `fid` for the published weights alone, else `fd_<name>`."""
        return f"fd_{self.name}"

    def __call__(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.features(self.network.to(images.device), images.float()).float()

    def about(self) -> dict[str, Any]:
        """Name, SHA-256 of the weights, and what is done to an image before it is shown to the network."""
        return {
            "extractor": self.name,
            "extractor_weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing,
        }

    @cached_property
    def network(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # building a network draws initial weights
            return self.load().eval().requires_grad_(False)

    @cached_property
    def weights_sha256(self) -> str:
        """Of the names and bytes of the state dict, in the order of the names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()


class Inception(Extractor):
    """The network of the published FID: TensorFlow's InceptionV3 of 2015-12-05 as ported by torch-fidelity, 2,048
    features.

    `weights`: its file (`weights-inception-2015-12-05-6726825d.pth`, or pytorch-fid's
    `pt_inception-2015-12-05-6726825d.pth`, the same bytes); by default that of torch's hub cache. Nothing is
    downloaded. Other weights are named `fd_inception_unpublished`.
    """

    URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
    SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # of the file
    preprocessing = "uint8; bilinear to 299x299 as TensorFlow 1 (no antialias); (x - 128) / 128"

    def __init__(self, weights: str | Path | None = None) -> None:
        cached = Path(torch.hub.get_dir()) / "checkpoints" / self.URL.rsplit("/", 1)[1]
        self.weights = existing(
            cached if weights is None else weights,
            f"fetch them once with `curl -L --create-dirs -o {cached} {self.URL}`, or measure with another extractor",
        )

    @cached_property
    def published(self) -> bool:
        return hashlib.sha256(self.weights.read_bytes()).hexdigest() == self.SHA256

    @property
    def name(self) -> str:  # type: ignore[override]
        return "inception" if self.published else "inception_unpublished"

    @property
    def key(self) -> str:
        return "fid" if self.published else f"fd_{self.name}"

    def load(self) -> nn.Module:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
            FeatureExtractorInceptionV3,
        )

        # It unpickles whatever file it is given: give it the bytes of a state dict that was read safely.
        safe = io.BytesIO()
        torch.save(_state_dict(self.weights), safe)
        safe.seek(0)
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe)

    def features(self, network: Any, images: Tensor) -> Tensor:
        return network(to_uint8(_rgb(images)))[0]


class Timm(Extractor):
    """Any network of timm, by its features before the classifier.

    Args:
        model: timm's name, for instance `tf_efficientnet_lite0`.
        weights: a .safetensors or .pth file with timm's keys; by default the pretrained weights from the Hugging Face
            Hub or its cache.
        size: side of the square that images are resized to; by default the network's own.
        mean, std: normalisation of images in 0..1; by default the network's own.
    """

    def __init__(
        self,
        model: str,
        weights: str | Path | None = None,
        size: int | None = None,
        mean: float | list[float] | None = None,
        std: float | list[float] | None = None,
    ) -> None:
        checked = None if weights is None else existing(weights, "give the path of the weights")
        import timm  # after the check, as it takes seconds

        if not timm.is_model(model):
            near = difflib.get_close_matches(model, timm.list_models(), 1)
            raise ValueError(f"timm has no model {model!r}" + (f"; the nearest name is {near[0]}" if near else ""))
        self.model, self.weights = model, checked
        if weights is None and not is_offline():  # then the cache alone is asked
            require_hub(f"the pretrained weights of timm's {model}")
        config = timm.get_pretrained_cfg(model)
        assert config is not None
        self.name = model.replace(".", "_").replace("-", "_")
        self.size = size or config.input_size[-1]
        self.mean, self.std = config.mean if mean is None else mean, config.std if std is None else std
        self.preprocessing = (
            f"bicubic to {self.size}x{self.size} with antialias; (x - {_short(self.mean)}) / {_short(self.std)} on 0..1"
        )

    def load(self) -> nn.Module:
        import timm

        if self.weights is None:
            try:
                return timm.create_model(self.model, pretrained=True)
            except (OSError, RuntimeError) as error:
                raise ValueError(f"timm's {self.model}: {_first_line(error)}; give a file as `weights`") from error
        network = timm.create_model(self.model, pretrained=False)
        return _filled(network, self.weights)

    def features(self, network: Any, images: Tensor) -> Tensor:
        images = _resized(_rgb(images), self.size).add(1).div(2)
        mean, std = (torch.as_tensor(value, device=images.device).view(-1, 1, 1) for value in (self.mean, self.std))
        return network.forward_head(network.forward_features((images - mean) / std), pre_logits=True)


class OpenClip(Extractor):
    """The image tower of an open_clip model, by its embedding.

    `model`: a name of open_clip, a JSON file that describes an architecture, or a folder that open_clip has saved;
    `pretrained`: a published tag or a local file, null for a folder.
    """

    def __init__(self, model: str, pretrained: str | None = None) -> None:
        self.model, self.pretrained = model, pretrained
        self.is_here = checked(model, pretrained)
        words = [Path(model).stem, *([] if pretrained is None else [Path(pretrained).stem])]
        self.name = re.sub(r"\W+", "_", "_".join(["clip", *words]).lower())

    @cached_property
    def preprocessing(self) -> str:  # type: ignore[override]
        visual: Any = self.network.visual
        size = _side(visual.image_size)
        mean, std = _short(visual.image_mean), _short(visual.image_std)
        return f"bicubic to {size}x{size} with antialias; (x - {mean}) / {std} on 0..1"

    def load(self) -> nn.Module:
        import open_clip

        try:
            with offline(self.is_here):
                return open_clip.create_model(self.known_name, pretrained=self.pretrained)
        except Exception as error:  # damaged or hostile files, other shapes, no network: each has an error of its own
            message = f"open_clip's {self.model}, {self.pretrained}: {_first_line(error)}; give a file as `pretrained`"
            raise ValueError(message) from error

    @property
    def known_name(self) -> str:
        """The name by which open_clip knows the model."""
        import open_clip

        if Path(self.model).is_dir():
            return f"local-dir:{self.model}"
        if self.model.endswith(".json"):
            open_clip.add_model_config(self.model)
            return Path(self.model).stem
        return self.model

    def features(self, network: Any, images: Tensor) -> Tensor:
        visual = network.visual
        images = _resized(_rgb(images), _side(visual.image_size)).add(1).div(2)
        mean, std = (
            torch.tensor(value, device=images.device).view(-1, 1, 1) for value in (visual.image_mean, visual.image_std)
        )
        return network.encode_image((images - mean) / std)


class Classifier(Extractor):
    """A classifier of our own, by its last features; `run` is the folder of a finished run of it.

    Named after the data it was trained on, `digits_classifier`: the measure for data on which ImageNet features say
    little.
    """

    preprocessing = "none"

    def __init__(self, run: str | Path) -> None:
        self.run = existing(
            run, "train it first with `practicum fit classifier --data ...` and give the folder of its run"
        )
        existing(
            self.run / "checkpoints" / "last.ckpt", "the run has not finished; train it again or take another one"
        )

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return f"{run_title(self.run)}_classifier"

    def load(self) -> nn.Module:
        network = load_run(self.run)
        require(network, Classifies, self)
        return network

    def features(self, network: Any, images: Tensor) -> Tensor:
        return network.features(images)

    def classify(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W] in [-1, 1]."""
        network: Any = self.network.to(images.device)
        with torch.inference_mode():
            return network.classify(images.float()).float()


def load_run(run: Path) -> nn.Module:
    """The model of a run folder as its config.yaml describes it, with the weights of checkpoints/last.ckpt (the
    averaged ones, if any)."""
    from lightning.pytorch import LightningModule

    return _filled(built(run, "model", LightningModule), run / "checkpoints" / "last.ckpt")


def built(run: Path, key: str, base: type) -> Any:
    """The object, of a subclass of `base`, that a key of a run's config.yaml describes."""
    from jsonargparse import ArgumentError, ArgumentParser

    config = run_config(run)
    guard_parser()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, key, required=True)
    try:
        parsed = parser.parse_object({key: config.get(key)})
    except ArgumentError as error:
        raise ValueError(f"{run / 'config.yaml'}: {denied(error) or _first_line(error)}") from error
    check(parsed, str(run / "config.yaml"))
    try:
        return parser.instantiate_classes(parsed)[key]
    except Exception as error:  # whatever torch and others raise for a value that they cannot use
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = _first_line(Exception(str(cause)))
        raise ValueError(f"{run / 'config.yaml'}: {key} cannot be built: {type(cause).__name__}: {said}") from error


def run_title(run: Path) -> str:
    """The title of the data that a run was trained on, as its status.json has it."""
    import json

    return str(json.loads((run / "status.json").read_text())["title"])


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def _side(size: int | tuple[int, int]) -> int:
    return size if isinstance(size, int) else size[0]


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    loaded = load(path)
    return loaded.get("state_dict", loaded)


def _filled(network: nn.Module, path: Path) -> nn.Module:
    """The network with the weights of a file; all of them, or a one-line error."""
    try:
        network.load_state_dict(_state_dict(path))
    except (RuntimeError, TypeError, AttributeError) as error:  # other shapes, or what is no state dict at all
        message = f"the weights in {path} are not those of {type(network).__name__}: {_first_line(error)}"
        raise ValueError(message) from error
    return network


def existing(path: str | Path, remedy: str) -> Path:
    if not Path(path).exists():
        raise ValueError(f"no such file or folder: {path}; {remedy}")
    return Path(path)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:200]


def _short(value: float | list[float] | tuple[float, ...]) -> str:
    if isinstance(value, int | float):
        return f"{value:g}"
    return f"{value[0]:g}" if len(set(value)) == 1 else "(" + ", ".join(f"{part:g}" for part in value) + ")"
