"""Two towers and the space in which their vectors meet: small ones by configuration, or any architecture of open_clip by name."""

import difflib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HUB, PATIENCE = "huggingface.co", 2.0      # seconds


class TwoTowers(nn.Module):
    """`image(images) -> [B, D]`, `text(tokens, mask) -> [B, D]`, not normalised: I_f @ W_i and T_f @ W_t of CLIP's pseudo-code.

    Args:
        image: images [B, C, H, W] in [-1, 1] -> features [B, image.width].
        text: tokens int64 [B, T], mask bool [B, T] -> features [B, text.width].
        embedding_dim: D.
    """

    learned_scale = learned_bias = None

    def __init__(self, image: nn.Module, text: nn.Module, embedding_dim: int = 128) -> None:
        super().__init__()
        self.image_tower: Any = image
        self.text_tower: Any = text
        self.embedding_dim = embedding_dim
        self.image_projection = nn.Linear(image.width, embedding_dim, bias=False)             # type: ignore[arg-type]
        self.text_projection = nn.Linear(text.width, embedding_dim, bias=False)               # type: ignore[arg-type]
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    def image(self, images: Tensor) -> Tensor:
        return self.image_projection(self.image_tower(images))

    def text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.text_projection(self.text_tower(tokens, mask))


class OpenClip(nn.Module):
    """An architecture of open_clip, `image` and `text` as those of `TwoTowers`; its side, mean and deviation of pixels are seen to.

    `learned_scale` and `learned_bias` are what its weights were trained with; None where they are random.

    Args:
        name: open_clip's name (ViT-B-32), a JSON file that describes an architecture, or a folder saved by open_clip or `practicum export`.
        pretrained: A published tag, or a file of weights (no pickled code is run); null for random weights, or those of the folder.
        vocabulary_size: Of the data's tokens, which must be the architecture's.
        context_length: T of the data's tokens, at most the architecture's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "ViT-B-32", pretrained: str | None = None, vocabulary_size: int = 49408,
                 context_length: int = 77) -> None:
        super().__init__()
        self.name, self.pretrained = name, pretrained
        self.model: Any = open_clip_model(name, pretrained)
        visual = self.model.visual
        sides = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size, visual.image_size)
        self.size: tuple[int, int] = sides
        self.context_length: int = self.model.context_length
        for key, values in (("mean", visual.image_mean), ("std", visual.image_std)):
            self.register_buffer(key, torch.tensor(values).view(-1, 1, 1), persistent=False)
        for key in ("logit_scale", "logit_bias"):           # the loss has its own
            if getattr(self.model, key, None) is not None:
                getattr(self.model, key).requires_grad_(False)
        trained, bias = pretrained is not None or Path(name).is_dir(), self.model.logit_bias
        self.learned_scale = float(self.model.logit_scale.exp()) if trained else None
        self.learned_bias = float(bias) if trained and bias is not None else None
        if vocabulary_size != (reads := getattr(self.model, "vocab_size", vocabulary_size)):
            raise ValueError(f"data.tokenizer: it knows {vocabulary_size:,} tokens, and open_clip's {name} reads others, {reads:,}"
                             + ("; give --data.tokenizer datamodules.tokenizers.ClipTokenizer" if reads == 49408 else ""))
        if context_length > self.context_length:
            raise ValueError(f"data.tokenizer.context_length: {context_length} is more than open_clip's {name} reads; "
                             f"give {self.context_length}")

    def image(self, images: Tensor) -> Tensor:
        images = images.expand(-1, 3, -1, -1)                                                 # B 3 H W
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", antialias=True).clamp(-1, 1)
        return self.model.encode_image((images / 2 + 0.5 - self.mean) / self.std)             # B D

    def text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.model.encode_text(F.pad(tokens, (0, self.context_length - tokens.shape[1])))               # B D


def open_clip_model(name: str, pretrained: str | None) -> Any:
    """The model that open_clip makes of a name, file or folder; ValueError of one line, with the remedy, where it cannot be had."""
    import open_clip

    known = f"local-dir:{name}" if Path(name).is_dir() else name
    if name.endswith(".json") and Path(name).is_file():
        open_clip.add_model_config(name)
        known = Path(name).stem
    if not Path(name).is_dir() and known not in open_clip.list_models():
        near = " or ".join(difflib.get_close_matches(name, open_clip.list_models(), 2)) or "a name of open_clip.list_models()"
        raise ValueError(f"network.name: {name!r} is no architecture of open_clip, JSON file or folder; take {near}")
    tags = open_clip.list_pretrained_tags_by_model(known)
    tagged = pretrained is not None and pretrained.lower().replace("-", "_") in tags
    if pretrained is not None and not tagged and not Path(pretrained).is_file():
        some = ", ".join(tags[:6]) or "none"
        raise ValueError(f"network.pretrained: {pretrained!r} is neither a file nor a tag of {name} (tags: {some})")
    reachable = not tagged or hub_answers()
    try:
        with undisturbed(reachable):
            return open_clip.create_model(known, pretrained=pretrained, pretrained_text=False)
    except Exception as error:      # a damaged file, missing keys, other shapes, no network: each library has an error of its own
        if not reachable:
            raise ValueError(f"network.pretrained: the weights {pretrained} of {name} are not in the cache, and {HUB} is not to be "
                             "reached; give a file, or fetch them once where there is a network") from error
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"network.{'pretrained' if pretrained else 'name'}: {pretrained or name} cannot be loaded: {reason}") from error


def open_clip_config(name: str) -> dict[str, Any]:
    """What open_clip knows of an architecture: its `model_cfg`."""
    import open_clip

    return open_clip.get_model_config(f"local-dir:{name}" if Path(name).is_dir() else Path(name).stem if name.endswith(".json") else name)


@contextmanager
def undisturbed(online: bool) -> Iterator[None]:
    """What open_clip logs is silent in here; unless `online` the Hub is not asked, which costs it most of a minute to give up."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    logging.disable(logging.ERROR)
    constants.HF_HUB_OFFLINE = before or not online
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(logging.NOTSET)


def hub_answers() -> bool:
    """Whether the Hub may be asked, and can be reached within `PATIENCE`."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    found: list[socket.socket] = []

    def ask() -> None:
        with suppress(OSError):
            found.append(socket.create_connection((HUB, 443), timeout=PATIENCE))

    asking = Thread(target=ask, daemon=True)      # a name server has a patience of its own
    asking.start()
    asking.join(PATIENCE)
    for connection in found:
        connection.close()
    return bool(found)
