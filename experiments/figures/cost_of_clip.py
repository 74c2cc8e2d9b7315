"""What CLIP cost: floating-point operations of its training, measured a pair at a time, beside those of a run of ours"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"own": "clip_scenes"}
CLIP_PAIRS = 32 * 400_000_000       # 32 epochs of 400 million pairs (Radford et al. 2021, 2103.00020, section 2.5)
PUBLISHED = {                       # architecture: name, pairs seen, GPU-days where published
    "RN50": ("CLIP RN50", CLIP_PAIRS, None),
    "ViT-B-32": ("CLIP ViT-B/32", CLIP_PAIRS, None),
    "ViT-L-14": ("CLIP ViT-L/14", CLIP_PAIRS, 256 * 12),            # same section: 256 V100 for 12 days
    "RN50x64": ("CLIP RN50x64", CLIP_PAIRS, 592 * 18),              # and 592 V100 for 18 days
    "ViT-g-14": ("OpenCLIP ViT-g/14", 12_208_147_020, None),        # on LAION-2B, by the authors' table of samples seen
}
COLOUR, OWN = "#0072b2", "#d55e00"
YEAR = 365.25 * 24 * 3600


def flops_of_architecture(name: str) -> tuple[int, int]:
    """Operations of one pair through both towers of an open_clip architecture: forward, and forward and backward; no weight is made."""
    from open_clip import get_model_config
    from open_clip.model import CLIP

    with torch.device("meta"):
        model = CLIP(**get_model_config(name))
        side = model.visual.image_size if isinstance(model.visual.image_size, int) else model.visual.image_size[0]
        image, tokens = torch.empty(1, 3, side, side), torch.zeros(1, model.context_length, dtype=torch.long)

    def forward() -> Tensor:
        return model.encode_image(image).sum() + model.encode_text(tokens).sum()

    return counted(forward), counted(lambda: forward().backward())


def counted(run: Any) -> int:
    """Operations that torch counts in a call: two for each multiplication and addition of products and convolutions."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return int(counter.get_total_flops())


def flops_of_run(trained: shared.Trained) -> tuple[float, int, float]:
    """Operations of a training pair, pairs seen and seconds of a run of ours, counted on a batch of its own."""
    data = trained.data
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    batch = {key: value.to(trained.model.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    trained.model.train()
    total = counted(lambda: trained.model.losses(batch)["loss"].backward())
    rows = len(batch["image"])
    steps = 1 + max(step for values in trained.run.scalars.values() for step, _ in values)
    return total / rows, rows * steps, float(trained.run.status["seconds"])


def draw(runs: dict[str, Path]) -> Drawn:
    trained = shared.Trained(runs["own"], "embed_images", "embed_tokens")
    each, pairs, seconds = flops_of_run(trained)
    pace = each * pairs / seconds
    rows: list[dict[str, Any]] = []
    for name, (title, seen, gpu_days) in PUBLISHED.items():
        forward, training = flops_of_architecture(name)
        rows.append({"model": title, "forward_flops_of_a_pair": forward, "training_flops_of_a_pair": training, "pairs": seen,
                     "flops": float(training * seen), "gpu_days": gpu_days, "years_at_our_pace": training * seen / pace / YEAR})
    rows.sort(key=lambda row: row["flops"])
    own: dict[str, Any] = {"model": f"ours: {trained.run.name}", "training_flops_of_a_pair": each, "pairs": pairs,
                           "flops": each * pairs, "seconds": seconds}

    figure = shared.page(11.4, 0.62 * (len(rows) + 1) + 0.75)
    ax = figure.subplots()
    for place, row in enumerate([own, *rows]):
        ax.barh(place, row["flops"], color=OWN if row is own else COLOUR, height=0.62)
        ax.text(row["flops"] * 1.5, place, said(row), va="center", fontsize=10, color=shared.INK, linespacing=1.25)
    ax.set(xscale="log", xlim=(own["flops"] / 30, 1e9 * rows[-1]["flops"]), yticks=range(len(rows) + 1))
    ax.set_yticklabels([row["model"] for row in [own, *rows]])
    ax.set_xticks([10.0**power for power in range(12, 25, 2) if own["flops"] / 30 < 10.0**power])
    ax.set_xlabel("floating-point operations of the whole training, logarithmic")
    shared.quiet(ax)
    ax.tick_params(axis="y", length=0, labelsize=11, labelcolor=shared.INK)
    shared.titled(figure, "What CLIP cost",
                  f"operations of a pair (forward and backward, counted) × pairs seen (published); ours ran at {pace / 1e9:,.1f} GFLOP/s")
    return Drawn(figure, {"own": own, "published": rows, "pace_of_ours": pace})


def said(row: dict[str, Any]) -> str:
    """What a bar says beside itself."""
    first = f"{row['flops']:.1e}".replace("e+", "·10^").replace("^0", "^")
    head, power = first.split("^")
    each = row["training_flops_of_a_pair"] / 1e9
    count = f"{f'{each:,.0f}' if each >= 100 else f'{each:.2g}'} GFLOP × {spoken(row['pairs'])} pairs"
    if "seconds" in row:
        return f"{head}{raised(power)}   {count}\n{row['seconds'] / 60:.0f} minutes"
    gpu = f"{row['gpu_days']:,} GPU-days of a V100; " if row["gpu_days"] else ""
    years = float(f"{row['years_at_our_pace']:.2g}")
    return f"{head}{raised(power)}   {count}\n{gpu}{spoken(years)} years at our pace"


def raised(power: str) -> str:
    return power.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def spoken(number: float) -> str:
    """12.8 billion, 384,000, 25 thousand."""
    for word, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"
