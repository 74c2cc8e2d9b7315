"""How fast the scenes are drawn, on one core: pictures alone in batches of 256, and whole rows (picture as PNG, sentences, boxes).

Run alone: python -m tests.benchmarks.bench_scenes
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from datamodules.scenes import drawing
from datamodules.scenes.dataset import Scenes

NUM, ROUNDS = 256, 7
TARGETS = {16: 2000.0, 32: 2000.0, 64: 500.0, 128: 100.0}  # pictures a second; that at 32 px was asked for


def measure() -> list[dict[str, Any]]:
    """Rows {"what", "ours", "theirs", "ratio", "target", "holds"}: pictures or rows a second of CPU time, best of rounds.

    `theirs` is the target, there being nothing to compare with; `holds` is None where the control (sorting) drifted.
    """
    source, index = Scenes(), np.arange(NUM)
    scenes = source.describe("train", index)
    numbers = np.tile(np.random.default_rng(0).random((400, 400)), (4, 4))
    sides: dict[str, tuple[Callable[[], object], float]] = {"control": (lambda: np.sort(numbers, axis=0), 0.0)}
    for size, target in TARGETS.items():
        sides[f"scenes: pictures of {size} px a second"] = (lambda size=size: drawing.draw(scenes, size), target)
    sides["scenes: whole rows of 32 px a second"] = (lambda: list(source.rows("train", index, 32)), 1000.0)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, (run, _) in sides.items():
            begin = time.process_time()
            run()
            seconds[name].append(time.process_time() - begin)
    control = seconds.pop("control")
    steady = max(control) <= 1.25 * min(control)
    return [
        {"what": name, "ours": NUM / min(taken), "theirs": sides[name][1], "ratio": NUM / min(taken) / sides[name][1],
         "target": 1.0, "holds": NUM / min(taken) >= sides[name][1] if steady else None}
        for name, taken in seconds.items()
    ]  # fmt: skip


if __name__ == "__main__":
    for row in measure():
        print(row)
