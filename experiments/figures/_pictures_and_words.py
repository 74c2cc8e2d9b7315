"""What the figures of pictures and captions share: a run's towers, and pictures whose class is beyond doubt."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from callbacks.clips import Clip
from callbacks.media import to_float, to_uint8
from datamodules.image_classes import ImageClasses
from datamodules.scenes.dataset import Scenes
from experiments.figures import _trained as shared

RIGHT, OTHER, WRONG = "#12903c", "#9aa5b1", "#d1495b"


class Towers(shared.Trained):
    """A finished run of pictures and captions, opened for drawing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "embed_images", "embed_tokens", "probabilities")
        self.clip = Clip(run=folder)

    @property
    def templates(self) -> list[str]:
        """Those that the run's own zero-shot accuracy was measured with; else a plain one."""
        found = [about["templates"] for key, about in self.run.about.items() if "/zero_shot_" in key and "templates" in about]
        return found[0] if found else ["a(n) {}"]

    def named_pictures(self) -> tuple[Any, list[str]]:
        """Data whose pictures show one class each, and the splits to show: of scenes, those of one object, also of held-out pairs."""
        source = self.data.path
        if not isinstance(source, Scenes):
            return self.data, ["validation"]
        alone = copy.copy(source)
        alone.objects, alone.num = (1, 1), {"train": 1, "validation": 200, "test": 200, "held_out": 200}
        return ImageClasses(alone, image_size=self.data.image_size), ["validation", "held_out"] if source.pairs else ["validation"]

    def pictures(self, images: np.ndarray) -> Tensor:
        """float32 [B, C, H, W] in [-1, 1] of uint8, on the model's device."""
        return to_float(images).to(self.model.device)


def shown(image: Tensor) -> np.ndarray:
    """One image [C, H, W] in [-1, 1] as uint8 [H, W, 3]."""
    return to_uint8(image).cpu().expand(3, -1, -1).permute(1, 2, 0).numpy()


def several(data: Any, split: str, num: int, seed: int) -> np.ndarray:
    """`num` rows of a split, no two of one class as long as there are others."""
    labels = data.labels(split)
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    ahead = order[np.sort(first)]
    return np.concatenate([ahead, order[~np.isin(order, ahead)]])[:num]


def unit(values: Tensor) -> np.ndarray:
    """Values of a vector between -1 and 1, the largest at an end."""
    return (values / values.abs().max()).cpu().numpy()


def embedded(towers: Towers, images: Tensor, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors of images [B, D] and texts [K, D], and the probabilities [B, K]."""
    with torch.inference_mode():
        image, text = towers.clip.embed_images(images), towers.clip.embed_texts(texts)
        return image, text, towers.clip.probabilities(image, text)
