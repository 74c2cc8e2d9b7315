"""How near a picture is to its caption, in the eyes of two towers (Hessel et al. 2021, 2104.08718: CLIPScore)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.clips import Clip
from callbacks.evaluation import (
    Evaluation,
    RealImages,
    captions_of,
    declaration,
    draw_captions,
    sampling_declaration,
)  # fmt: skip
from callbacks.intervals import bootstrap
from callbacks.media import declare, log_table
from callbacks.protocols import Samples


def clip_score(image_embedding: Tensor, text_embedding: Tensor, scale: float = 100.0) -> Tensor:
    """scale * max(cosine, 0) of each of N pairs [N, D]: float32 [N] on the CPU. The vectors need not be of unit length.

    The paper's scale is 2.5, torchmetrics' 100; 1 gives the cosine, clamped.
    """
    cosine = torch.cosine_similarity(image_embedding.cpu().double(), text_embedding.cpu().double(), dim=1)
    return (scale * cosine.clamp(min=0)).float()


class ClipScore(Evaluation):
    """Logs `val/clip_score_<judge>`, the mean score of pictures that the model draws for captions of the split; once a run
    `val/real_clip_score_<judge>`, that of the real pictures of the same captions; and `val/captions_cut_<judge>`, how many of
    them are too long for the judge and were cut. The table `val/clip_scores_<judge>` has the bootstrap intervals.

    A model that does not draw (a pair of towers) is asked for the real pictures alone.

    Args:
        judge: The towers; not those that the pictures were trained with.
        scale: What the cosine, at least 0, is multiplied by: 100 as torchmetrics, 2.5 as the paper, 1 for the cosine.
        num_images: How many captions; caption i is drawn from noise of seed `seed` + i.
    """

    of_data = ("captions", "tokenizer")

    def __init__(
        self,
        judge: Clip,
        scale: float = 100.0,
        num_images: int = 1000,
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_images < 1:
            raise ValueError(f"ClipScore: {num_images} images; take at least 1")
        if not scale > 0:
            raise ValueError(f"ClipScore: scale {scale} is not positive; take 100 (torchmetrics), 2.5 (the paper) or 1")
        self.judge, self.scale = judge, scale
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self._words: dict[str, Tensor] = {}  # split -> embedded captions
        self._real: dict[str, Tensor] = {}  # split -> scores

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real, name = RealImages.of(trainer, "test" if stage == "test" else "validation"), self.judge.name
        num = min(self.num_images, len(real))
        texts = captions_of(trainer, real, num)
        about: dict[str, Any] = {}
        if first := real.split not in self._real:
            before = self.judge.num_truncated
            self._words[real.split] = self.judge.embed_texts(texts)
            about = self._about(trainer, real, num, stage, self.judge.num_truncated - before)
            self._real[real.split] = self._scores(self._pictures(real, num, pl_module), real.split)
            pl_module.log(f"{stage}/captions_cut_{name}", float(about["num_truncated"]))
            pl_module.log(f"{stage}/real_clip_score_{name}", self._real[real.split].mean())
            declare(trainer, f"{stage}/real_clip_score_{name}", about)
        scores = {"real": self._real[real.split]}
        if isinstance(pl_module, Samples):
            drawn = draw_captions(
                trainer,
                pl_module,
                texts,
                real.shape,
                asker=self,
                seed=self.seed,
                batch_size=self.batch_size,
                what=f"{stage}: drawing {num} images for CLIP score",
            )
            scores["drawn"] = self._scores(drawn, real.split)
            pl_module.log(f"{stage}/clip_score_{name}", scores["drawn"].mean())
            if first:
                drawing = sampling_declaration(trainer, pl_module, self.seed)
                declare(trainer, f"{stage}/clip_score_{name}", about | drawing)
        rows = [[pictures, some.mean().item(), *bootstrap(some), num] for pictures, some in scores.items()]
        log_table(trainer, f"{stage}/clip_scores_{name}", ["pictures", "score", "low", "high", "num"], rows)

    def _scores(self, batches: Iterable[Tensor], split: str) -> Tensor:
        """[N], of images that come in batches with the captions of a split."""
        embedded = torch.cat([self.judge.embed_images(images) for images in batches])
        return clip_score(embedded, self._words[split], self.scale)

    def _pictures(self, real: RealImages, num: int, pl_module: LightningModule) -> Iterator[Tensor]:
        for start in range(0, num, self.batch_size):
            yield real.images(start, min(start + self.batch_size, num)).to(pl_module.device)

    def _about(self, trainer: Trainer, real: RealImages, num: int, stage: str, num_cut: int) -> dict[str, Any]:
        settings = self.judge.settings()
        return {
            "num_images": num,
            "formula": f"{self.scale:g} * max(cosine, 0), mean over the pictures",
            "interval": f"bootstrap 95 % over pictures, in the table {stage}/clip_scores_{self.judge.name}",
            "num_truncated": num_cut,
            **{name: settings[name] for name in ("clip", "clip_weights_sha256", "preprocessing")},
            **declaration(trainer, real),
        }
