"""A contact sheet: pictures with boxes and words on a white page, drawn at twice the size it is shown at so that it stays crisp."""

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DENSITY = 2  # pixels of the file per point of the page
PICTURE = 128  # points: what a small picture is enlarged to, and a large one reduced to
MARGIN, GAP, LEADING = 36, 18, 1.28
NARROWEST = 430  # points between the margins: room for title and footer
LONGEST_LINE = 400  # letters: no line of any tile holds more
INK, GREY, ANSWER, HAIRLINE = "#1a1a1a", "#5f6368", "#0b57d0", "#d5d8dc"
COLOURS = ("#e6194b", "#1668dc", "#12903c", "#f58231", "#911eb4", "#008a99", "#d61f9c", "#8a5a00")  # of boxes, in turn
# tried in turn where Pillow's own font, which has little beyond ASCII, lacks a letter; found by name on most machines
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc")
NO_LETTER = "\U0010ffff"  # for ever unassigned: drawn as what a font draws for letters that it lacks


class Box(NamedTuple):
    """A rectangle in a picture and what is in it; x0 y0 x1 y1 are fractions of the picture's sides, y down."""

    corners: tuple[float, float, float, float]
    name: str = ""


class Span(NamedTuple):
    """A piece of text in one colour."""

    text: str
    colour: str = INK


class Paragraph(NamedTuple):
    """Text that is wrapped to the tile's width, and cut with an ellipsis where it takes more than `lines` lines; `size` in points."""

    spans: Sequence[Span]
    lines: int = 3
    size: float = 11


@dataclass
class Tile:
    """One row of a data set: its pictures by name (uint8 [C, H, W], the first is the one with the boxes) and its words."""

    pictures: dict[str, np.ndarray]
    paragraphs: list[Paragraph] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


def draw(tiles: Sequence[Tile], title: str, subtitle: str, footer: Sequence[str]) -> Image.Image:
    """The page: title, tiles row by row, footer. RGB, `DENSITY` pixels to the point."""
    face = face_for([title, subtitle, *footer, *(span.text for tile in tiles for part in tile.paragraphs for span in part.spans)])
    named = max(len(tile.pictures) for tile in tiles) > 1
    drawn = [draw_tile(tile, named, face) for tile in tiles]
    width = max(image.width for image in drawn)
    typical = sorted(image.height for image in drawn)[len(drawn) // 2]
    columns = best_columns(len(drawn), (typical + px(GAP)) / (width + px(GAP)))
    inside = max(columns * (width + px(GAP)) - px(GAP), px(NARROWEST))
    rows = [drawn[first : first + columns] for first in range(0, len(drawn), columns)]

    head = block([Paragraph([Span(title)], 2, 22), Paragraph([Span(subtitle, GREY)], 4, 12)], inside, face)
    foot = block([Paragraph([Span(line, GREY)], 6, 10) for line in footer], inside, face)
    heights = [max(image.height for image in row) for row in rows]
    height = head.height + foot.height + sum(heights) + px(GAP) * (len(rows) + 1) + 2 * px(MARGIN)
    page = Image.new("RGB", (inside + 2 * px(MARGIN), height), "white")
    page.paste(head, (px(MARGIN), px(MARGIN)))
    top = px(MARGIN) + head.height + px(GAP)
    for row, row_height in zip(rows, heights, strict=True):
        for index, image in enumerate(row):
            page.paste(image, (px(MARGIN) + index * (width + px(GAP)), top))
        top += row_height + px(GAP)
    page.paste(foot, (px(MARGIN), top))
    return page


def draw_tile(tile: Tile, named: bool, face: str | None) -> Image.Image:
    """The pictures side by side in hairline frames, each over its name where some tile has several; then the words."""
    pictures = [enlarged(pixels) for pixels in tile.pictures.values()]
    width = sum(picture.width for picture in pictures) + px(6) * (len(pictures) - 1)
    text = block(tile.paragraphs, width, face)
    below = max(picture.height for picture in pictures) + (px(14) if named else 0)
    canvas = Image.new("RGB", (width, below + (px(5) + text.height if text.height > 1 else 0)), "white")
    pen = ImageDraw.Draw(canvas)
    left = 0
    for name, picture in zip(tile.pictures, pictures, strict=True):
        canvas.paste(picture, (left, 0))
        pen.rectangle((left, 0, left + picture.width - 1, picture.height - 1), outline=HAIRLINE)
        if named:
            canvas.paste(block([Paragraph([Span(name, GREY)], 1, 9)], picture.width, face), (left, picture.height + px(2)))
        left += picture.width + px(6)
    for index, box in enumerate(tile.boxes):
        draw_box(pen, box, pictures[0].size, colour_of(index))
    canvas.paste(text, (0, below + px(5)))
    return canvas


def enlarged(pixels: np.ndarray) -> Image.Image:
    """uint8 [C, H, W] as RGB of about `PICTURE` points: small ones by a whole number without smoothing, large ones reduced."""
    channels, height, width = pixels.shape
    image = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0).copy())
    if channels == 4:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    factor = px(PICTURE) / max(width, height)
    if factor < 0.8:
        return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.LANCZOS)
    whole = max(1, round(factor))
    return image.resize((width * whole, height * whole), Image.Resampling.NEAREST)


def draw_box(pen: ImageDraw.ImageDraw, box: Box, size: tuple[int, int], colour: str) -> None:
    """A thin line around the box, which hides nothing of what is in it, in a white hairline that parts it from any ground.

    At the picture's edges the line runs inside.
    """
    width, height = size
    x0, y0, x1, y1 = (round(value * side) for value, side in zip(box.corners, (*size, *size), strict=True))
    for outset, line, thick in ((px(1.5) + 1, "white", 1), (px(1.5), colour, px(1.5))):
        left, top = max(0, x0 - outset), max(0, y0 - outset)
        right, bottom = min(width, x1 + outset) - 1, min(height, y1 + outset) - 1
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=line, width=thick)


def colour_of(index: int) -> str:
    """The colour of a tile's box number `index`."""
    return COLOURS[index % len(COLOURS)]


def best_columns(num: int, aspect: float) -> int:
    """How many tiles of height / width `aspect` to put in a row for a page of about 4:3 whose last row is as full as can be."""
    ideal = math.sqrt(num * 4 / 3 * aspect)
    around = range(max(1, math.floor(ideal * 0.8)), max(1, math.ceil(ideal * 1.2)) + 1)
    return min(num, min(around, key=lambda columns: (-num % columns, abs(columns - ideal))))


# Text ---------------------------------------------------------------------------------------------------------------


def block(paragraphs: Sequence[Paragraph], width: int, face: str | None) -> Image.Image:
    """The paragraphs one below the other on white, `width` pixels wide."""
    laid = [(font(face, part.size), wrap(part, width, face), px(part.size * LEADING)) for part in paragraphs]
    canvas = Image.new("RGB", (width, max(1, sum(len(lines) * step for _, lines, step in laid))), "white")
    pen, top = ImageDraw.Draw(canvas), 0
    for letters, lines, step in laid:
        for line in lines:
            left = 0.0
            for span in line:
                pen.text((left, top), span.text, fill=span.colour, font=letters)
                left += letters.getlength(span.text)
            top += step
    return canvas


def wrap(paragraph: Paragraph, width: int, face: str | None) -> list[list[Span]]:
    """The lines of a paragraph; where they are too many, its first piece of text is cut with an ellipsis (the answer that
    follows a question stays whole)."""
    letters = font(face, paragraph.size)
    most = LONGEST_LINE * paragraph.lines
    first, *others = [span._replace(text=" ".join(readable(span.text[:most], face).split())) for span in paragraph.spans]

    def lines(size: int) -> list[list[Span]]:
        return break_lines([ended(first, size), *others], letters, width)

    whole = break_lines([first, *others], letters, width)
    if len(whole) <= paragraph.lines:
        return whole
    fits = largest(len(first.text), lambda size: len(lines(size)) <= paragraph.lines)
    word_end = first.text.rfind(" ", 0, fits + 1)
    return lines(word_end if word_end > 0 else fits)[: paragraph.lines]


def largest(end: int, fits: Callable[[int], bool]) -> int:
    """The largest number below `end` that fits, where all below it fit too; else 0."""
    low, high = 0, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def ended(span: Span, size: int) -> Span:
    """The first `size` letters and an ellipsis."""
    return span._replace(text=span.text[:size].rstrip(" ,;.") + "\u2026")


def break_lines(spans: Sequence[Span], letters: ImageFont.FreeTypeFont, width: int) -> list[list[Span]]:
    """Lines no wider than `width`, broken between words, and within words that are wider than a line."""
    space = letters.getlength(" ")
    lines: list[list[Span]] = []
    room = 0.0
    for span in spans:
        for word in span.text.split():
            wide = letters.getlength(word)
            if lines and space + wide <= room:
                lines[-1].append(span._replace(text=" " + word))
                room -= space + wide
                continue
            while wide > width and len(word) > 1:
                head = max(1, largest(len(word), lambda size, word=word: letters.getlength(word[:size]) <= width))  # type: ignore[misc]
                lines.append([span._replace(text=word[:head])])
                word = word[head:]
                wide = letters.getlength(word)
            lines.append([span._replace(text=word)])
            room = width - wide
    return lines


def readable(text: str, face: str | None) -> str:
    """The text with every letter that the font lacks written as its escape (\\u4e2d), which a box of no meaning would hide."""
    return "".join(letter if letter.isspace() or has_letter(face, letter) else letter.encode("unicode_escape").decode()
                   for letter in unicodedata.normalize("NFC", text))


def face_for(texts: Iterable[str]) -> str | None:
    """The first font that has every letter of the texts, else the one that lacks the fewest; None is Pillow's own."""
    letters = {letter for text in texts for letter in unicodedata.normalize("NFC", text) if not letter.isspace()}
    return min(faces(), key=lambda face: sum(not has_letter(face, letter) for letter in letters))


@cache
def faces() -> list[str | None]:
    """Pillow's own font, and those of `FONTS` that are on this machine."""
    found: list[str | None] = [None]
    for name in FONTS:
        try:
            ImageFont.truetype(name, 10)
        except OSError:
            continue
        found.append(name)
    return found


@cache
def has_letter(face: str | None, letter: str) -> bool:
    letters = font(face, 12)
    return bytes(letters.getmask(letter)) != bytes(letters.getmask(NO_LETTER))


@cache
def font(face: str | None, size: float) -> ImageFont.FreeTypeFont:
    if face is not None:
        return ImageFont.truetype(face, px(size))
    built_in = ImageFont.load_default(px(size))
    assert isinstance(built_in, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return built_in


def px(points: float) -> int:
    """Points of the page as pixels of the file."""
    return round(points * DENSITY)
