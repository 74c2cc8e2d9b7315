"""The guarded decoder: any bytes become uint8 pixels of one fixed shape, or a refusal that says why."""

import stat
import threading
import warnings
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 50_000_000
MAX_BYTES = 200_000_000  # of a file
MAX_SCANS = 100  # of a JPEG; a progressive one has ten, and each costs a pass over all pixels
LARGE = 8_000_000  # pixels; beyond them one picture at a time is decoded, as it takes up to 16 bytes for each
# Pillow refuses twice as many, wherever it meets them: the picture in an ICO may be larger than the ICO says.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Raster formats with a signature: Pillow would hand EPS to Ghostscript, an external program, and take noise for a TGA.
Image.init()
KNOWN = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF", "JPEG2000")
FORMATS = tuple(name for name in KNOWN if name in Image.OPEN)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GRAY_MODES = ("1", "L", "I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112  # the EXIF tag

_one_large = threading.Lock()

Source = bytes | str | Path | Image.Image


class Refused(Exception):
    """A picture that cannot be used; its text is the reason in a few words."""


class Header(NamedTuple):
    """What a picture says of itself before any pixel is decoded: width and height in pixels, and whether it is gray."""

    width: int
    height: int
    gray: bool


def peek(source: Source, max_pixels: int = MAX_PIXELS) -> Header:
    """Read a picture's header only; raises `Refused`."""
    image = _open(source, max_pixels)
    return Header(image.width, image.height, image.mode in GRAY_MODES)


def decode(source: Source, image_size: int, channels: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one picture to uint8 [C, image_size, image_size]; raises `Refused`.

    The first frame counts, turned as its EXIF tag says. Transparency is laid on white (kept when `channels` is 4),
    16-bit gray is divided by 257, CMYK becomes RGB, colour becomes ITU-R 601 gray when `channels` is 1. The shorter
    side is then resized to `image_size` (Pillow's antialiased bicubic), and the centre is cut out.
    """
    image = _open(source, max_pixels)
    try:
        with _one_large if image.width * image.height > LARGE else nullcontext():
            image.load()
            if image.getexif().get(ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
            image = _resize(_to_mode(image, MODES[channels]), image_size)
    except Refused:
        raise
    except Exception as error:  # Pillow lets ten kinds of exception escape on damaged bytes; each is a refusal
        raise Refused(_reason(error)) from error
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _open(source: Source, max_pixels: int) -> Image.Image:
    """Open a picture without decoding it, and refuse what is not one or is too large."""
    if isinstance(source, Image.Image):
        image = source
    else:
        encoded = source if isinstance(source, bytes) else _read(Path(source))
        if (width_height := _webp_size(encoded)) is not None and width_height[0] * width_height[1] > max_pixels:
            raise Refused(_too_large(*width_height, max_pixels))  # Pillow would first make room for it
        if encoded.startswith(b"\xff\xd8") and (scans := encoded.count(b"\xff\xda")) > MAX_SCANS:
            raise Refused(f"a JPEG of {scans} scans, each of them a pass over all pixels")
        try:
            image = Image.open(BytesIO(encoded), formats=FORMATS)
        except Exception as error:  # as above
            raise Refused(_reason(error)) from error
    if image.width * image.height > max_pixels:
        raise Refused(_too_large(image.width, image.height, max_pixels))
    return image


def _read(path: Path) -> bytes:
    """The bytes of a file; a pipe or a device, which may never end, is refused."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Refused("not a file")
        if status.st_size > MAX_BYTES:
            raise Refused(f"{status.st_size / 1e6:.0f} MB are more than {MAX_BYTES / 1e6:.0f}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Refused(_reason(error)) from error


def _webp_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height in the header of an extended WebP; None for anything else."""
    if len(encoded) < 30 or encoded[:4] != b"RIFF" or encoded[8:16] != b"WEBPVP8X":
        return None
    return 1 + int.from_bytes(encoded[24:27], "little"), 1 + int.from_bytes(encoded[27:30], "little")


def _too_large(width: int, height: int, max_pixels: int) -> str:
    return f"{width} x {height} is more than {max_pixels / 1e6:.0f} million pixels"


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert to L, RGB or RGBA without losing range (16-bit) or inventing a background (alpha)."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Refused("32-bit integers: the range of white is not known")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise Refused("floating-point pixels: the range of white is not known")
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if transparent and mode != "RGBA":
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode == "P":  # a palette has no gray of its own
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _resize(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to `size` with antialiased bicubic, then the centre; one resampling, no rounding between the two."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _reason(error: Exception) -> str:
    """One short line from an exception of Pillow's."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture (PNG, JPEG, WebP, GIF, BMP, TIFF and the like)"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS / 1e6:.0f} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text[:120] if text else type(error).__name__
