"""Real and generated images, a row per class: real ones left, generated ones right"""

from pathlib import Path

import torch

from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"model": "cwgan_gp_mnist"}
COLUMNS, SEED = 10, 0


def draw(runs: dict[str, Path]) -> Drawn:
    model = shared.Trained(runs["model"], "sample", conditional=True)
    classes, left_out = shared.shown_classes(model.classes)
    generated = model.sampled(torch.arange(len(classes)).repeat_interleave(COLUMNS), SEED)
    real = torch.full_like(generated, 1.0)          # white where a class has too few
    found = []
    for label in range(len(classes)):
        own = model.of_class("validation", label, COLUMNS)
        real[label * COLUMNS:label * COLUMNS + len(own)] = own
        found.append(len(own))

    tile = 0.5
    figure = shared.page(2 * tile * COLUMNS + 1.2, tile * len(classes) + 0.5)
    left, right = figure.subplots(1, 2)
    shared.show_grid(left, real, COLUMNS, classes)
    shared.show_grid(right, generated, COLUMNS)
    left.set_title("real (validation)", fontsize=11, color=shared.INK)
    right.set_title("generated", fontsize=11, color=shared.INK)
    settings = model.model.sampling_settings()
    metrics = model.measured("val/class_accuracy", *(key for key in model.run.scalars if key.startswith(("val/fid", "val/fd_"))))
    steps = f", {settings['sampler']} in {settings['num_steps']} steps" if settings["num_steps"] > 1 else ""
    shared.titled(figure, "Real left, generated right", f"{model.title}, {model.kind}{steps}{model.says_judge}{left_out}")
    return Drawn(figure, {"data": model.title, "model": model.kind, "split": "validation", "classes": classes, "real_per_class": found,
                          "generated_per_class": COLUMNS, "seed": SEED, "sampling": settings, "run_metrics": metrics})
