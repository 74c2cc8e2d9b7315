"""Words with known vectors, and the ways of a model with them."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.networks.word_vectors import WordVectors

NAMES = ["ant", "bee", "cat", "dog"]
ANGLES = [0.0, 1.0, 2.0, 2.5]


def words(folder: Path, more: int = 1) -> WordVectors:
    """Four unit vectors in a plane of 2 + `more` dimensions."""
    lines = [[torch.cos(torch.tensor(angle)).item(), torch.sin(torch.tensor(angle)).item(), *[0.0] * more] for angle in ANGLES]
    file = folder / "plane.txt"
    file.write_text("".join(f"{name} {' '.join(map(str, line))}\n" for name, line in zip(NAMES, lines, strict=True)))
    return WordVectors(str(file), NAMES)


def coloured(label: Tensor, noise: float = 0.3) -> Tensor:
    """Images [B, 3, 8, 8] whose mean colour goes around a circle with the word of their class."""
    angle = torch.tensor(ANGLES)[label]
    colour = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)[..., None, None]
    return 0.8 * colour + noise * torch.randn(len(label), 3, 8, 8)
