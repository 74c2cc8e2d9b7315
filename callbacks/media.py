"""Pictures, tables and declarations to every logger that can hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

GUTTER = 225  # light grey: parts black-background digits and white-background photos alike


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1], any shape, as uint8 in 0..255 on the same device: clamped, then rounded; NaN becomes 0."""
    return images.float().nan_to_num(-1.0).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(images: NDArray[np.uint8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 images, any shape, as float32 in [-1, 1] on `device`."""
    # A copy: the source may be a read-only memory map.
    source = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images, copy=True))
    return source.to(device).float().div_(127.5).sub_(1)


def trouble_with(images: Tensor, tolerance: float = 1e-3) -> str | None:
    """What is wrong with images that should be finite and in [-1, 1], in words; None if nothing is."""
    bad = int((~torch.isfinite(images)).sum())
    if bad:
        return f"{bad} of {images.numel()} values are NaN or infinite"
    low, high = images.min().item(), images.max().item()
    if low < -1 - tolerance or high > 1 + tolerance:
        return f"values reach from {low:.3g} to {high:.3g}, not within [-1, 1]"
    return None


def grid(images: Tensor, columns: int, padding: int = 2, scale: int | None = None) -> NDArray[np.uint8]:
    """One picture of many, row by row.

    Args:
        images: [B, C, H, W] in [-1, 1], C of 1 or 3.
        columns: images in a row.
        padding: width of the light-grey gutters, in pixels of the picture.
        scale: whole-number nearest-neighbour enlargement, so that 16-pixel images stay crisp; by default to about 64
            pixels.

    Returns:
        uint8 [H', W', 3].
    """
    num, channels, height, width = images.shape
    assert channels in (1, 3), f"grid shows 1 or 3 channels, not {channels}"
    if scale is None:
        scale = max(1, 64 // max(height, width))
    tiles = to_uint8(images).cpu().expand(num, 3, height, width)
    tiles = tiles.repeat_interleave(scale, 2).repeat_interleave(scale, 3)  # B 3 sH sW
    rows = -(-num // columns)
    cell_height, cell_width = height * scale + padding, width * scale + padding
    canvas = torch.full((3, rows * cell_height + padding, columns * cell_width + padding), GUTTER, dtype=torch.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * cell_height + padding, (index % columns) * cell_width + padding
        canvas[:, top : top + height * scale, left : left + width * scale] = tile
    return canvas.permute(1, 2, 0).contiguous().numpy()


def log_image(trainer: Trainer, key: str, image: NDArray[np.uint8] | Image.Image, caption: str = "") -> None:
    """Gives a picture (uint8 [H, W, 3] or PIL) to every logger that has `log_image`."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key, images=[picture], step=trainer.global_step, caption=[caption])


def log_table(trainer: Trainer, key: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Gives a table to every logger that has `log_table`; the cells are plain numbers and strings."""
    for logger in trainer.loggers:
        if hasattr(logger, "log_table"):
            logger.log_table(key, columns=columns, data=rows, step=trainer.global_step)


def declare(trainer: Trainer, key: str, about: dict[str, Any]) -> None:
    """Writes what the value under `key` is: to a RunRecord as a line of its own, to W&B in the run's summary under
    `about/<key>`."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in trainer.loggers:
        if hasattr(logger, "log_about"):
            logger.log_about(key, about)
        elif isinstance(logger, WandbLogger):
            logger.experiment.summary[f"about/{key}"] = about
