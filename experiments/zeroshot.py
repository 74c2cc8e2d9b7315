"""`practicum zeroshot RUN_OR_MODEL --data A B C`: how well a pair of towers names classes that it was never told, on many data sets."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callbacks import published
from experiments.catalogue import Arguments, Mistake, entries, nearest
from experiments.data_sheet import file_named, found_out
from experiments.request import Request
from experiments.runs import find_run, runs_root, scrub, write_atomically

if TYPE_CHECKING:
    from callbacks.clips import Clip

EPILOG = """A data set of several splits is asked about its test split, or validation where there is none. Several templates are an
ensemble. For instance: practicum zeroshot clip_cifar10 --data cifar10; practicum zeroshot ViT-B-32 --pretrained weights.pt --data mnist"""


def main(arguments: list[str]) -> int:
    """The verb `zeroshot`."""
    parser = Arguments(prog="practicum zeroshot", description=__doc__, epilog=EPILOG)
    parser.add_argument("model", help="a run (folder, NAME/ID, or NAME for its latest), or a model of open_clip: its name, a JSON file "
                                      "that describes it, or a folder that open_clip has saved")
    parser.add_argument("--data", nargs="+", required=True, metavar="D", help="data sets of `practicum list`, YAMLs, folders or Hub ids")
    parser.add_argument("--pretrained", metavar="FILE|TAG", help="the weights of an open_clip model")
    parser.add_argument("--template", action="append", metavar="TEXT", help="text with {} for the class, or a(n) {}; may be given several "
                                                                           "times (default: a photo of a {})")
    parser.add_argument("--split", help="of every data set: train, validation, test or another of its own (default: test)")
    parser.add_argument("--num", type=int, help="pictures of each data set, drawn once (default: all)")
    parser.add_argument("--out", type=Path, help="folder of the table as HTML and JSON (default: in runs/zeroshot)")
    asked = parser.parse_args(arguments)
    if asked.num is not None and asked.num < 1:
        raise Mistake(f"--num {asked.num}: ask for one picture at least")
    templates = asked.template or ["a photo of a {}"]
    for template in templates:
        if "{}" not in template:
            raise Mistake(f"--template {template!r}: has no {{}} for the name of the class; write for instance 'a photo of a {{}}'")
    files = {name: file_named(name) for name in asked.data}     # what is wrong is said before anything is loaded
    which = towers(asked.model, asked.pretrained)

    from callbacks.clips import Clip
    from callbacks.media import to_uint8
    from experiments.training import calm_libraries
    from experiments.zero_shot_page import page, text_table

    calm_libraries()
    clip = Clip(**which)
    rows = []
    for name, file in files.items():
        row, images = measure(clip, name, file, templates, asked.split, asked.num)
        rows.append(row | {"pictures": to_uint8(images)})
    settings = clip.settings()
    print(text_table(rows, settings["clip"]))
    out = asked.out or runs_root() / "zeroshot" / clip.name
    out.mkdir(parents=True, exist_ok=True)
    about = {"command": shlex.join(scrub(["practicum", "zeroshot", *arguments])), "templates": templates, **settings}
    write_atomically(out / "index.html", page(rows, about))
    plain = [{key: value for key, value in row.items() if key != "pictures"} for row in rows]
    write_atomically(out / "zeroshot.json", json.dumps({**about, "rows": plain}, indent=1))
    print(out / "index.html")
    return 0


def towers(model: str, pretrained: str | None) -> dict[str, Any]:
    """The arguments of `Clip` for what the user calls the model; a `Mistake`, or ValueError, where there is none."""
    given = Path(model)
    of_open_clip = (given / published.CONFIG).is_file() or (model.endswith(".json") and given.is_file())
    if of_open_clip or model in published.architectures():
        published.checked(model, pretrained)
        return {"name": model, "pretrained": pretrained}
    try:
        run = find_run(model)
    except ValueError as error:
        if pretrained is not None:
            published.checked(model, pretrained)    # which names the nearest architecture
        raise Mistake(f"{error}; nor has open_clip such a model; {nearest(model, published.architectures())}") from None
    if pretrained is not None:
        raise Mistake(f"--pretrained {pretrained}: goes with a model of open_clip; the run {model} has its own weights")
    return {"run": run}


def measure(clip: "Clip", name: str, file: Path | None, templates: list[str], split: str | None,
            num: int | None) -> tuple[dict[str, Any], Any]:
    """One row of the table, and the first pictures [8, C, H, W] in [-1, 1] of the data set."""
    import torch

    from callbacks.evaluation import RealImages
    from callbacks.zero_shot import name_images

    module = data_set(name, file, clip)
    if split is None:
        split = "test" if "test" in module._splits else "validation"
    real = RealImages.among(module, split)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    named = name_images(clip, real, templates, num=num, device=device)
    scores, count = named.scores(), min(8, len(named.labels))
    said = [real.class_names[label] for label in named.nearest[:count, 0].tolist()]
    true = [real.class_names[label] for label in named.labels[:count].tolist()]
    row = {"data": name if file else module.title, "fingerprint": real.fingerprint, "split": split, "num_classes": len(real.class_names),
           "num_images": len(named.labels), **vars(scores), "chance": 1 / len(real.class_names), "said": said, "true": true}
    return row, real.images(0, count)


def data_set(name: str, file: Path | None, clip: "Clip") -> Any:
    """The DataModule of a name of `practicum list`, a YAML, a folder or a Hub id; a `Mistake` where it has no classes."""
    from experiments.command_line import data_module, parse_data

    request = Request(name)
    if file is not None:
        request.data_arguments = ["--config", str(file)]
    else:
        size = ["--data.image_size", str(clip.image_size)] if clip.image_size else []
        request.data_arguments = found_out(Request(name), ["--data.path", name, *size])
    module = data_module(parse_data(request))
    if not getattr(module, "class_names", []):
        labelled = ", ".join(entry.name for entry in entries("data set"))
        raise Mistake(f"--data {name}: has no classes, so there is nothing to name; take another ({labelled}), or class folders")
    return module
