"""The same z under every label (conditional VAE): a row keeps its style, a column its class"""

from pathlib import Path

import torch

from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"cvae": "cvae_mnist"}
ROWS, SEED = 8, 0


def draw(runs: dict[str, Path]) -> Drawn:
    cvae = shared.Trained(runs["cvae"], "decode", conditional=True)
    classes, left_out = shared.shown_classes(cvae.classes)
    z = torch.randn(ROWS, cvae.model.decoder.latent_dim, generator=torch.Generator().manual_seed(SEED))
    labels = torch.arange(len(classes)).repeat(ROWS)
    images = cvae.decoded(z.repeat_interleave(len(classes), 0), labels)

    tile = 0.72
    figure = shared.page(max(6.6, tile * len(classes) + 1), tile * ROWS + (0.9 if max(map(len, classes)) > 4 else 0.4))
    ax = figure.subplots()
    shared.show_grid(ax, images, len(classes), [f"z{'₁₂₃₄₅₆₇₈₉'[row]}" for row in range(ROWS)], classes)
    shared.titled(figure, "One z, every label: a row keeps its style, a column its class",
                  f"{cvae.title}, {cvae.kind}{cvae.says_judge}{left_out}")
    return Drawn(figure, {"data": cvae.title, "classes": classes, "seed": SEED, "z": shared.rounded(z.numpy()),
                          "run_metrics": cvae.measured("val/class_accuracy", "val/label_probe", "val/bound")})
