"""Which recorded values are measures of quality, what they are called, and which direction is better."""

import re
from dataclasses import dataclass
from typing import Literal

from experiments.page.groups import Comparison


@dataclass(frozen=True)
class Metric:
    """A measure: its recorded key, its name (with the extractor that it depends on) and the better direction."""

    key: str
    name: str
    better: Literal["lower", "higher"]

    @property
    def label(self) -> str:
        return f"{self.name} ({self.better} is better)"


KINDS: tuple[tuple[str, str, Literal["lower", "higher"]], ...] = (
    (r"fid", "FID", "lower"),
    (r"fd_(?P<by>\w+)", "Fréchet distance", "lower"),
    (r"kid(_(?P<by>\w+))?", "KID", "lower"),
    (r"bits_per_dim", "bits per dimension", "lower"),
    (r"nats_per_image", "nats per image", "lower"),
    (r"precision_(?P<by>\w+)", "precision", "higher"),
    (r"recall_(?P<by>\w+)", "recall", "higher"),
    (r"coverage_(?P<by>\w+)", "coverage", "higher"),
    (r"zero_shot_(?!top5_|per_class_|ece_)(?P<by>\w+)", "zero-shot accuracy", "higher"),
    (r"zero_shot_top5_(?P<by>\w+)", "zero-shot accuracy among five", "higher"),
    (r"zero_shot_per_class_(?P<by>\w+)", "zero-shot accuracy, mean over classes", "higher"),
    (r"zero_shot_ece_(?P<by>\w+)", "zero-shot calibration error", "lower"),
    *((rf"{first}_to_{second}_at_{cut}_(?P<by>\w+)", f"recall at {cut}, {first} to {second}", "higher")
      for cut in (1, 5, 10) for first, second in (("image", "text"), ("text", "image"))),
    *((rf"{first}_to_{second}_median_(?P<by>\w+)", f"median rank, {first} to {second}", "lower")
      for first, second in (("image", "text"), ("text", "image"))),
    (r"clip_score_(?P<by>\w+)", "CLIP score", "higher"),
    (r"read", "worst attribute read", "higher"),
    (r"(?P<by>\w+)_accuracy", "accuracy", "higher"),
    (r"accuracy", "accuracy", "higher"),
)


def metrics_of(comparison: Comparison) -> list[Metric]:
    """Return the metrics that any run has logged under val/ or test/, in the order of KINDS."""
    found = []
    for pattern, name, better in KINDS:
        for key in comparison.logged():
            split, _, measure = key.partition("/")
            if split not in ("val", "test") or not (match := re.fullmatch(pattern, measure)):
                continue
            by = (match.groupdict().get("by") or "").replace("_", " ")
            full = f"{by} {name}" if name == "accuracy" and by else f"{name}, {by}" if by else name
            found.append(Metric(key, full if split == "val" else f"{full} (test)", better))
    return list({metric.key: metric for metric in found}.values())
