"""How well a model names classes of which it has seen no image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.class_accuracy import wilson
from callbacks.evaluation import Evaluation, RealImages, declaration, precision
from callbacks.media import declare, log_table
from callbacks.progress import track
from callbacks.protocols import RecognisesUnseen

POINTS = 41  # of the gate's curve


class UnseenAccuracy(Evaluation):
    """Logs, for images of classes with and without training images (seen and unseen ones), the share that is named right:

    `val/seen_accuracy` among the seen classes, `val/unseen_accuracy` among the unseen ones; and with the gate, which takes
    an image for one of an unseen class if its novelty is above a threshold, `val/seen_accuracy_gated` and
    `val/unseen_accuracy_gated` among all classes, and their harmonic mean `val/harmonic_mean`. `val/novelty_auroc` is the
    chance that an image of an unseen class has more novelty than one of a seen class.

    The table `val/unseen_accuracy_by_class` has Wilson's 95 % intervals and chance beside each share, and
    `val/gate_curve` the gated accuracies over the threshold.

    Args:
        passing: Where the model has no threshold of its own, it is set so that this share of the training images passes
            as seen. Only training images are asked, so that the unseen classes stay unseen.
        num_train: How many training images are asked for it.
    """

    protocols = (RecognisesUnseen,)

    def __init__(
        self, passing: float = 0.9, num_train: int = 2000, batch_size: int = 500, only_last: bool = False
    ) -> None:
        super().__init__(only_last)
        if not 0 < passing < 1 or num_train < 1:
            raise ValueError(f"UnseenAccuracy: passing {passing} of {num_train} images; take a share between 0 and 1 of at least 1")
        self.passing, self.num_train, self.batch_size = passing, num_train, batch_size
        self._declared: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if pl_module.seen.all():  # type: ignore[union-attr, operator]
            title = trainer.datamodule.title  # type: ignore[attr-defined]
            raise ValueError(
                f"UnseenAccuracy: every class of {title} is seen in training; hold some out with "
                "datamodules.held_out.HeldOut as --data.path, or leave the callback out"
            )

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        model: Any = pl_module
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        scores, novelty = self._recognised(trainer, model, real, len(real), stage)
        labels, seen = real.labels(len(real)), model.seen.cpu()
        threshold = model.threshold
        if threshold is None:
            train = RealImages.of(trainer, "train")
            asked = min(self.num_train, len(train))
            threshold = float(self._recognised(trainer, model, train, asked, stage)[1].double().quantile(self.passing))
        new = ~seen[labels]
        among_seen, among_unseen = right(scores, labels, seen), right(scores, labels, ~seen)
        gated = right_gated(scores, novelty, labels, seen, threshold)
        found = {"seen_accuracy": among_seen[~new], "unseen_accuracy": among_unseen[new],
                 "seen_accuracy_gated": gated[~new], "unseen_accuracy_gated": gated[new]}  # fmt: skip
        shares = {name: float(hits.float().mean()) for name, hits in found.items() if len(hits)}
        for name, share in shares.items():
            pl_module.log(f"{stage}/{name}", share)
        if len(shares) == len(found):
            pl_module.log(f"{stage}/harmonic_mean", harmonic(shares["seen_accuracy_gated"], shares["unseen_accuracy_gated"]))
            pl_module.log(f"{stage}/novelty_auroc", auroc(novelty[new], novelty[~new]))
            rows = curve(scores, novelty, labels, seen)
            log_table(trainer, f"{stage}/gate_curve", ["threshold", "passing", "seen", "unseen", "harmonic_mean"], rows)
        chance = {"among seen": 1 / int(seen.sum()), "among unseen": 1 / int((~seen).sum()), "gated": 1 / len(seen)}
        parts = [("seen", ~new, among_seen, "among seen"), ("unseen", new, among_unseen, "among unseen"),
                 ("seen", ~new, gated, "gated"), ("unseen", new, gated, "gated")]  # fmt: skip
        for label, name in enumerate(real.class_names):
            own, hits, way = labels == label, *((among_seen, "among seen") if seen[label] else (among_unseen, "among unseen"))
            parts += [(name, own, hits, way), (name, own, gated, "gated")]
        table = [[name, way, *_share(hits[own]), chance[way], int(own.sum())] for name, own, hits, way in parts if own.any()]
        columns = ["class", "asked", "accuracy", "low", "high", "chance", "num_images"]
        log_table(trainer, f"{stage}/unseen_accuracy_by_class", columns, table)
        if stage not in self._declared:
            self._declared.add(stage)
            about = {
                "unseen": [name for name, known in zip(real.class_names, seen.tolist(), strict=True) if not known],
                "num_images": {"seen": int((~new).sum()), "unseen": int(new.sum())},
                "chance": {way: round(share, 4) for way, share in chance.items()},
                "threshold": threshold,
                "passing": None if model.threshold is not None else self.passing,
                "interval": f"Wilson 95 %, in the table {stage}/unseen_accuracy_by_class",
                **declaration(trainer, real),
            }
            for key in ("unseen_accuracy", "harmonic_mean"):
                declare(trainer, f"{stage}/{key}", about)

    def _recognised(
        self, trainer: Trainer, model: Any, images: RealImages, num: int, stage: str
    ) -> tuple[Tensor, Tensor]:
        """Scores [num, K] and novelty [num] of the first `num` images."""
        parts = []
        batches = images.batches(num, self.batch_size, model.device)
        for _, batch in track(batches, f"{stage}: naming {num} {images.split} images", total=-(-num // self.batch_size)):
            with torch.no_grad(), precision(trainer):
                scores, novelty = model.recognise(batch["image"])
            parts.append((scores.float().cpu(), novelty.float().cpu()))
        scores, novelty = (torch.cat(part) for part in zip(*parts, strict=True))
        if scores.isnan().any() or not novelty.isfinite().all():
            raise ValueError(f"UnseenAccuracy: {type(model).__name__}.recognise gives NaN or infinite values")
        return scores, novelty


def right(scores: Tensor, labels: Tensor, allowed: Tensor) -> Tensor:
    """bool [N]: whether the highest of the scores [N, K] of the allowed classes is that of the label."""
    return scores.masked_fill(~allowed, -torch.inf).argmax(1) == labels


def right_gated(scores: Tensor, novelty: Tensor, labels: Tensor, seen: Tensor, threshold: float) -> Tensor:
    """bool [N]: an image whose novelty is above the threshold is named among the unseen classes, else among the seen."""
    return torch.where(novelty > threshold, right(scores, labels, ~seen), right(scores, labels, seen))


def harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def auroc(positive: Tensor, negative: Tensor) -> float:
    """The share of pairs in which the positive one is greater; ties count half."""
    values = torch.cat([positive, negative]).double()
    _, rank_of, size = values.unique(return_inverse=True, return_counts=True)
    rank = (size.cumsum(0) - (size - 1) / 2)[rank_of]  # ties share the mean of their ranks
    num = len(positive)
    return float((rank[:num].sum() - num * (num + 1) / 2) / (num * len(negative)))


def curve(scores: Tensor, novelty: Tensor, labels: Tensor, seen: Tensor, points: int = POINTS) -> list[list[float]]:
    """[threshold, share of the images of seen classes that pass as seen, accuracy on seen, on unseen, harmonic mean] at
    thresholds from one that nothing passes to one that all passes."""
    new = ~seen[labels]
    inner = np.quantile(novelty.double().numpy(), np.linspace(0, 1, points))
    rows = []
    for threshold in [float(inner[0]) - 1, *inner.tolist()]:
        hits = right_gated(scores, novelty, labels, seen, threshold).double()
        on_seen, on_unseen = float(hits[~new].mean()), float(hits[new].mean())
        passing = float((novelty[~new] <= threshold).double().mean())
        rows.append([threshold, passing, on_seen, on_unseen, harmonic(on_seen, on_unseen)])
    return rows


def _share(hits: Tensor) -> list[float]:
    return [float(hits.double().mean()), *wilson(int(hits.sum()), len(hits))]
