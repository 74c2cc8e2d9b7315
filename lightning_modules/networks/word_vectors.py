"""The vectors of words, read from a file: what a text says about classes of which there is no picture."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WordVectors(nn.Module):
    """`vectors`, a buffer float32 [K, D]: the unit vectors of the names of K classes; not trained.

    Args:
        path: A folder of `vectors.safetensors` (one tensor `vectors` [N, D]) and `words.txt` (N lines), or a text file like
            GloVe's (on each line a word and its D numbers). With the environment variable PRACTICUM_WEIGHTS=DIR, a path that
            is not there is looked for in DIR.
        class_names: The K names; it follows the data. A name of several words ("ankle boot") has the sum of their vectors.
    """

    def __init__(self, path: str, class_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.class_names = [str(name) for name in class_names]
        parts = [[name.lower()] for name in self.class_names]
        known = read(found(path), {part for words in parts for part in words} | {
            word for words in parts for word in split(words[0])})
        sums = []
        for (name,) in parts:
            words = [name] if name in known else split(name)
            missing = [word for word in words if word not in known]
            if missing or not words:
                raise ValueError(f"class_names: {path} has no vector of {missing[0] if missing else name!r}, of the class "
                                 f"{name!r}; name the classes with words that it has, or take another file")
            sums.append(torch.stack([known[word] for word in words]).sum(0))
        self.vectors: Tensor
        self.register_buffer("vectors", F.normalize(torch.stack(sums), dim=1) if sums else torch.zeros(0, 1))

    def forward(self) -> Tensor:
        return self.vectors


def split(name: str) -> list[str]:
    return [word for word in re.split(r"[\s/_]+", name) if word]


def found(path: str) -> Path:
    """The folder or file itself, or the one of that name in PRACTICUM_WEIGHTS; a ValueError with the remedy if neither is there."""
    weights = os.environ.get("PRACTICUM_WEIGHTS")
    for place in (Path(path).expanduser(), *([Path(weights).expanduser() / path] if weights else [])):
        if place.exists():
            return place
    where = f"neither here nor in PRACTICUM_WEIGHTS={weights}" if weights else "not here, and PRACTICUM_WEIGHTS is not set"
    raise ValueError(f"path: the word vectors {path!r} are {where}; set PRACTICUM_WEIGHTS to the folder that holds them, or give "
                     "a text file of word vectors such as glove.6B.50d.txt with --model.words.path FILE")


def read(path: Path, wanted: Iterable[str]) -> dict[str, Tensor]:
    """word -> float32 [D], of those wanted words that the file has."""
    wanted = set(wanted)
    if path.is_file():
        known = {}
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                word, _, numbers = line.rstrip().partition(" ")
                if word.lower() in wanted and word.lower() not in known:
                    known[word.lower()] = torch.tensor([float(number) for number in numbers.split()])
        return known
    from safetensors.torch import load_file

    files = [path / "words.txt", path / "vectors.safetensors"]
    for file in files:
        if not file.is_file():
            raise ValueError(f"path: {path} holds no {file.name}; give a folder of words.txt and vectors.safetensors, or a text file")
    words = files[0].read_text(encoding="utf-8").splitlines()
    vectors = load_file(files[1])["vectors"]
    if len(words) != len(vectors):
        raise ValueError(f"path: {path} has {len(words)} words and {len(vectors)} vectors; they belong to different files")
    return {word: vectors[row].float() for row, word in enumerate(words) if word in wanted}
