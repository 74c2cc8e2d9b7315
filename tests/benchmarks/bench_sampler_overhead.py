"""What a sampler costs besides its denoiser (here one that returns a constant), ours and diffusers'.

Run alone: python -m tests.benchmarks.bench_sampler_overhead
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from lightning_modules.diffusion.samplers import (
    DDIM,
    Ancestral,
    DPMSolverPP2M,
    Euler,
    EulerAncestral,
    Heun,
    Sampler,
)
from lightning_modules.diffusion.schedules import LinearBetas

NUM_STEPS, ROUNDS, TARGET = 100, 15, 50.0
NOISE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
OUTPUT = torch.zeros_like(NOISE)


def ours(sampler: Sampler) -> Callable[[], None]:
    schedule, generator = LinearBetas(), torch.Generator().manual_seed(0)

    def run() -> None:
        sampler(lambda x, t: OUTPUT, NOISE, schedule=schedule, num_steps=NUM_STEPS, generator=generator)

    return run


def theirs(scheduler: Any, **options: Any) -> Callable[[], None]:
    def run() -> None:
        scheduler.set_timesteps(NUM_STEPS)
        x = NOISE
        for j in scheduler.timesteps:
            scheduler.scale_model_input(x, j)
            x = scheduler.step(OUTPUT, j, x, **options).prev_sample

    return run


def control() -> None:
    for _ in range(2 * NUM_STEPS):
        torch.add(NOISE, NOISE, alpha=0.5).mul_(0.5)


def measure() -> list[dict[str, Any]]:
    """Rows {"what", "ours", "theirs", "ratio", "target", "holds"}: CPU microseconds a step, minimum of rounds.

    A row holds if ours is at most 50 microseconds; `holds` is None where the control (plain additions) drifted.
    """
    import diffusers

    spacing = {"timestep_spacing": "trailing"}
    generator = {"generator": torch.Generator().manual_seed(0)}
    pairs: dict[str, tuple[Sampler, Callable[[], None]]] = {
        "Ancestral": (Ancestral(), theirs(diffusers.DDPMScheduler(**spacing), **generator)),
        "DDIM": (DDIM(), theirs(diffusers.DDIMScheduler(**spacing))),
        "DDIM(eta=1)": (DDIM(1.0), theirs(diffusers.DDIMScheduler(**spacing), eta=1.0, **generator)),
        "Euler": (Euler(), theirs(diffusers.EulerDiscreteScheduler(**spacing))),
        "EulerAncestral": (
            EulerAncestral(),
            theirs(diffusers.EulerAncestralDiscreteScheduler(**spacing), **generator),
        ),
        "Heun": (Heun(), theirs(diffusers.HeunDiscreteScheduler(**spacing))),
        "DPMSolverPP2M": (DPMSolverPP2M(), theirs(diffusers.DPMSolverMultistepScheduler(**spacing))),
    }
    sides = {"control": control} | {
        key: run
        for name, (sampler, run_theirs) in pairs.items()
        for key, run in ((f"ours {name}", ours(sampler)), (f"theirs {name}", run_theirs))
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    microseconds: dict[str, list[float]] = {key: [] for key in sides}
    try:
        for key, run in [(key, run) for _ in range(ROUNDS + 1) for key, run in sides.items()]:
            begin = time.process_time()
            run()
            microseconds[key].append((time.process_time() - begin) / NUM_STEPS * 1e6)
    finally:
        torch.set_num_threads(threads)
    best = {key: min(rounds[1:]) for key, rounds in microseconds.items()}  # the first round warms up
    middle = ROUNDS // 2 + 1
    early, late = min(microseconds["control"][1:middle]), min(microseconds["control"][middle:])
    steady = max(early, late) <= 1.2 * min(early, late)
    return [
        {
            "what": f"{name}: own microseconds a step (at most 50), against diffusers",
            "ours": best[f"ours {name}"],
            "theirs": best[f"theirs {name}"],
            "ratio": best[f"theirs {name}"] / best[f"ours {name}"],
            "target": TARGET,
            "holds": best[f"ours {name}"] <= TARGET if steady else None,  # None: void, the machine was not steady
        }
        for name in pairs
    ]


if __name__ == "__main__":
    for row in measure():
        print(row)
