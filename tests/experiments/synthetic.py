"""Run folders that no training made, in the exact format of real ones and labelled "synthetic": known numbers for tests of reports.

Per seed the cosine runs have 0.25 bits/dim less and the same Fréchet distance up to noise; the pictures are drawn patterns.
"""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

SCHEDULES: dict[str, dict[str, Any]] = {
    "LinearBetas": {"num_steps": 1000, "beta_start": 1e-4, "beta_end": 0.02},
    "Cosine": {"num_steps": 1000, "offset": 0.008},
    "Sigmoid": {"num_steps": 1000, "start": -3.0, "end": 3.0, "temperature": 1.0},
    "OffsetCosine": {"num_steps": 1000, "max_signal": 0.95, "min_signal": 0.02},
    "ScaledLinearBetas": {"num_steps": 1000, "beta_start": 8.5e-4, "beta_end": 0.012},
}
ABOUT = {
    "extractor": "synthetic",
    "weights": "sha256 0123456789ab",
    "real images": 1000,
    "generated images": 1000,
    "split": "test",
    "image size": 16,
    "weights used": "EMA",
    "sampler": "DDIM",
    "steps": 50,
    "guidance": 1.0,
}


def write_sweep(
    root: Path,
    schedules: Sequence[str] = ("LinearBetas", "Cosine"),
    seeds: Sequence[int] = (0, 1, 2),
    rates: Sequence[float] = (2e-3,),
) -> Path:
    """Write one run folder per schedule, learning rate and seed below `root`, and return `root`."""
    for place, schedule in enumerate(schedules):
        for rate in rates:
            for seed in seeds:
                write_run(
                    root / f"synthetic_{schedule}-{rate}-{seed}",
                    schedule,
                    seed,
                    rate,
                    started=f"2026-01-0{place + 1}T00:00:0{seed}",
                )
    return root


def write_run(
    folder: Path,
    schedule: str,
    seed: int,
    rate: float = 2e-3,
    started: str = "2026-01-01T00:00:00",
    state: str = "finished",
) -> Path:
    """Write one run folder."""
    draw = random.Random(f"{schedule}{seed}")
    forward = random.Random(schedule)  # the way into noise is the same for every seed
    shared = random.Random(seed)  # what the seeds of both groups have in common
    offset, better = shared.gauss(0, 1.5), {"Cosine": 1.0, "Sigmoid": 0.7}.get(schedule, 0.0)
    (folder / "media").mkdir(parents=True)
    config = {
        "seed_everything": seed,
        "trainer": {"max_steps": 2000, "accelerator": "auto", "default_root_dir": str(folder)},
        "model": {
            "class_path": "lightning_modules.ddpm.DDPM",
            "init_args": {
                "network": {"class_path": "lightning_modules.networks.unet.UNet", "init_args": {"width": 32}},
                "schedule": {
                    "class_path": f"lightning_modules.diffusion.schedules.{schedule}",
                    "init_args": SCHEDULES[schedule],
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": rate}},
            },
        },
        "data": {
            "class_path": "datamodules.image_classes.ImageClasses",
            "init_args": {"path": "digits", "image_size": 16},
        },
    }
    status = {
        "experiment": "synthetic_digits",
        "id": folder.name,
        "state": state,
        "started": started,
        "finished": started,
        "seconds": 118.0 + seed,
        "step": 2000,
        "epoch": 9,
        "command": f"practicum fit synthetic_digits --model.schedule {schedule} --seed_everything {seed}",
        "seed": seed,
        "device": "cpu (synthetic)",
        "versions": {"python": "3.11.2", "torch": "2.15.0"},
        "title": "synthetic data",
        "parameters": 612_345,
    }
    lines: list[dict[str, Any]] = []

    def log(step: int, **values: Any) -> None:
        lines.append({"step": step, "epoch": step // 200, "time": step / 20, **values})

    for step in range(20, 2001, 20):
        log(step, **{"train/loss": 0.06 + 0.9 * math.exp(-step / 150) + 0.02 * better + draw.gauss(0, 0.008)})
    for step in range(500, 2001, 500):
        log(step, **{"val/fd_digits_classifier": 40 + 160 * math.exp(-step / 500) + offset + draw.gauss(0, 0.9)})
    log(
        2000,
        **{
            "val/kid_digits_classifier": 0.021 + 0.001 * offset + draw.gauss(0, 0.0006),
            "val/bits_per_dim": 3.6 - 0.25 * better + 0.05 * offset + draw.gauss(0, 0.02),
            "val/class_accuracy": min(0.93 + 0.004 * offset + draw.gauss(0, 0.006), 1),
        },
    )
    log(2000, **{"val/real_floor_fd_digits_classifier": 16.8})
    log(
        2000,
        table="val/class_accuracy_by_class",
        columns=["class", "accuracy", "low", "high", "num_images"],
        rows=[["0", 0.9, 0.85, 0.95, 100], ["judge on real images", 0.991, 0.98, 1.0, 1000]],
    )
    times = [k / 20 for k in range(1, 21)]
    log(
        2000,
        table="val/loss_by_noise",
        columns=["t", "loss"],
        rows=[[t, 0.01 + 0.8 * math.exp(-(7 - 3 * better) * t) * math.exp(draw.gauss(0, 0.05))] for t in times],
    )
    log(
        2000,
        table="val/fd_by_steps",
        columns=["steps", "fd"],
        rows=[[k, 40 + offset + (260 - 120 * better) / k + draw.gauss(0, 0.8)] for k in (5, 10, 20, 50, 100)],
    )
    log(
        2000,
        table="val/fd_by_skipped",
        columns=["skipped", "fd"],
        rows=[[s, 40 + offset + (20 + 240 * better) * s**2 + draw.gauss(0, 0.8)] for s in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)],
    )
    for key, size in (("val/samples", (10, 10)), ("val/noising", (10, 4)), ("val/denoising", (10, 4))):
        name = f"media/{key.replace('/', '_')}_00002000.png"
        noising = key == "val/noising"
        _picture(*size, 0.0 if key == "val/samples" else 1.0, forward if noising else draw, noising).save(folder / name)
        log(2000, media=key, file=name, caption="synthetic")
    for key in ("val/fd_digits_classifier", "val/kid_digits_classifier", "val/bits_per_dim", "val/class_accuracy"):
        log(2000, about=key, declaration=ABOUT)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def _picture(columns: int, rows: int, noisy: float, draw: random.Random, forward: bool, size: int = 16, pad: int = 2) -> Image.Image:
    """Rings and bars on black with a grey gutter, ever noisier from left to right (or the other way)."""
    picture = Image.new("L", (columns * (size + pad) + pad, rows * (size + pad) + pad), 225)
    for row in range(rows):
        for column in range(columns):
            radius, tilt = draw.uniform(2.5, 6), draw.uniform(-1, 1)
            share = noisy * (column if forward else columns - 1 - column) / (columns - 1)
            for y in range(size):
                for x in range(size):
                    u, v = x - size / 2 + tilt * (y - size / 2) / 3, y - size / 2
                    ring = math.exp(-((math.hypot(u, v) - radius) ** 2))
                    value = (1 - share) * 255 * ring + share * draw.uniform(0, 255)
                    picture.putpixel((pad + column * (size + pad) + x, pad + row * (size + pad) + y), int(value))
    return picture
