"""Broken and hostile pictures: each is decoded or refused with a reason, soon, and in little memory."""

import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.images import FORMATS, Refused, decode, peek

SIZE = 16
ROOT = Path(__file__).parents[2]
GROWTH = 40             # MB by which the process may grow over thousands of pictures
SLOWEST = 5.0           # seconds of CPU for one picture


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def good_pictures() -> dict[str, bytes]:
    """A picture of each format that is read, in the ways in which it is written."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    rgba = Image.fromarray(pixels)
    rgb, gray = rgba.convert("RGB"), rgba.convert("L")
    frames = [gray.convert("P"), gray.rotate(90).convert("P")]
    made = {
        "png": saved(rgb, "PNG"), "png alpha": saved(rgba, "PNG"), "png palette": saved(rgb.quantize(16), "PNG"),
        "png 16": saved(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        "png animated": saved(rgba, "PNG", save_all=True, append_images=[rgba.rotate(180)]),
        "jpeg": saved(rgb, "JPEG"), "jpeg progressive": saved(rgb, "JPEG", progressive=True),
        "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG"), "jpeg gray": saved(gray, "JPEG"),
        "jpeg turned": saved(rgb, "JPEG", exif=turned()),
        "gif": saved(gray, "GIF"), "gif animated": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "bmp": saved(rgb, "BMP"), "bmp palette": saved(gray.convert("P"), "BMP"), "ppm": saved(rgb, "PPM"), "pgm": saved(gray, "PPM"),
        "ico": saved(rgba, "ICO", sizes=[(16, 16)]), "tiff": saved(rgb, "TIFF"), "tiff 16": saved(gray.convert("I;16"), "TIFF"),
        **{f"tiff {name}": saved(rgb, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")},
    }
    if "WEBP" in FORMATS:
        made |= {"webp": saved(rgb, "WEBP"), "webp lossless": saved(rgba, "WEBP", lossless=True),
                 "webp animated": saved(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)])}
    if "AVIF" in FORMATS:
        made["avif"] = saved(rgb, "AVIF")
    if "JPEG2000" in FORMATS:
        made["jpeg 2000"] = saved(rgb, "JPEG2000")
    return made


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def broken(num: int, seed: int = 0):
    """(name, bytes) of pictures, each broken in one of ten ways."""
    chance = random.Random(seed)
    good = good_pictures()
    for _ in range(num):
        name = chance.choice(list(good))
        data = bytearray(good[name])
        place = chance.randrange(len(data))
        how = chance.choice(["cut", "bits", "bytes", "header", "ones", "zeros", "inserted", "removed", "repeated", "spliced", "noise"])
        if how == "cut":
            del data[place:]
        elif how == "bits":
            for _ in range(chance.choice([1, 4, 30])):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif how == "bytes":
            for _ in range(chance.choice([1, 4, 30])):
                data[chance.randrange(len(data))] = chance.randrange(256)
        elif how == "header":
            data[chance.randrange(min(64, len(data)))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif how in ("ones", "zeros"):
            length = chance.choice([1, 2, 4, 8])
            data[place:place + length] = (b"\xff" if how == "ones" else b"\0") * length
        elif how == "inserted":
            data[place:place] = chance.randbytes(chance.choice([1, 2, 50]))
        elif how == "removed":
            del data[place:place + chance.choice([1, 2, 50])]
        elif how == "repeated":
            data[place:place] = data[place // 2:place] * chance.choice([1, 20])
        elif how == "spliced":
            other = good[chance.choice(list(good))]
            data[place:] = other[chance.randrange(len(other)):]
        else:
            data[min(12, len(data)):] = chance.randbytes(200)
        yield f"{name}, {how}", bytes(data)


def outcome(data: bytes) -> str:
    """"decoded" or "refused"; anything else escapes."""
    try:
        peek(data)
        pixels = decode(data, SIZE, 3)
    except Refused as refusal:
        assert str(refusal) and len(str(refusal)) < 300 and "\n" not in str(refusal), str(refusal)
        return "refused"
    assert pixels.shape == (3, SIZE, SIZE) and pixels.dtype == np.uint8
    return "decoded"


def memory(key: str = "VmRSS") -> float:
    """MB of this process: now (VmRSS) or at most (VmHWM)."""
    return int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))) / 1024


def decode_all(num: int, seed: int) -> dict:
    """Counts of outcomes, the slowest picture and the growth in MB over the last four fifths."""
    counts, slowest, before = Counter(), (0.0, ""), 0.0
    for number, (name, data) in enumerate(broken(num, seed)):
        if number == num // 5:
            before = memory()
        began = time.process_time()
        counts[outcome(data)] += 1
        slowest = max(slowest, (time.process_time() - began, name))
    return {**counts, "slowest": slowest, "growth": round(memory() - before, 1)}


def check(found: dict) -> None:
    assert min(found["decoded"], found["refused"]) > 0
    assert found["slowest"][0] < SLOWEST, found
    assert found["growth"] < GROWTH, found


def test_every_good_picture_is_decoded():
    assert {name: outcome(data) for name, data in good_pictures().items()} == dict.fromkeys(good_pictures(), "decoded")


@pytest.mark.filterwarnings("ignore")
def test_broken_pictures():
    check(decode_all(400, seed=0))


@pytest.mark.soak
def test_five_thousand_broken_pictures():
    """In a process of its own: a decoder in C that crashes takes its process with it."""
    code = "import json; from tests.datamodules.test_broken_pictures import decode_all; print(json.dumps(decode_all(5000, 1)))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    check(found)
    print(f"5,000 broken pictures: {found['decoded']} decoded, {found['refused']} refused, the slowest in {found['slowest'][0]:.2f} s, "
          f"memory grew by {found['growth']} MB")


# Bombs: a few bytes that claim, or hold, very many pixels --------------------------------------------------------------------------------

def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, rows: int = 0) -> bytes:
    packed = zlib.compress(bytes((width + 1) * rows), 1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def gif(screen: tuple[int, int], frame: tuple[int, int], frames: int = 1) -> bytes:
    picture = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + picture * frames + b";"


def webp(width: int, height: int, frames: int = 0) -> bytes:
    canvas = struct.pack("<I", 2) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = b"VP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    small = saved(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + bytes(6) + bytes(3) + b"\0" + small
    parts += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * frames
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


def tiff(**tags: int) -> bytes:
    """A TIFF of zeros in one strip or tile, whatever its tags say of it."""
    numbers = {"width": 256, "length": 257, "bits": 258, "compression": 259, "photometric": 262, "strip": 273, "rows": 278, "count": 279,
               "tile_width": 322, "tile_length": 323, "tile": 324, "tile_count": 325}
    entries = sorted((numbers[name], value) for name, value in {"bits": 8, "compression": 8, "photometric": 1, **tags}.items())
    data = zlib.compress(bytes(1 << 20))
    body = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)
    return head.ljust(1024, b"\0") + data


def ico(inside: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22) + inside


def jpeg(width: int, height: int, scans: int = 1) -> bytes:
    """A progressive JPEG whose frame claims a size, with its first scan repeated."""
    data = saved(Image.new("L", (8, 8)), "JPEG", progressive=True)
    frame, scan, end = data.index(b"\xff\xc2"), data.index(b"\xff\xda"), data.index(b"\xff\xd9")
    head = bytearray(data[:scan])
    head[frame + 5:frame + 9] = struct.pack(">HH", height, width)
    return bytes(head) + data[scan:end] * scans + data[end:]


def bombs() -> dict[str, bytes]:
    return {
        "png that claims": png(60_000, 60_000), "png of zeros": png(8_000, 8_000, rows=8_000),
        "png with a text of 20 MB": png(8, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(20_000_000), 1)), rows=8),
        "png with a profile of 20 MB": png(8, 8, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(20_000_000), 1)), rows=8),
        "png of 50,000 texts": png(8, 8, *[chunk(b"tEXt", b"k\0v")] * 50_000, rows=8),
        "gif with a large screen": gif((65_535, 65_535), (1, 1)), "gif with a large frame": gif((1, 1), (65_535, 65_535)),
        "gif of 100,000 frames": gif((1, 1), (1, 1), 100_000),
        "webp with a large canvas": webp(16_384, 16_384, 1), "webp just below Pillow's limit": webp(13_000, 13_000, 1),
        "webp of 20,000 frames": webp(500, 500, 20_000),
        "tiff that claims": tiff(width=60_000, length=60_000, strip=1024, rows=60_000, count=1 << 20),
        "tiff with a large strip": tiff(width=7_000, length=7_000, strip=1024, rows=2**31 - 1, count=2**31 - 1),
        "tiff with a large tile": tiff(width=16, length=16, tile_width=2**20, tile_length=2**20, tile=1024, tile_count=1 << 20),
        "tiff of 2^31 rows": tiff(width=1, length=2**31 - 1, strip=1024, rows=1, count=1),
        "bmp that claims": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        "bmp of runs": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 7_000, 7_000, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024)
                       + b"\xff\x00" * 100_000,
        "ppm that claims": b"P6 60000 60000 255\n", "ppm in letters": b"P3 7000 7000 255\n" + b"1 " * 1_000_000,
        "ico with a large png": ico(png(8_000, 8_000, rows=8_000)), "jpeg that claims": jpeg(65_500, 65_500),
        "jpeg of 5,000 scans": jpeg(7_000, 7_000, 5_000), "noise": os.urandom(1 << 20),
    }


def run_bombs() -> dict:
    """Name -> (outcome, seconds of CPU, MB of memory beyond what the process had)."""
    found = {}
    for name, data in bombs().items():
        Path("/proc/self/clear_refs").write_text("5")       # the peak begins anew
        before, began = memory(), time.process_time()
        found[name] = (outcome(data), round(time.process_time() - began, 2), round(memory("VmHWM") - before))
    return found


def test_bombs():
    code = "import json; from tests.datamodules.test_broken_pictures import run_bombs; print(json.dumps(run_bombs()))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    slow = {name: what for name, what in found.items() if what[1] > SLOWEST}
    large = {name: what for name, what in found.items() if what[2] > 400}
    assert not slow and not large, found
    for name in ("png that claims", "png of zeros", "gif with a large screen", "gif with a large frame", "webp with a large canvas",
                 "webp just below Pillow's limit", "tiff that claims", "bmp that claims", "ppm that claims", "ico with a large png",
                 "jpeg that claims", "jpeg of 5,000 scans"):
        assert found[name][0] == "refused", (name, found[name])


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, Path("/dev/zero"), Path("/dev/stdin"), tmp_path / "missing.png", "nul\0.png"):
        with pytest.raises(Refused):
            peek(path)
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Refused, match="MB are more than"):
        decode(str(tmp_path / "huge.png"), SIZE, 3)


def test_a_format_of_programs_is_never_opened():
    """Pillow would start Ghostscript for these, or read them without a signature."""
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(touch x) run\n", b"%PDF-1.4\n", bytes(2) + b"\x02" + bytes(60)):
        assert outcome(data) == "refused"
    assert not {"EPS", "PDF", "TGA", "WMF", "FPX", "MIC"} & set(FORMATS)


