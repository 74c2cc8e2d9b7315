"""`practicum sample RUN`: pictures from a finished run; what drew them is written into the PNG.

An --out without .png is a folder: a data set of the pictures with their labels, for --data.path.
"""

import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from callbacks.allowlist import run_config
from callbacks.extractors import load_run
from callbacks.media import grid, to_uint8, trouble_with
from callbacks.progress import track
from callbacks.protocols import Samples
from datamodules.sources import quiet
from experiments.catalogue import Arguments, Mistake, nearest
from experiments.runs import find_run, new_id, write_atomically
from lightning_modules.diffusion.samplers import Sampler

PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def main(arguments: list[str]) -> int:
    """The verb `sample`."""
    parser = Arguments(prog="practicum sample", description=__doc__)
    parser.add_argument("run", help="a run folder, NAME/ID, or NAME for its latest run")
    parser.add_argument("--label", help="class, by number or name (default: all classes in turn)")
    parser.add_argument("--num", type=int, default=16, help="number of pictures (default: 16)")
    parser.add_argument("--sampler", help="ddim, ancestral, euler, eulerancestral, heun or dpmsolverpp2m (default: the run's)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the run's)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance s: 1 conditional, more exaggerates (default: the run's)")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), help="of the network's sums (default: the run's)")
    parser.add_argument("--seed", type=int, default=0, help="picture i is drawn from seed + i (default: 0)")
    parser.add_argument("--out", type=Path, help="the PNG (default: RUN/samples/...), or a folder for a data set")
    asked = parser.parse_args(arguments)
    if asked.num < 1:
        raise Mistake(f"--num {asked.num}: ask for one picture at least")
    if asked.steps is not None and asked.steps < 1:
        raise Mistake(f"--steps {asked.steps}: take one step at least")
    if asked.out is not None and asked.out.suffix.lower() in (".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".svg", ".parquet"):
        raise Mistake(f"--out {asked.out}: the picture is a PNG, a data set a folder; give {asked.out.stem}.png or {asked.out.stem}")

    folder = find_run(asked.run)
    status = json.loads((folder / "status.json").read_text())
    model = generative(folder)
    for flag, value, attribute in (("sampler", asked.sampler, "sampler"), ("steps", asked.steps, "num_sampling_steps"),
                                   ("guidance", asked.guidance, "guidance")):
        if value is not None and not hasattr(model, attribute):
            raise Mistake(f"--{flag} {value}: a {type(model).__name__} draws in one step and has no {flag}; leave the flag out")
    if asked.sampler is not None:
        model.sampler = sampler_named(asked.sampler)
    if asked.guidance is not None and not math.isfinite(asked.guidance):
        raise Mistake(f"--guidance {asked.guidance}: give a number, for instance 2")
    if asked.label is not None and not model.sampling_settings()["conditional"]:
        raise Mistake(f"--label {asked.label}: run {asked.run} is not conditional; leave the flag out")
    if asked.guidance is not None:
        model.guidance = asked.guidance
    labels = labels_for(asked.label, status.get("classes", []), asked.num)
    if asked.out is not None and asked.out.suffix.lower() != ".png":
        print(write_data_set(model, folder, asked.out, labels, seed=asked.seed, num_steps=asked.steps, precision=asked.precision))
        return 0
    settings = model.sampling_settings()
    steps = asked.steps or settings["num_steps"]
    generator = [torch.Generator().manual_seed(asked.seed + index) for index in range(asked.num)]
    watched = {"progress": lambda chain: track(chain, "sampling")} if hasattr(model, "num_sampling_steps") else {}
    precision = asked.precision or precision_of(folder)
    with at_precision(precision, model.device):
        images = model.sample({"label": labels.to(model.device)}, generator=generator, num_steps=steps, **watched)

    parameters = {**settings, "num_steps": steps, "precision": precision, "seed": asked.seed, "label": asked.label,
                  "size": f"{images.shape[3]}x{images.shape[2]}", "run": f"{status['experiment']}/{status['id']}"}
    how = re.split(r"\W", parameters["sampler"])[0].lower()
    out = asked.out or folder / "samples" / f"{asked.label or 'all'}-{how}-{steps}-{asked.seed}.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    written = PngImagePlugin.PngInfo()
    written.add_text("parameters", json.dumps(parameters))
    columns = len(status.get("classes", [])) if asked.label is None and asked.num % max(1, len(status.get("classes", []))) == 0 else 0
    picture = io.BytesIO()
    Image.fromarray(grid(images, columns or math.ceil(math.sqrt(asked.num)))).save(picture, "PNG", pnginfo=written)
    write_atomically(out, picture.getvalue())
    print(out)
    return 0


def generative(folder: Path) -> Any:
    """The model of a finished run, ready to sample, on the accelerator if there is one."""
    model: Any = load_run(folder).eval().requires_grad_(False)
    draws = isinstance(model, Samples)
    if not draws:
        raise Mistake(f"run {folder}: a {type(model).__name__} draws no pictures; name a run of a generative model")
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def draw_data_set(folder: Path, out: Path, num: int, seed: int = 0) -> Path:
    """A data set of `num` pictures of a finished run, all classes in turn, drawn as the run itself draws; returns `out`."""
    classes = json.loads((folder / "status.json").read_text()).get("classes", [])
    return write_data_set(generative(folder), folder, out, labels_for(None, classes, num), seed=seed)


def write_data_set(model: Any, folder: Path, out: Path, labels: torch.Tensor, *, seed: int = 0, num_steps: int | None = None,
                   precision: str | None = None, batch_size: int = 500) -> Path:
    """Draws a picture for each of `labels` [N] and writes the folder `out`, which appears only when it is whole.

    train.parquet has the columns image (PNG) and label (a ClassLabel with the run's class names); picture i is drawn from seed + i,
    in whatever batch. parameters.json says what drew them. Raises `Mistake` for a model without classes, pictures that are NaN
    or out of range, and a folder that is there.
    """
    import datasets

    status = json.loads((folder / "status.json").read_text())
    settings, classes = model.sampling_settings(), status.get("classes", [])
    precision = precision or precision_of(folder)
    if not settings["conditional"] or not classes:
        raise Mistake(f"--out {out}: run {folder} draws without a class, so its pictures have no label; give --out {out}.png")
    if out.exists():
        raise Mistake(f"--out {out} is there already; choose another folder")

    def rows() -> Iterator[dict[str, Any]]:
        for start in track(range(0, len(labels), batch_size), f"drawing {len(labels)} pictures"):
            asked = labels[start:start + batch_size]
            generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(asked))]
            with at_precision(precision, model.device):
                images = model.sample({"label": asked.to(model.device)}, generator=generators, num_steps=num_steps).float()
            if trouble := trouble_with(images):
                raise Mistake(f"run {folder}: its pictures cannot be written: {trouble}")
            for pixels, label in zip(to_uint8(images).permute(0, 2, 3, 1).cpu().numpy(), asked.tolist(), strict=True):  # H W C
                yield {"image": {"bytes": png(pixels), "path": None}, "label": label}

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    parameters = {**settings, "num_steps": num_steps or settings["num_steps"], "precision": precision, "seed": seed,
                  "num_images": len(labels), "run": f"{status['experiment']}/{status['id']}"}
    partial = out.with_name(f".{out.name}-{new_id()}")
    partial.mkdir(parents=True)
    try:
        drawn = datasets.Dataset.from_list(list(rows()), features=features)
        with quiet():
            drawn.to_parquet(partial / "train.parquet")
        (partial / "parameters.json").write_text(json.dumps(parameters, indent=1) + "\n")
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial)
        if not out.is_dir():      # else another process has drawn the same in the meantime
            raise
    return out


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, C] as a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def precision_of(folder: Path) -> str:
    """The precision that a run was trained at and its pictures were measured at."""
    asked = run_config(folder)["trainer"].get("precision")
    return str(asked or ("bf16-mixed" if torch.cuda.is_available() else "32-true"))


def at_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast where `precision` is a mixed one, as the Trainer has it for its steps."""
    dtype = PRECISIONS.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def sampler_named(name: str) -> Sampler:
    """The sampler whose class name is `name`, in any case and without spaces: "ddim", "Euler ancestral"."""
    known = {kind.__name__.lower(): kind for kind in Sampler.__subclasses__()}
    wanted = name.lower().replace(" ", "").replace("_", "")
    if wanted not in known:
        begin = [full for full in known if full.startswith(wanted)]
        if len(begin) == 1:     # "euler a", "dpm"
            return known[begin[0]]()
        raise Mistake(f"--sampler {name}: there is none of that name; {nearest(wanted, known)}")
    return known[wanted]()


def labels_for(asked: str | None, classes: list[str], num: int) -> torch.Tensor:
    """`num` labels: the one asked for by number or name, else all classes in turn."""
    if asked is None:
        return torch.arange(num) % max(1, len(classes))
    if asked in classes:
        return torch.full((num,), classes.index(asked))
    if asked.isdigit() and int(asked) < len(classes):
        return torch.full((num,), int(asked))
    raise Mistake(f"--label {asked}: the run has no such class; {nearest(asked, classes)}")
