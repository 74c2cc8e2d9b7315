"""The guarded decoder against pictures whose pixels are known."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.images import Refused, decode, peek


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(mode: str, colour: object, size: int = 8) -> Image.Image:
    return Image.new(mode, (size, size), colour)


@pytest.mark.parametrize(
    ("source", "rgb"),
    [
        (encoded(flat("RGB", (10, 20, 30))), (10, 20, 30)),
        (encoded(flat("L", 77)), (77, 77, 77)),
        (encoded(flat("1", 1)), (255, 255, 255)),
        (encoded(flat("RGBA", (255, 0, 0, 0))), (255, 255, 255)),  # all transparent: white, not the hidden red
        (encoded(flat("RGBA", (0, 0, 0, 51))), (204, 204, 204)),  # a fifth of black on white
        (encoded(flat("LA", (0, 51))), (204, 204, 204)),
        (encoded(flat("RGBA", (0, 0, 0, 51)), "WEBP", lossless=True), (204, 204, 204)),
        (encoded(flat("RGB", (10, 20, 30)), transparency=(10, 20, 30)), (255, 255, 255)),  # PNG's colour key
        (encoded(flat("L", 7), transparency=7), (255, 255, 255)),
        (encoded(flat("I;16", 65535)), (255, 255, 255)),
        (encoded(flat("I;16", 257 * 100)), (100, 100, 100)),
        (encoded(flat("I;16", 300)), (1, 1, 1)),  # not 255, as convert("L") has it
        (encoded(flat("I", 257 * 100), "TIFF"), (100, 100, 100)),
        (encoded(flat("CMYK", (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (encoded(flat("RGB", (10, 20, 30)), "BMP"), (10, 20, 30)),
        (flat("RGB", (10, 20, 30)), (10, 20, 30)),  # an opened picture
    ],
)
def test_every_mode_becomes_rgb(source: bytes | Image.Image, rgb: tuple[int, int, int]) -> None:
    pixels = decode(source, 8, 3)
    assert pixels.shape == (3, 8, 8) and pixels.dtype == np.uint8
    assert tuple(pixels[:, 4, 4].tolist()) == rgb


def test_palette_with_transparency_and_without() -> None:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(image), 8, 3)[:, 0, 0].tolist() == [10, 20, 30]
    assert decode(encoded(image, transparency=1), 8, 3)[:, 0, 0].tolist() == [255, 255, 255]
    assert decode(encoded(image, "GIF", transparency=1), 8, 3)[:, 0, 0].tolist() == [255, 255, 255]


def test_gray_and_alpha_channels_on_request() -> None:
    assert decode(encoded(flat("RGB", (255, 0, 0))), 8, 1)[:, 0, 0].tolist() == [76]  # ITU-R 601: .299 red
    assert decode(encoded(flat("RGBA", (9, 8, 7, 6))), 8, 4)[:, 0, 0].tolist() == [9, 8, 7, 6]


def test_the_first_frame_of_an_animation() -> None:
    frames = [flat("RGB", "red"), flat("RGB", "blue")]
    assert decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), 8, 3)[:, 0, 0].tolist() == [
        255,
        0,
        0,
    ]


def test_exif_orientation_turns_the_picture() -> None:
    image = flat("RGB", "black")
    image.paste("white", (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the top goes to the right
    pixels = decode(encoded(image, "PNG", exif=exif), 8, 1)[0]
    assert pixels[:, 6].min() == 255 and pixels[:, 1].max() == 0


def test_shorter_side_then_the_centre() -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the centre square
    pixels = decode(encoded(Image.fromarray(wide)), 8, 3)
    assert (pixels == 200).all()
    assert (decode(encoded(Image.fromarray(wide.transpose(1, 0, 2))), 8, 3) == 200).all()


def test_reducing_is_antialiased_and_enlarging_is_smooth() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    reduced = decode(encoded(Image.fromarray(stripes)), 8, 1)
    assert abs(reduced.astype(int) - 127).max() <= 5  # picking pixels would give 0 or 255
    step = np.zeros((8, 8), np.uint8)
    step[:, 4:] = 160
    enlarged = decode(encoded(Image.fromarray(step)), 16, 1)[0, 8].astype(int)
    assert enlarged[4:12].tolist() == [0, 0, 0, 33, 128, 171, 164, 160]  # a ramp with bicubic's small overshoot


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims more pixels than its few bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not a picture"),  # never handed to Ghostscript
        (encoded(flat("RGB", "red", 64), "JPEG")[:400], "(?i)truncated"),
        (encoded(Image.effect_noise((64, 64), 50))[:900], "truncated"),
        (encoded(flat("L", 3))[:20], ""),
        (bomb(10_000, 6_000), "more than 50 million pixels"),
        (bomb(40_000, 40_000), "more than 50 million pixels"),
        (bomb(8, 8), ""),
        (encoded(flat("F", 0.5), "TIFF"), "floating-point"),
        (encoded(flat("I", 70_000), "TIFF"), "32-bit"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(source: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        decode(source, 8, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_damage_never_escapes() -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    outcomes = {"decoded": 0, "refused": 0}
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        good = np.frombuffer(encoded(noise, kind), np.uint8)
        for _ in range(60):
            bad = good.copy()
            bad[random.integers(0, len(bad), 4)] = random.integers(0, 256, 4)
            try:
                assert decode(bad.tobytes(), 8, 3).shape == (3, 8, 8)
                outcomes["decoded"] += 1
            except Refused:
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


def test_peek_reads_the_header_only(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(300, 200))
    assert peek(str(tmp_path / "a.png")) == (300, 200, True)
    assert peek(encoded(flat("RGB", "red"))) == (8, 8, False)
