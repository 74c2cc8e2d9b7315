"""What a data set holds: rows, columns, sizes, classes, words, duplicates, colours; found here, and printed as small tables."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from callbacks.progress import track
from datamodules import columns as tables
from datamodules import images

if TYPE_CHECKING:
    import datasets

LOOKED_AT = 100_000  # rows of a split, drawn once: what is slow looks at no more
CHUNK = 512  # pictures in memory at a time
TELLING = 0.02  # frequent words are printed where they are more than this share of the texts: not of identifiers
LISTED_CLASSES, TOP_CLASSES, TOP_WORDS, EXAMPLES = 20, 10, 10, 5
WORD = re.compile(r"\w+(?:['’-]\w+)*")


class Split(NamedTuple):
    """One split as a DataModule took it from its source.

    `dataset`: all its rows, pictures encoded; `column`: where the pictures are; `pictures`: uint8 [N, C, H, W], as the model
    sees them; `kept`: the dataset's row of each; `numbers`: the source's number of each of the dataset's rows; `origin`: the
    source's split; `refused`: row of the dataset -> why it cannot be used.
    """

    dataset: "datasets.Dataset"
    column: str
    pictures: np.ndarray
    kept: np.ndarray
    numbers: np.ndarray
    origin: str
    refused: Mapping[int, str]


def look(splits: Mapping[str, Split], shown: str, label: str | None) -> dict[str, Any]:
    """All statistics as plain numbers and strings. Texts are those of the split `shown`; `label` is the class column, whatever
    its type, beside those that are typed as classes."""
    first = splits["train"]
    features = first.dataset.features
    classes = list(dict.fromkeys([*([label] if label else []), *tables.classes(features)]))
    return {
        "splits": {name: {"rows": len(split.dataset), "from": split.origin} for name, split in splits.items()},
        "columns": {name: type_name(feature) for name, feature in features.items()},
        "pictures": {name: headers(split, name) for name, split in splits.items()},
        "seen_as": dict(zip(("channels", "height", "width"), first.pictures.shape[1:], strict=True)),
        "refused": {name: refused(split) for name, split in splits.items()},
        "labels": {column: {name: count_classes(split, column) for name, split in splits.items() if column in split.dataset.features}
                   for column in classes},
        "texts": {path: texts(splits[shown], path) for path in tables.text_paths(splits[shown].dataset.features) if path != label},
        "duplicates": duplicates(splits),
        "channels": colours(first),
    }


def type_name(feature: Any) -> str:
    """A column's type in a few words."""
    import datasets

    if tables.holds_images(feature):
        return "picture"
    if isinstance(feature, datasets.ClassLabel):
        return f"one of {feature.num_classes} classes"
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        return f"list of {type_name(feature.feature)}"
    if isinstance(feature, dict):
        return "{" + ", ".join(f"{name}: {type_name(field)}" for name, field in feature.items()) + "}"
    return {"string": "text", "large_string": "text"}.get(dtype := str(getattr(feature, "dtype", feature)), dtype)


def headers(split: Split, name: str) -> dict[str, Any]:
    """Sizes and modes of the encoded pictures, from their headers."""
    width, height, modes = [], [], Counter[str]()
    encoded = encoded_pictures(split.dataset, split.column)
    rows = drawn(len(encoded))
    for chunk in chunks(rows, f"reading the headers of {name}"):
        for picture in encoded[chunk][split.column]:
            try:
                source = picture["bytes"] if picture["bytes"] is not None else picture["path"]
                with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=images.FORMATS) as image:
                    size, mode = image.size, image.mode
            except Exception:  # Pillow lets ten kinds escape on damaged bytes; they are counted among the refused
                continue
            width.append(size[0])
            height.append(size[1])
            modes[mode] += 1
    return {"looked_at": len(rows), "width": spread(width), "height": spread(height), "modes": dict(modes.most_common())}


def refused(split: Split) -> dict[str, Any]:
    """How many rows are refused, and the first of them with the reasons."""
    rows = sorted(split.refused)
    return {"count": len(rows), "rows": [{"row": int(split.numbers[row]), "reason": split.refused[row]} for row in rows[:2 * EXAMPLES]]}


def count_classes(split: Split, column: str) -> dict[str, int]:
    """Class -> rows, in the classes' order, those without a row among them; rows without a label are counted as "(none)"."""
    values = split.dataset.select_columns([column]).with_format("arrow")[:][column]
    found = {entry["values"].as_py(): entry["counts"].as_py() for entry in values.value_counts()}
    names = getattr(split.dataset.features[column], "names", None)
    if names is None:
        counts = {str(value): found[value] for value in sorted(value for value in found if value is not None)}
    else:
        counts = {name: found.get(number, 0) for number, name in enumerate(names)}
    missing = sum(found.values()) - sum(counts.values())
    return counts | ({"(none)": missing} if missing else {})


def texts(split: Split, path: str) -> dict[str, Any]:
    """How many texts a row has, how long and how various they are."""
    dataset = split.dataset if len(split.dataset) <= LOOKED_AT else split.dataset.select(drawn(len(split.dataset)))
    found = tables.read_texts(dataset, path)
    there = found.texts.is_valid().to_numpy(zero_copy_only=False)
    per_row = np.bincount(found.rows[there], minlength=len(dataset))
    distinct = found.texts.drop_null().value_counts()
    length, words = np.zeros(len(distinct), np.int64), Counter[str]()
    times = distinct.field("counts").to_numpy()
    for number, (text, count) in enumerate(zip(distinct.field("values").to_pylist(), times.tolist(), strict=True)):
        said = WORD.findall(text.lower())
        length[number] = len(said)
        for word in said:
            words[word] += count
    return {"looked_at": len(dataset), "rows_without": int((per_row == 0).sum()), "texts": int(there.sum()), "per_row": spread(per_row),
            "words": spread(np.repeat(length, times)), "distinct": len(distinct), "vocabulary": len(words),
            "most_frequent": dict(words.most_common(TOP_WORDS))}


def duplicates(splits: Mapping[str, Split]) -> dict[str, Any]:
    """Pictures whose decoded pixels are equal: within each split, and from one split to another. Rows are the source's."""
    looked = {name: drawn(len(split.pictures)) for name, split in splits.items()}
    digests = {name: pixel_digests(split.pictures, looked[name], name) for name, split in splits.items()}
    numbers = {name: split.numbers[split.kept[looked[name]]] for name, split in splits.items()}
    within, between = {}, {}
    for name, digest in digests.items():
        order = np.argsort(digest, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(digest[order])) + 1) if len(order) else []
        groups = sorted((group for group in groups if len(group) > 1), key=lambda group: group[0])
        within[name] = {"looked_at": len(digest), "extra": sum(len(group) - 1 for group in groups), "groups": len(groups),
                        "rows": [numbers[name][group].tolist()[:EXAMPLES] for group in groups[:EXAMPLES]]}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        if one not in splits or other not in splits or same_rows(splits[one], splits[other]):
            continue
        known, first = np.unique(digests[one], return_index=True)
        leaked = np.flatnonzero(np.isin(digests[other], known))
        at = first[np.searchsorted(known, digests[other][leaked[:EXAMPLES]])]
        pairs = zip(numbers[other][leaked[:EXAMPLES]].tolist(), numbers[one][at].tolist(), strict=True)
        between[f"{other} in {one}"] = {"count": len(leaked), "rows": [list(pair) for pair in pairs]}
    return {"within": within, "between": between}


def same_rows(one: Split, other: Split) -> bool:
    """Whether two splits are rows of one split of the source that overlap by choice (`validation_split: train`)."""
    return one.origin == other.origin and bool(np.isin(one.numbers, other.numbers).any())


def pixel_digests(pictures: np.ndarray, rows: np.ndarray, name: str) -> np.ndarray:
    """64 bits of BLAKE2 of each picture's pixels, uint64 [L]."""
    found = [hashlib.blake2b(picture.tobytes(), digest_size=8).digest()
             for chunk in chunks(rows, f"comparing the pictures of {name}") for picture in pictures[chunk]]
    return np.frombuffer(b"".join(found), dtype=np.uint64)


def colours(split: Split) -> dict[str, Any]:
    """Mean and standard deviation of each channel over all pixels, 0..1; exact, from counts of the 256 values."""
    rows = drawn(len(split.pictures))
    counts = np.zeros((split.pictures.shape[1], 256), np.int64)  # C 256
    for chunk in chunks(rows, "measuring the colours of train"):
        pixels = split.pictures[chunk]
        for channel, count in enumerate(counts):
            count += np.bincount(pixels[:, channel].ravel(), minlength=256)
    value = np.arange(256) / 255
    mean = counts @ value / counts.sum(1)
    std = np.sqrt(np.maximum(counts @ value**2 / counts.sum(1) - mean**2, 0))
    return {"looked_at": len(rows), "mean": mean.round(4).tolist(), "std": std.round(4).tolist()}


def encoded_pictures(dataset: "datasets.Dataset", column: str) -> "datasets.Dataset":
    """A picture column alone, as {bytes, path}."""
    import datasets

    return dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def drawn(num: int) -> np.ndarray:
    """All row numbers, or `LOOKED_AT` of them, ascending."""
    return np.arange(num) if num <= LOOKED_AT else np.sort(np.random.default_rng(0).choice(num, LOOKED_AT, replace=False))


def chunks(rows: np.ndarray, what: str) -> Iterator[np.ndarray]:
    """The rows, `CHUNK` at a time, with a sign of how far it is."""
    starts = range(0, len(rows), CHUNK)
    return (rows[start : start + CHUNK] for start in track(starts, what))


def spread(values: Iterable[float]) -> list[float]:
    """[least, median, most]; nothing of nothing."""
    found = np.asarray(values)
    return [found.min().item(), np.median(found).item(), found.max().item()] if len(found) else []


# Printing -----------------------------------------------------------------------------------------------------------


def lines(found: Mapping[str, Any]) -> list[str]:
    """`look`'s findings, with the data set's name, source and class, as they are printed."""
    seen, most = found["seen_as"], max(split["rows"] for split in found["splits"].values())
    said = [found["data"], f"  source   {found['source']}", f"  read by  {found['class_path']}"]
    said += ["splits", *aligned([["", "rows", "source's split"],
                                 *([name, split["rows"], split["from"]] for name, split in found["splits"].items())])]
    said += ["columns", *aligned([[name, kind] for name, kind in found["columns"].items()])]
    said += ["pictures", *aligned([["", "width", "height", "modes"], *(
        [name, extent(one["width"]), extent(one["height"]), ", ".join(f"{mode} {count:,}" for mode, count in one["modes"].items())]
        for name, one in found["pictures"].items())])]
    said.append(f"  the model sees {seen['width']} x {seen['height']} px, {plural(seen['channels'], 'channel')}; in train, "
                f"of 0..1, mean {', '.join(f'{x:.4f}' for x in found['channels']['mean'])}"
                f" and standard deviation {', '.join(f'{x:.4f}' for x in found['channels']['std'])}")
    if most > LOOKED_AT:
        said.append(f"  (looked at {LOOKED_AT:,} rows of each larger split, drawn at random)")
    for name, one in found["refused"].items():
        if one["count"]:
            said.append(f"refused in {name}: {plural(one['count'], 'row')}")
            said += aligned([[f"row {entry['row']}", entry["reason"]] for entry in one["rows"]])
    for column, counts in found["labels"].items():
        said += label_lines(column, counts)
    if found["texts"]:
        said += ["texts", *aligned([["", "texts", "per row", "words", "distinct", "vocabulary"], *(
            [path, one["texts"], extent(one["per_row"]), extent(one["words"]), one["distinct"], one["vocabulary"]]
            for path, one in found["texts"].items())])]
        said += aligned([[f"most often in {path}", " ".join(f"{word} {count:,}" for word, count in one["most_frequent"].items())]
                         for path, one in found["texts"].items() if sum(one["most_frequent"].values()) > TELLING * one["texts"]])
    return said + duplicate_lines(found["duplicates"])


def label_lines(column: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """How many rows each class has in each split; of many classes, the largest and the smallest."""
    train = counts["train"]
    there = {name: count for name, count in train.items() if count and name != "(none)"}
    names = list(train) if len(train) <= LISTED_CLASSES else sorted(train, key=lambda name: -train[name])[:TOP_CLASSES]
    rows = [[name, *(split.get(name, 0) for split in counts.values())] for name in names]
    if len(names) < len(train):
        others = [sum(count for name, count in split.items() if name not in names) for split in counts.values()]
        rows.append([f"{len(train) - len(names)} others", *others])
    said = [f"classes of {column}: {len(there)} in train" + (f" of {len(train)}" if len(there) < len(train) else "")]
    if there:
        small, large = min(there, key=lambda name: there[name]), max(there, key=lambda name: there[name])
        said[0] += (f"; the largest, {large}, has {there[large]:,} rows, the smallest, {small}, {there[small]:,}"
                    f" ({there[large] / there[small]:.3g} times fewer)")
    return said + aligned([["", *counts], *rows])


def duplicate_lines(found: Mapping[str, Any]) -> list[str]:
    said = ["equal pictures (all pixels that the model sees; rows are the source's)"]
    rows = []
    for name, one in found["within"].items():
        examples = "; ".join(" = ".join(map(str, group)) for group in one["rows"])
        rows.append([f"within {name}", plural(one["extra"], "repeat") + (f" in {plural(one['groups'], 'group')}" if one["groups"] else ""),
                     f"rows {examples}" if examples else ""])
    for name, one in found["between"].items():
        examples = "; ".join(f"{first} = {second}" for first, second in one["rows"])
        rows.append([name, plural(one["count"], "picture"), f"rows {examples}" if examples else ""])
    return said + aligned(rows)


def aligned(rows: Iterable[Iterable[Any]]) -> list[str]:
    """Rows of cells as lines of equally wide columns: words to the left, numbers to the right."""
    written = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    columns = []
    for cells in zip(*written, strict=True):
        wide = max(map(len, cells))
        right = all(re.fullmatch(r"[\d,]*", cell) for cell in cells[cells[0] != "" and not cells[0][:1].isdigit():]) and any(cells)
        columns.append([cell.rjust(wide) if right else cell.ljust(wide) for cell in cells])
    return ["  " + "  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def extent(values: list[float]) -> str:
    """[1, 2, 9] as "1 to 9, median 2"; one number where they are equal."""
    if not values:
        return "none"
    low, middle, high = (f"{value:,.1f}".removesuffix(".0") for value in values)
    return low if low == high else f"{low} to {high}, median {middle}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
