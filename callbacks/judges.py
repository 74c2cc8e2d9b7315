"""Judges of what a picture shows: runs of ours, loaded when first asked."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.extractors import Extractor, existing, load_run, run_title
from callbacks.protocols import Reads, require


class Reader(Extractor):
    """A reader of scenes; `run` is the folder of a finished run of it. Its features serve a Fréchet distance as well."""

    preprocessing = "resized to the reader's own size (bilinear, antialiased)"

    def __init__(self, run: str | Path) -> None:
        self.run = existing(run, "train it first with `practicum fit scene_reader` and give the folder of its run")
        existing(self.run / "checkpoints" / "last.ckpt", "the run has not finished; train it again or take another one")

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return f"{run_title(self.run)}_reader"

    def load(self) -> nn.Module:
        network = load_run(self.run)
        require(network, Reads, self)
        return network

    def features(self, network: Any, images: Tensor) -> Tensor:
        return network.features(images)

    def read(self, images: Tensor) -> list[list[dict[str, Any]]]:
        """The objects of each image [B, C, H, W] in [-1, 1]."""
        network: Any = self.network.to(images.device)
        with torch.inference_mode():
            return network.read(images.float())
