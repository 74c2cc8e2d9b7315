"""Which caption belongs to a picture, and which picture to a caption: retrieval among the rows of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor

from callbacks.clips import Clip, InTraining
from callbacks.evaluation import Evaluation, RealImages, declaration
from callbacks.intervals import bootstrap
from callbacks.media import declare, log_table
from callbacks.progress import track
from callbacks.protocols import Embeds
from callbacks.zero_shot import INTERVAL, key_of

CUTS = (1, 5, 10)
DUPLICATES = "equal captions are one candidate, which is right for every picture that has it; of equal cosines the wrong one wins"


@dataclass(frozen=True)
class Ranks:
    """The place of the first right answer to each question, from 1: of N pictures among M captions, and of M captions among
    N pictures."""

    image_to_text: Tensor  # int64 [N]
    text_to_image: Tensor  # int64 [M]


def ranks(cosine: Tensor, right: Tensor) -> Ranks:
    """Of cosines [N, M] of pictures and captions, and whether they belong together, bool [N, M]."""
    return Ranks(_places(cosine, right), _places(cosine.T, right.T))


def retrieve(
    clip: Clip, real: RealImages, captions: list[list[str]], num: int, batch_size: int, device: torch.device | str
) -> Ranks:
    """Of the first `num` pictures and all their captions; `captions` are those of every row of the split."""
    said = [captions[row] for row in real.rows(num)]
    place = {text: number for number, text in enumerate(dict.fromkeys(text for texts in said for text in texts))}
    right = torch.zeros(len(said), len(place), dtype=torch.bool)  # N M
    for row, texts in enumerate(said):
        right[row, [place[text] for text in texts]] = True
    words = clip.embed_texts(list(place), batch_size)  # M D
    starts = track(range(0, len(said), batch_size), f"retrieval: {len(said)} pictures, {len(place)} captions of {real.title}")
    pictures = [clip.embed_images(real.images(start, min(start + batch_size, len(said))).to(device)) for start in starts]
    return ranks(torch.cat(pictures) @ words.T, right.to(words.device))


def _places(cosine: Tensor, right: Tensor) -> Tensor:
    """Of questions [Q] and answers [A]: one more than the wrong answers that are as near as the nearest right one."""
    best = cosine.masked_fill(~right, -torch.inf).max(1, keepdim=True).values  # Q 1
    return ((cosine >= best) & ~right).sum(1).cpu() + 1


class Retrieval(Evaluation):
    """Logs, among `num_images` pictures of a split and all their captions, `val/image_to_text_at_<k>_<title>`: the share of
    pictures with one of their own captions among the k nearest, k = 1, 5, 10; `val/text_to_image_at_<k>_<title>`: the share
    of captions with a picture of their own among the k nearest; and of both the median rank, `val/..._median_<title>`. The
    table `val/retrieval_<title>` has the intervals.

    The values depend on the number of pictures: compare those of equal numbers alone.

    Args:
        data: Pictures with captions; null asks about the data of the training.
        splits: validation, test, or another split of the source, such as held_out, whose name then ends the key. When
            testing, validation stands for test.
    """

    protocols = (Embeds,)
    of_data = ("captions",)

    def __init__(
        self,
        data: LightningDataModule | None = None,
        splits: list[str] | None = None,
        num_images: int = 1000,
        batch_size: int = 256,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_images < 2:
            raise ValueError(f"Retrieval: {num_images} pictures leave no choice; take 100 or more")
        self.data, self.splits = data, splits or ["validation"]
        self.num_images, self.batch_size = num_images, batch_size
        self._declared: set[tuple[str, str]] = set()

    def data_of(self, trainer: Trainer) -> Any:
        return super().data_of(trainer) if self.data is None else self.data

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        clip = InTraining(trainer, pl_module, self)
        for split in self.splits:
            split = "test" if stage == "test" and split == "validation" else split
            real = RealImages.among(self.data_of(trainer), split)
            num = min(self.num_images, len(real))
            captions = self.data_of(trainer).captions(split)
            found = retrieve(clip, real, captions, num, self.batch_size, pl_module.device)
            title, rows = key_of(real.title, split, stage), table_of(found)
            for direction, what, value, *_ in rows:
                pl_module.log(f"{stage}/{direction}_{what}_{title}", value)
            log_table(trainer, f"{stage}/retrieval_{title}", COLUMNS, rows)
            if (stage, title) not in self._declared:
                self._declared.add((stage, title))
                about = {
                    "num_images": num,
                    "num_captions": len(found.text_to_image),
                    "duplicates": DUPLICATES,
                    "interval": f"{INTERVAL}, in the table {stage}/retrieval_{title}",
                    "num_truncated": clip.num_truncated,
                    **clip.settings(),
                    **declaration(trainer, real),
                }
                for direction, what, *_ in rows:
                    declare(trainer, f"{stage}/{direction}_{what}_{title}", about)


COLUMNS = ["direction", "what", "value", "low", "high", "num"]


def table_of(found: Ranks) -> list[list[Any]]:
    """Rows of COLUMNS: recall at 1, 5 and 10, and the median rank, in both directions, with bootstrap intervals."""
    rows: list[list[Any]] = []
    for direction, places in (("image_to_text", found.image_to_text), ("text_to_image", found.text_to_image)):
        for cut in CUTS:
            held = places <= cut
            rows.append([direction, f"at_{cut}", held.double().mean().item(), *bootstrap(held), len(places)])
        middle = places.double().median().item()
        interval = bootstrap(places, lambda drawn: drawn.median(1).values)
        rows.append([direction, "median", middle, *interval, len(places)])
    return rows
