"""Latent means of a VAE and a conditional VAE, coloured by class: told the label, the latent no longer shows it"""

from pathlib import Path

from experiments.drawing import Drawn
from experiments.figures import _trained as shared

RUNS = {"vae": "vae_mnist", "cvae": "cvae_mnist"}
POINTS = 2000


def draw(runs: dict[str, Path]) -> Drawn:
    figure = shared.page(12, 6.5)
    numbers: dict = {}
    for key, ax in zip(RUNS, figure.subplots(1, 2), strict=True):
        vae = shared.Trained(runs[key], "encode", conditional=key == "cvae")
        images, labels = vae.real("validation", POINTS)
        mu = vae.means(images, labels)
        points, names = shared.to_plane(mu)
        handles = shared.scatter_classes(ax, points, labels.numpy(), vae.classes, names=key == "vae")
        shared.limits(ax, points)
        ax.set(xlabel=names[0], ylabel=names[1])
        probe, chance = vae.run.last("val/label_probe"), vae.run.about.get("val/label_probe", {}).get("chance")
        says = "" if probe is None else f"\na linear probe tells {probe:.0%} of the labels from μ" + (
            f" (chance {chance:.0%})" if chance is not None else "")
        called = "conditional VAE: μ(image, label)" if key == "cvae" else "VAE: μ(image)"
        ax.set_title(called + says, fontsize=11, color=shared.INK, linespacing=1.5)
        numbers[key] = {"data": vae.title, "split": "validation", "latent_dim": mu.shape[1], "axes": names, "label_probe": probe,
                        "chance": chance, "classes": vae.classes, "labels": labels.tolist(), "points": shared.rounded(points)}
    titles = " and ".join(dict.fromkeys(one["data"] for one in numbers.values()))
    shared.titled(figure, "Told the label, the latent has room for everything else",
                  f"{titles}, {len(labels):,} validation images; each latent in the plane in which its means spread most")
    shared.legend(figure, handles)
    return Drawn(figure, numbers)
