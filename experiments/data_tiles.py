"""Rows of a data set as tiles of the contact sheet: the picture as the model sees it, its class, what is said of it, its objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules import images
from datamodules.hugging_face import HuggingFaceData
from datamodules.image_captions import ImageCaptions
from datamodules.image_questions import ImageQuestions
from experiments.contact_sheet import ANSWER, GREY, Box, Paragraph, Span, Tile, colour_of
from experiments.data_statistics import Split

NAMED_BY = ("size", "texture", "colour", "color", "shape", "category", "label", "class", "name")  # fields of an object, as one says them
QUESTIONS = 2  # shown of each picture
NAMED_OBJECTS = 4  # below a picture; its boxes are all drawn


def make_tiles(module: HuggingFaceData, name: str, split: Split, picks: np.ndarray) -> list[Tile]:
    """The tiles of the pictures `picks` of a split (their places in `module.images(name)`)."""
    label, objects = module._labels.column if module._labels is not None else None, module.columns.get("objects", "objects")
    features = split.dataset.features
    maps = [column for column, feature in features.items() if column != split.column and is_picture(feature)]
    wanted = [column for column in dict.fromkeys([split.column, *maps, label, objects]) if column in features]
    rows = split.dataset.select(split.kept[picks]).select_columns(wanted)
    for column in (split.column, *maps):
        rows = rows.cast_column(column, encoded_type())
    captions = module.captions(name) if isinstance(module, ImageCaptions) else None
    questions = module.questions(name) if isinstance(module, ImageQuestions) else None
    answers = module.answers(name) if isinstance(module, ImageQuestions) else None
    tiles = []
    for pick, row in zip(picks.tolist(), rows, strict=True):
        tile = Tile({split.column: split.pictures[pick]})
        tile.pictures |= {column: decoded_map(row[column], tile.pictures[split.column].shape[-1]) for column in maps}
        if label is not None and label in row:
            tile.paragraphs.append(Paragraph([class_span(row[label], module.class_names)], 2, 12))
        if captions is not None and captions[pick]:
            tile.paragraphs.append(Paragraph([Span(captions[pick][0], GREY)], 4))
        if questions is not None and answers is not None:
            tile.paragraphs += [Paragraph([Span(question, GREY), Span(answer, ANSWER)], 3)
                                for question, answer in list(zip(questions[pick], answers[pick], strict=True))[:QUESTIONS]]
        if row.get(objects):
            tile.boxes = boxes(row[objects], features[objects], row[split.column])
            if captions is None and questions is None:
                tile.paragraphs += [Paragraph([Span(box.name, colour_of(index))], 2)
                                    for index, box in enumerate(tile.boxes[:NAMED_OBJECTS]) if box.name]
        tiles.append(tile)
    return tiles


def class_span(value: Any, names: Sequence[str]) -> Span:
    """The name of a class, given by number or by itself."""
    if value is None or (isinstance(value, int) and value < 0 and str(value) not in names):
        return Span("no label", GREY)
    return Span(names[value] if isinstance(value, int) and not isinstance(value, bool) and str(value) not in names else str(value))


def boxes(objects: Any, feature: Any, picture: Any) -> list[Box]:
    """The boxes of a row's objects that are in sight: `box` x0 y0 x1 y1 in fractions of the side, or COCO's `bbox` x y w h in pixels."""
    if isinstance(objects, dict):  # of lists, as older sets have it, instead of a list of structs
        objects = [dict(zip(objects, values, strict=True)) for values in zip(*objects.values(), strict=True)]
    fields = getattr(feature, "feature", feature)
    found = []
    for thing in objects:
        if thing.get("box"):
            corners = thing["box"]
        elif thing.get("bbox"):
            corners = seen_corners(thing["bbox"], images.peek(encoded(picture)))
        else:
            continue
        x0, y0, x1, y1 = (min(max(float(value), 0.0), 1.0) for value in corners)
        if x0 < x1 and y0 < y1:
            found.append(Box((x0, y0, x1, y1), object_name(thing, fields)))
    return found


def seen_corners(bbox: Sequence[float], header: images.Header) -> tuple[float, float, float, float]:
    """A box x y w h in the pixels of the file, as x0 y0 x1 y1 in fractions of the square that `images.decode` cuts out."""
    x, y, width, height = bbox
    side = min(header.width, header.height)
    left, top = (header.width - side) / 2, (header.height - side) / 2
    return (x - left) / side, (y - top) / side, (x + width - left) / side, (y + height - top) / side


def object_name(thing: dict[str, Any], fields: Any) -> str:
    """The words for an object: "small striped red star"; a class by its name."""
    words = []
    for field in NAMED_BY:
        value = thing.get(field)
        feature = fields.get(field) if isinstance(fields, dict) else None
        names = getattr(getattr(feature, "feature", feature), "names", None)  # of a list of classes, where lists are in a dict
        if isinstance(value, int) and names:
            words.append(names[value] if 0 <= value < len(names) else str(value))
        elif isinstance(value, (int, str)):
            words.append(str(value))
    return " ".join(word for word in words if word != "plain")


def is_picture(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Image)


def encoded_type() -> Any:
    import datasets

    return datasets.Image(decode=False)


def decoded_map(picture: Any, size: int) -> np.ndarray:
    """A further picture of the row at the same size, uint8 [1 or 3, H, W]; white where there is none that can be read."""
    try:
        source = encoded(picture)
        return images.decode(source, size, 1 if images.peek(source).gray else 3)
    except images.Refused:
        return np.full((1, size, size), 255, np.uint8)


def encoded(picture: Any) -> bytes | str:
    if picture is None or (picture["bytes"] is None and picture["path"] is None):
        raise images.Refused("empty")
    return picture["bytes"] if picture["bytes"] is not None else picture["path"]
