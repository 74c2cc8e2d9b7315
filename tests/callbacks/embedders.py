"""Models that offer `Embeds` in closed form, for the tests of what is asked of pictures and captions.

A picture carries a number n in its first pixel and a text of the word "n" means it: both become the unit vector number n, so
that the cosine of a picture and its own text is 1 and of all others 0, as far as no subclass says otherwise.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.callbacks.tiny import TinyData, TinyModel

DIM = 32


class Numbers:
    """A tokenizer of numbers: each word is its own token, what is not a number is 31; a text has at most 4 words."""

    context_length = 6

    def __init__(self) -> None:
        self.forget()

    def load(self, path: Path) -> None:
        assert path.is_file()

    def forget(self) -> None:
        self.num_seen = self.num_truncated = 0

    def __call__(self, texts):
        words = [[int(word) if word.isdigit() else DIM - 1 for word in text.split()] for text in texts]
        self.num_seen += len(texts)
        self.num_truncated += sum(len(some) > 4 for some in words)
        tokens = torch.zeros(len(texts), 6, dtype=torch.long)
        mask = torch.zeros(len(texts), 6, dtype=torch.bool)
        for row, some in enumerate(words):
            tokens[row, : len(some[:4])] = torch.tensor(some[:4])
            mask[row, : len(some[:4])] = True
        return tokens, mask


class Numbered(TinyData):
    """Pictures that carry their row's number mod `num_classes`, which is their class; the caption is the number in words."""

    title = "numbered"
    fingerprint = "numbered-1"

    def __init__(self, num: int = 40, num_classes: int = 8, said: list[list[str]] | None = None, channels: int = 3, size: int = 8) -> None:
        super().__init__(num, channels=channels)
        self.num_classes, self.said, self.size = num_classes, said, size
        self.tokenizer = Numbers()

    @property
    def class_names(self):
        return [str(number) for number in range(self.num_classes)]

    def images(self, split: str) -> np.ndarray:
        return np.broadcast_to(self.labels(split)[:, None, None, None], (self.num, self.channels, self.size, self.size)).astype(np.uint8)

    def labels(self, split: str) -> np.ndarray:
        return np.arange(self.num) % self.num_classes

    def captions(self, split: str) -> list[list[str]]:
        return self.said or [[str(number)] for number in self.labels(split)]

    def _loader(self, split: str) -> DataLoader:
        return DataLoader([{"image": torch.zeros(3, 8, 8), "label": torch.tensor(0)}], batch_size=1)


class Matcher(TinyModel):
    """Picture number n and the text of n are the same vector; `wrong` numbers are taken for the next one."""

    wrong = ()
    loss, scale, bias = "softmax", 100.0, None

    def embed_images(self, images: Tensor) -> Tensor:
        numbers = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        numbers = torch.tensor([n + 1 if n in self.wrong else n for n in numbers.tolist()])
        return F.one_hot(numbers, DIM).float()

    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return F.normalize((F.one_hot(tokens, DIM) * mask[..., None]).sum(1).float(), dim=1)

    def probabilities(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        logits = self.scale * image_embedding @ text_embedding.T
        return logits.softmax(1) if self.bias is None else (logits + self.bias).sigmoid()

    def similarity_settings(self):
        return {"loss": self.loss, "scale": self.scale, "bias": self.bias}


def write_clip_run(folder: Path, model, tokenizer: str = "tests.callbacks.embedders.Numbers", data=None) -> Path:
    """A run folder of a model of pictures and captions."""
    from tests.callbacks.test_extractors import write_run

    write_run(folder, model)
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"] = {"class_path": "none", "init_args": {"tokenizer": {"class_path": tokenizer}, **(data or {})}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "tokenizer.json").write_text(json.dumps({}))
    return folder
