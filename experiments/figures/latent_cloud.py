"""Latent cloud of a VAE: where it puts the images of each class, and what samples of N(0, I) decode to: no class can be chosen"""

from pathlib import Path

import torch

from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"vae": "vae_mnist"}
POINTS, SIDE, SEED = 2000, 9, 0


def draw(runs: dict[str, Path]) -> Drawn:
    vae = shared.Trained(runs["vae"], "encode", "decode", conditional=False)
    images, labels = vae.real("validation", POINTS)
    mu = vae.means(images, labels)
    points, names = shared.to_plane(mu)
    z = torch.randn(SIDE**2, mu.shape[1], generator=torch.Generator().manual_seed(SEED))
    samples = vae.decoded(z, torch.zeros(len(z), dtype=torch.long))

    figure = shared.page(12, 6.5)
    cloud, decoded = figure.subplots(1, 2)
    handles = shared.scatter_classes(cloud, points, labels.numpy(), vae.classes, names=True)
    shared.limits(cloud, points)
    cloud.set(xlabel=names[0], ylabel=names[1])
    cloud.set_title(f"encode: latent means of {len(points):,} validation images", fontsize=11, color=shared.INK)
    shared.show_grid(decoded, samples, SIDE)
    decoded.set_title(f"decode: {len(z)} samples of N(0, I)", fontsize=11, color=shared.INK)
    shared.titled(figure, "A VAE puts the classes in regions, but nobody can choose the class of a sample",
                  f"{vae.title}, latent of {mu.shape[1]} dimensions; colours are classes, which the VAE was never told")
    shared.legend(figure, handles)
    return Drawn(figure, {"data": vae.title, "split": "validation", "latent_dim": mu.shape[1], "axes": names, "classes": vae.classes,
                          "labels": labels.tolist(), "points": shared.rounded(points), "samples": len(z), "sample_seed": SEED,
                          "run_metrics": vae.measured("val/bound", "val/kl", "val/label_probe")})
