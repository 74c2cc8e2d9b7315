"""`practicum data NAME`: a contact sheet of any data set, and what is in it: rows, sizes, classes, words, duplicates."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.catalogue import Arguments, Mistake, entries, find, nearest
from experiments.request import Request, flag_pairs, split_equals
from experiments.runs import runs_root

if TYPE_CHECKING:
    from datamodules.hugging_face import HuggingFaceData
    from experiments.data_statistics import Split

SIZE_OF_MANY = 128  # px, of pictures of several sizes where no --data.image_size is given
VALIDATION = ("validation", "valid", "val", "dev")  # the splits of a source that a DataModule validates on, unless told otherwise
EPILOG = """Any key of the data set may be given, as with fit: --data.image_size 32, --data.limit 1000, --data.columns.label group,
--data.path DIR, --data.class_path datamodules.image_captions.ImageCaptions."""


def main(arguments: list[str]) -> int:
    """The verb `data`."""
    parser = Arguments(prog="practicum data", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
                       usage="practicum data NAME [--num 48] [--split train] [--seed 0] [--out sheet.png] [--data.KEY VALUE ...]")
    parser.add_argument("name", nargs="?", help="a data set of `practicum list`, a path to a YAML, a folder, or a Hub id OWNER/NAME")
    parser.add_argument("--num", type=int, default=48, help="pictures on the sheet (default: 48)")
    parser.add_argument("--split", default="train", help="the split to draw them from (default: train)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--out", type=Path, help="the PNG, beside which the numbers are written as JSON (default: in runs/data/NAME)")
    own, flags = divided(arguments)
    asked = parser.parse_args(own)
    if asked.num < 1:
        raise Mistake(f"--num {asked.num}: ask for one picture at least")
    if asked.seed < 0:
        raise Mistake(f"--seed {asked.seed}: give a whole number from 0")
    if asked.out is not None and asked.out.suffix.lower() != ".png":
        raise Mistake(f"--out {asked.out}: the sheet is a PNG; give a name such as {asked.out}.png")
    given = dict(flag_pairs(flags))
    name = asked.name or next(iter(given.get("--data.path", [])), None)
    if name is None:
        raise Mistake(f"which data set? {nearest('', [entry.name for entry in entries('data set')])}; or give a folder or a Hub id")
    file = None if asked.name is None else file_named(name)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)  # what cannot be written is said before the work

    from experiments.training import calm_libraries

    calm_libraries()
    request = Request(name)
    if file is not None:
        request.data_arguments = ["--config", str(file), *flags]
    else:
        path = [] if "--data.path" in given else ["--data.path", name]
        request.data_arguments = found_out(Request(name), [*path, *flags])
    module, shown = opened(request, asked.split)
    out = asked.out or runs_root() / "data" / (file.stem if file else module.title) / f"{asked.split}.png"
    command = split_equals(arguments)
    if "--out" in command:  # says nothing of what is on the sheet
        del command[command.index("--out") : command.index("--out") + 2]
    sheet(module, shown, asked, out, shlex.join(["practicum", "data", *command]))
    return 0


def divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The verb's own arguments, and the flags `--data.KEY VALUE` for the DataModule."""
    own: list[str] = []
    flags: list[str] = []
    rest = iter(split_equals(arguments))
    for argument in rest:
        if not argument.startswith("--data."):
            own.append(argument)
        elif (value := next(rest, None)) is None:
            raise Mistake(f"{argument} needs a value")
        else:
            flags += [argument, value]
    return own, flags


def file_named(name: str) -> Path | None:
    """The YAML of a name; None for a folder, a Hub id or a data set of the mirror, which have none."""
    known = [entry.name for entry in entries("data set")]
    if name in known or name.endswith((".yaml", ".yml")):
        return find("data set", name)
    mirror = os.environ.get("PRACTICUM_DATA")
    if Path(name).expanduser().is_dir() or "/" in name or name.startswith("~") or (mirror and (Path(mirror).expanduser() / name).is_dir()):
        return None
    raise Mistake(f"data set {name!r}: there is no such name or folder; {nearest(name, known)}; or give a folder or a Hub id OWNER/NAME")


def found_out(request: Request, flags: list[str]) -> list[str]:
    """The arguments of a data set without a YAML: the DataModule that its columns call for, and what its pictures need."""
    from datamodules import columns as tables
    from datamodules import decoded, sources
    from experiments.command_line import parse_data
    from experiments.data_statistics import encoded_pictures

    request.data_arguments = ["--data", "datamodules.image_captions.ImageCaptions", *flags]  # which takes every other's keys
    given = parse_data(request).init_args
    if not isinstance(given.path, str):
        return ["--data", "datamodules.image_classes.ImageClasses", *flags]
    source = sources.load(given.path, given.name, given.revision, given.image_size)
    train = given.train_split
    if train not in source:
        if "--data.train_split" in flags:
            return ["--data", "datamodules.hugging_face.HuggingFaceData", *flags]  # which says what is wrong with it
        train = next(iter(source))
        flags = ["--data.train_split", train, *flags]
    dataset = source[train]
    columns = given.columns or {}
    pictures = [name for name, feature in dataset.features.items() if tables.holds_images(feature)]
    column = columns.get("image", next(iter(pictures), ""))
    if column in pictures and given.image_size is None:
        headers = decoded.headers(encoded_pictures(dataset, column), column)
        if len({(header.width, header.height) for header in headers}) > 1:
            print(f"the pictures have several sizes: shown as at --data.image_size {SIZE_OF_MANY}", file=sys.stderr)
            flags = ["--data.image_size", str(SIZE_OF_MANY), *flags]
    few = round(0.1 * (len(dataset) if given.limit is None else min(given.limit, len(dataset)))) == 0
    if few and given.validation_split is None and not set(VALIDATION) & set(source):
        flags = ["--data.validation_split", train, *flags]  # a tenth of so few is none
    return ["--data", class_for(dataset.features, columns), *flags]


def class_for(features: Any, mapped: dict[str, str]) -> str:
    """The class path of the DataModule for a data set's columns."""
    from datamodules import columns as tables
    from datamodules.image_captions import NAMES

    paths = tables.text_paths(features)
    fields = getattr(features.get(mapped.get("objects", "objects")), "feature", None)
    asked = {key: key in mapped or bool(tables.named(paths, [key])) for key in ("question", "answer")}
    if all(asked.values()):
        return "datamodules.image_questions.ImageQuestions"
    if isinstance(fields, dict) and {"box", "centre"} & set(fields):
        return "datamodules.image_objects.ImageObjects"
    if "text" in mapped or tables.named(paths, NAMES):
        return "datamodules.image_captions.ImageCaptions"
    if "label" in mapped or tables.classes(features) or ("label" in features and tables.is_discrete(features["label"])):
        return "datamodules.image_classes.ImageClasses"
    if len(paths) == 1:
        return "datamodules.image_captions.ImageCaptions"
    return "datamodules.hugging_face.HuggingFaceData"


def opened(request: Request, split: str) -> "tuple[HuggingFaceData, str]":
    """The DataModule, and which of its splits `split` is: its own name, or a further split of the source in the place of test."""
    from datamodules import sources
    from datamodules.hugging_face import HuggingFaceData
    from datamodules.splits import SPLITS
    from experiments.command_line import data_module, parse_data

    module = data_module(parse_data(request))
    if not isinstance(module, HuggingFaceData):
        raise Mistake(f"data.class_path: a {type(module).__name__} holds no pictures; name a class of datamodules")
    if split not in SPLITS:
        names = list(sources.load(module.path, module.name, module.revision, module.image_size))
        if split not in names:
            raise Mistake(f"--split {split}: {module.title} has no such split; {nearest(split, {*names, *SPLITS})}")
        module.test_split = split
        return module, "test"
    return module, split


def sheet(module: "HuggingFaceData", shown: str, asked: argparse.Namespace, out: Path, command: str) -> None:
    """Draws the sheet, prints the statistics, writes both, and prints the path."""
    import numpy as np
    from PIL.PngImagePlugin import PngInfo

    from datamodules import images
    from experiments import data_statistics
    from experiments.contact_sheet import draw
    from experiments.data_tiles import make_tiles

    module.images(shown)  # first: it names a split that is not there
    module.prepare_data()
    splits = {name: taken(module, name) for name in module._splits}
    split = splits[shown]
    num = len(split.pictures)
    picks = np.random.default_rng(asked.seed).permutation(num)[: asked.num]
    rows = split.numbers[split.kept[picks]].tolist()

    label = module._labels.column if module._labels is not None else None
    found = {"data": module.title, "source": whence(module), "class_path": f"{type(module).__module__}.{type(module).__name__}",
             **data_statistics.look(splits, shown, label),
             "sheet": {"split": asked.split, "seed": asked.seed, "rows": rows, "command": command}}
    print("\n".join(data_statistics.lines(found)))

    channels, height, width = split.pictures.shape[1:]
    colours = "gray" if channels == 1 else images.MODES[channels]
    about = [asked.split, data_statistics.plural(num, "picture"), f"{width} x {height} px, {colours}"]
    if module.class_names:
        about.append(f"{len(module.class_names):,} classes")
    draw_of = f"{len(picks):,} of {num:,} rows, drawn with seed {asked.seed}" if len(picks) < num else f"all {num:,} rows"
    page = draw(make_tiles(module, shown, split, picks), module.title, " \u00b7 ".join(about), [command, draw_of])
    written = PngInfo()
    written.add_text("parameters", json.dumps(found["sheet"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    page.save(out, pnginfo=written, optimize=True)
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(out)


def taken(module: "HuggingFaceData", name: str) -> "Split":
    """A split of a DataModule, with the rows that it refused."""
    import numpy as np

    from datamodules import images
    from experiments.data_statistics import Split
    from experiments.data_tiles import encoded

    dataset, read, numbers = module._splits[name], module._read(name), module._chosen[name][1]
    missing = {} if module._texts is None else module._texts.missing(name)
    refused = {}
    for row in np.setdiff1d(np.arange(len(dataset)), read.rows).tolist():
        refused[row] = missing.get(row, "")
        if not refused[row]:
            try:
                images.decode(encoded(module._encoded(name)[row][module._image_column]), *reversed(module._shape))
            except images.Refused as reason:
                refused[row] = str(reason)
    origin = {"train": module.train_split, "test": module.test_split}.get(name) or validation_origin(module)
    return Split(dataset, module._image_column, read.image, read.rows, numbers, origin, refused)


def validation_origin(module: "HuggingFaceData") -> str:
    """The source's split that validates: the one that the DataModule chose, which is train where it held out a share."""
    from datamodules import sources

    if isinstance(module.validation_split, str):
        return module.validation_split
    if module._chosen["validation"][0] is module._chosen["train"][0]:
        return module.train_split
    return next(name for name in VALIDATION if name in sources.load(module.path, module.name, module.revision, module.image_size))


def whence(module: "HuggingFaceData") -> str:
    """Where the rows come from, in words."""
    from datamodules import sources

    if isinstance(module.path, sources.Source) or module.path in sources.BUILT_IN:
        return "built in"
    if Path(module.path).expanduser().is_dir():
        return f"the folder {module.path}"
    mirror = os.environ.get("PRACTICUM_DATA")
    if mirror and (Path(mirror).expanduser() / Path(module.path).name).is_dir():
        return f"{module.path} in PRACTICUM_DATA"
    return f"{module.path} of the Hugging Face Hub"
