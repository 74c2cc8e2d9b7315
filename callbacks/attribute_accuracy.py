"""Do generated pictures show what their captions say? A reader of our own is the judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.agreement import Verdict, claims_that_hold
from callbacks.evaluation import Evaluation, RealImages, captions_of, declaration, draw_captions, sampling_declaration
from callbacks.judges import Reader
from callbacks.media import declare, log_table
from callbacks.protocols import Samples
from callbacks.reading_accuracy import COLUMNS, by_number


class AttributeAccuracy(Evaluation):
    """Logs, for pictures drawn for captions of the split, the share of what the captions say that the judge sees in them:
    `val/attribute_accuracy` (attributes alone, all kinds together), `val/caption_accuracy` (pictures that bear out every
    claim of their caption: attributes, relations, no other objects) and `val/<kind>_accuracy` for each kind of claim
    (shape, colour, ..., relation, count). The table `val/claims` has them by number of objects, with Wilson's 95 %
    intervals, and once more for the real pictures of the same captions: what the judge itself is good for.

    Args:
        judge: The folder of a finished run of `scene_reader`.
        parse: Caption -> claims, with `.objects` (a dict of words for each object named) and `.relations`
            ((i, "left of", j)); for scenes `datamodules.scenes.captions.parse`. Captions without claims are left out.
        num_images: How many captions; caption i is drawn from noise of seed `seed` + i.
    """

    protocols = (Samples,)
    of_data = ("captions",)

    def __init__(
        self,
        judge: str | Path,
        parse: Callable[[str], Any],
        num_images: int = 1000,
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = False,
    ) -> None:
        super().__init__(only_last)
        if num_images < 1:
            raise ValueError(f"AttributeAccuracy: {num_images} images; take at least 1")
        self.judge, self.parse = Reader(judge), parse
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self._declared: set[str] = set()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        split = "test" if stage == "test" else "validation"
        real = RealImages.of(trainer, split)
        num = min(self.num_images, len(real))
        texts = captions_of(trainer, real, num)
        said = [self.parse(text) for text in texts]
        if not any(claims.objects for claims in said):
            raise ValueError(
                f"AttributeAccuracy: no caption of {real.title} says anything that {self.parse.__name__} reads, for instance"
                f" {texts[0]!r}; give the parser of your captions, or leave the callback out"
            )
        pictures = draw_captions(
            trainer,
            pl_module,
            texts,
            real.shape,
            asker=self,
            seed=self.seed,
            batch_size=self.batch_size,
            what=f"{stage}: drawing {len(texts)} images for attribute accuracy",
        )
        drawn = self._verdicts(said, pictures)
        batches = (real.images(start, min(start + self.batch_size, num)) for start in range(0, num, self.batch_size))
        on_real = self._verdicts(said, batches)
        rows = by_number(drawn)
        for about, objects, accuracy, *_ in rows:
            if objects == "all":
                pl_module.log(f"{stage}/{about}_accuracy", accuracy)
        table = [["drawn", *row] for row in rows] + [["real", *row] for row in by_number(on_real)]
        log_table(trainer, f"{stage}/claims", ["pictures", *COLUMNS], table)
        if stage not in self._declared:
            self._declared.add(stage)
            about = {
                "num_images": sum(bool(claims.objects) for claims in said),
                "judge": self.judge.name,
                "judge_weights_sha256": self.judge.weights_sha256,
                "interval": f"Wilson 95 %, in the table {stage}/claims",
                **declaration(trainer, real),
                **sampling_declaration(trainer, pl_module, self.seed),
            }
            for key in ("attribute", "caption"):
                declare(trainer, f"{stage}/{key}_accuracy", about)

    def _verdicts(self, said: list[Any], batches: Iterator[Tensor]) -> list[tuple[int, Verdict]]:
        """Every claim with its verdict and the number of objects that its caption names; two more of each caption:
        "caption", whether all its claims hold, and each attribute's verdict once more as "attribute"."""
        found = [seen for images in batches for seen in self.judge.read(images)]
        verdicts = []
        for claims, seen in zip(said, found, strict=True):
            if claims.objects:
                held = claims_that_hold(claims.objects, claims.relations, seen)
                words = [Verdict("attribute", one.holds) for one in held if one.about not in ("relation", "count")]
                whole = Verdict("caption", all(one.holds for one in held))
                verdicts += [(len(claims.objects), one) for one in (whole, *words, *held)]
        return verdicts
