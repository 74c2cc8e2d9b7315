"""Judges of pictures and captions: two towers of our own or of open_clip, with the tokenizer that belongs to them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from callbacks.allowlist import imported, run_config
from callbacks.extractors import Extractor, OpenClip, existing, load_run, run_title
from callbacks.protocols import Embeds, require


class Clip(Extractor):
    """Embeds pictures and texts as unit vectors of one space; the image tower serves a Fréchet distance as well.

    Args:
        run: The folder of a finished run of ours, for instance of `clip_scenes`; or
        name: An architecture of open_clip, a JSON file that describes one, or a folder that open_clip has saved.
        pretrained: With `name`: a published tag or a local file; null for a folder.
    """

    def __init__(self, run: str | Path | None = None, name: str | None = None, pretrained: str | None = None) -> None:
        if (run is None) == (name is None):
            raise ValueError("Clip: give either `run`, a run folder of ours, or `name`, an architecture of open_clip")
        if run is not None and pretrained is not None:
            raise ValueError(f"Clip: pretrained: {pretrained} goes with `name`; the run {run} has its own weights")
        self.run = None if run is None else _finished(run)
        self.open_clip = None if name is None else OpenClip(name, pretrained)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return self.open_clip.name if self.open_clip else f"{run_title(self._run)}_clip"

    @cached_property
    def preprocessing(self) -> str:  # type: ignore[override]
        if self.open_clip:
            return self.open_clip.preprocessing
        size = "its own size" if self.shape[1] is None else f"{self.shape[1]}x{self.shape[1]}"
        return f"bicubic to {size} with antialias"

    @cached_property
    def shape(self) -> tuple[int | None, int | None]:
        """Channels and side of the pictures that a run of ours was trained on; None where any will do."""
        if self.open_clip:
            return None, None
        config = run_config(self._run)
        size = config["data"]["init_args"].get("image_size") or _argument(config["model"], "image_size")
        return _argument(config["model"], "channels"), size

    @property
    def image_size(self) -> int | None:
        """The side of the pictures that the towers see; None where any will do."""
        if self.open_clip:
            network: Any = self.open_clip.network
            side = network.visual.image_size
            return side if isinstance(side, int) else side[0]
        return self.shape[1]

    @cached_property
    def tokenizer(self) -> Any:
        """Texts -> tokens int64 [N, T] and mask bool [N, T]; counts `num_seen` and `num_truncated` texts."""
        return OpenClipTokenizer(self.open_clip) if self.open_clip else _tokenizer(self._run)

    def load(self) -> nn.Module:
        network = OpenClipTowers(self.open_clip) if self.open_clip else load_run(self._run)
        require(network, Embeds, self)
        return network

    def features(self, network: Any, images: Tensor) -> Tensor:
        return network.embed_images(_fitted(images, *self.shape))

    def embed_images(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Unit vectors float32 [N, D] of images [N, C, H, W] in [-1, 1], of any size, gray or RGB, on their device."""
        with self.autocast():
            return torch.cat([self(part) for part in images.split(batch_size)])

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Unit vectors float32 [N, D] of N texts, on the network's device. Of a text that is too long the end is cut off."""
        network: Any = self.network
        device = next(network.parameters()).device
        with torch.inference_mode(), self.autocast():
            parts = [self.tokenizer(texts[at : at + batch_size]) for at in range(0, len(texts), batch_size)]
            embedded = [network.embed_tokens(tokens.to(device), mask.to(device)).float() for tokens, mask in parts]
        return torch.cat(embedded)

    def classifier(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """[K, D]: of each class the mean of the unit vectors of its name in every template ("a photo of a {}"), as a unit
        vector."""
        texts = [filled(template, name) for name in class_names for template in templates]
        embedded = self.embed_texts(texts).unflatten(0, (len(class_names), len(templates)))  # K P D
        return F.normalize(embedded.mean(1), dim=1)

    def probabilities(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """[B, K] of images [B, D] and texts [K, D]: over the K texts (softmax), or of each pair for itself (sigmoid)."""
        network: Any = self.network
        with torch.inference_mode():
            return network.probabilities(image_embedding, text_embedding).float()

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision at which the towers are asked; cosines are always of float32."""
        return nullcontext()

    @property
    def num_seen(self) -> int:
        """Texts that were embedded."""
        return self.tokenizer.num_seen

    @property
    def num_truncated(self) -> int:
        """Texts that were too long and cut."""
        return self.tokenizer.num_truncated

    def settings(self) -> dict[str, Any]:
        """What stands beside a value: the network, its weights, what is done to a picture, and what a cosine means."""
        network: Any = self.network
        weights = {"clip_weights_sha256": self.weights_sha256, "preprocessing": self.preprocessing}
        return {"clip": self.name, **weights, **network.similarity_settings()}

    @property
    def _run(self) -> Path:
        assert self.run is not None
        return self.run


class InTraining(Clip):
    """The model that a trainer trains, as it stands, with the tokenizer and the precision of the run and the shape of its
    pictures; ValueError where its data has no tokenizer."""

    preprocessing = "none"

    def __init__(self, trainer: Any, model: Any, asker: object) -> None:
        data = trainer.datamodule
        if not hasattr(data, "tokenizer"):
            raise ValueError(
                f"{type(asker).__name__} needs a datamodule with a tokenizer, which {type(data).__name__} has not: take "
                "ImageCaptions, or leave the callback out"
            )
        channels, _, size = data.images("train").shape[1:]
        self.model, self.trainer, self.shape = model, trainer, (channels, size)
        self.tokenizer = copy.copy(data.tokenizer)  # whose counts are its own
        self.tokenizer.forget()

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return type(self.model).__name__

    @property
    def network(self) -> Any:  # type: ignore[override]
        return self.model

    def autocast(self) -> AbstractContextManager[Any]:
        return self.trainer.precision_plugin.forward_context()

    def settings(self) -> dict[str, Any]:
        return {"clip": self.name, "loss": self.model.similarity_settings()["loss"]}


class OpenClipTowers(nn.Module):
    """A model of open_clip that offers `Embeds`."""

    def __init__(self, weights: OpenClip) -> None:
        super().__init__()
        self.weights = weights
        self.clip: Any = weights.network

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self.weights.features(self.clip, images), dim=1)

    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.clip.encode_text(tokens, normalize=True)

    def probabilities(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        logits = self.clip.logit_scale.exp() * image_embedding @ text_embedding.T
        return logits.softmax(1) if self.clip.logit_bias is None else (logits + self.clip.logit_bias).sigmoid()

    def similarity_settings(self) -> dict[str, Any]:
        bias = self.clip.logit_bias
        loss = {"loss": "softmax", "bias": None} if bias is None else {"loss": "sigmoid", "bias": float(bias)}
        return {**loss, "scale": float(self.clip.logit_scale.exp())}


class OpenClipTokenizer:
    """open_clip's tokenizer of an architecture; it cuts the end off a text that is too long, and keeps the end token."""

    def __init__(self, weights: OpenClip) -> None:
        import open_clip

        self.num_seen = self.num_truncated = 0
        words = Path(weights.model) / "tokenizer.json"
        if words.is_file():
            self.tokenizer: Any = SavedWords(words, open_clip.get_model_config(weights.known_name)["text_cfg"]["context_length"])
            return
        try:
            self.tokenizer = open_clip.get_tokenizer(weights.known_name)
        except Exception as error:  # vocabularies on several hosts, read by several libraries
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"the tokenizer of open_clip's {weights.model} cannot be had: {reason}") from error

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(list(texts))  # N T
        length = torch.tensor([self._length(text) for text in texts])  # N
        self.num_seen += len(texts)
        self.num_truncated += int((length > tokens.shape[1]).sum())
        return tokens, torch.arange(tokens.shape[1]) < length[:, None]

    def _length(self, text: str) -> int:
        """Tokens of the whole text, start and end among them."""
        if hasattr(self.tokenizer, "encode"):
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(text)["input_ids"])


class SavedWords:
    """The words in a folder of open_clip, tokenizer.json, which open_clip itself reads by way of transformers."""

    def __init__(self, file: Path, context_length: int) -> None:
        import json

        from tokenizers import Tokenizer

        self.words = Tokenizer.from_file(str(file))
        about = json.loads(existing(file.with_name("tokenizer_config.json"), "export the run again").read_text())
        pad = about.get("pad_token", "<pad>")
        self.words.enable_truncation(context_length)
        self.words.enable_padding(length=context_length, pad_id=self.words.token_to_id(pad), pad_token=pad)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([encoded.ids for encoded in self.words.encode_batch(list(texts))])

    def encode(self, text: str) -> list[int]:
        """The ids of the whole text without start and end."""
        encoded = self.words.encode(text, add_special_tokens=False)
        cut = [number for part in encoded.overflowing for number, shown in zip(part.ids, part.attention_mask) if shown]
        return [number for number, shown in zip(encoded.ids, encoded.attention_mask) if shown] + cut


def filled(template: str, name: str) -> str:
    """The template with the name in place of {}; "a(n) {}" is "an" before a vowel, while "a {}" stays, as it was published."""
    article = "an {}" if name[:1].lower() in tuple("aeiou") else "a {}"
    return template.replace("a(n) {}", article).replace("{}", name)


def _finished(run: str | Path) -> Path:
    folder = existing(run, "train it first, for instance with `practicum fit clip_scenes`, and give the folder of its run")
    existing(folder / "checkpoints" / "last.ckpt", "the run has not finished; train it again or take another one")
    return folder


def _tokenizer(run: Path) -> Any:
    """The tokenizer of a run's data, with the words that it has learned."""
    described = run_config(run)["data"]["init_args"].get("tokenizer")
    if described is None:
        raise ValueError(f"run {run}: its data has no texts; name a run of a model of pictures and captions (clip_scenes)")
    tokenizer = imported(described["class_path"], str(run))(**described.get("init_args", {}))
    tokenizer.load(existing(run / "tokenizer.json", "train the run again"))
    return tokenizer


def _argument(config: Any, name: str) -> Any:
    """The first argument of that name anywhere in a class's config; None if there is none."""
    if not isinstance(config, dict):
        return None
    if name in config:
        return config[name]
    return next((found for value in config.values() if (found := _argument(value, name)) is not None), None)


def _fitted(images: Tensor, channels: int | None, size: int | None) -> Tensor:
    """The images with as many channels, gray or RGB, and of that side."""
    if channels is not None and channels != images.shape[1]:
        images = images.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    if size is None or images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
