"""Caption sets nobody here prepared, through the real command line by flags alone; and every kind of picture in one."""

import io
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from datamodules.image_captions import ImageCaptions
from datamodules.tokenizers import Vocabulary
from experiments import training
from experiments.request import Request
from tests.datamodules.captioned import captioned, ready
from tests.datamodules.test_images import encoded

RANDOM = np.random.default_rng(3)
MIRROR = Path(os.environ.get("PRACTICUM_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def mirror() -> Path:
    """Read before the tests' own environment takes it away."""
    if not (MIRROR / "emoji").is_dir():
        pytest.skip("no mirror: set PRACTICUM_DATA to a folder that holds emoji")
    return MIRROR


def by_flags(*flags: str) -> tuple[dict, ImageCaptions]:
    """The facts of `practicum fit classifier --data emoji FLAGS`, and the DataModule."""
    config = training.parse_data(Request("classifier", data="emoji", flags=list(flags)))
    facts = training.facts(config)
    tokenizer = Vocabulary(config.init_args.tokenizer.init_args.context_length)
    return facts, ready(ImageCaptions(**{**config.init_args.as_dict(), "tokenizer": tokenizer}))


def photo(width: int, height: int, row: int) -> Image.Image:
    return Image.new("RGB", (width, height), (row, 100, 255 - row))


def red(data: ImageCaptions, split: str) -> list[int]:
    """The rows, as the pictures tell."""
    return data.images(split)[:, 0, 0, 0].tolist()


def spoken(data: ImageCaptions, split: str) -> list[int]:
    """The rows, as the texts tell."""
    return [int(texts[0].split()[-1]) for texts in data.captions(split)]


@pytest.mark.parametrize(
    "columns",
    [
        ["--data.columns", "{text: sentences}"],
        ["--data.columns.text", "sentences", "--data.columns.label", "where"],
    ],
)
def test_a_parquet_of_photos_with_five_sentences(columns: list[str], tmp_path: Path) -> None:
    pictures = [encoded(photo(20 + row % 7, 31 - row % 5, row), "PNG") for row in range(60)]
    sentences = [[f"sentence {number} of {row}" for number in range(5)] for row in range(60)]
    table = {"photo": pyarrow.array(pictures, pyarrow.binary()), "file": [f"{row}.png" for row in range(60)]}
    where = pyarrow.array(["sea" if row % 2 else "land" for row in range(60)])
    table = {**table, "sentences": sentences, "where": where}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "x.parquet")
    facts, data = by_flags("--data.path", str(tmp_path), "--data.image_size", "16", *columns)
    assert facts.pop("num_classes", None) == (2 if len(columns) == 4 else None)
    words = {word for texts in data.captions("train") for text in texts for word in text.split()}
    assert facts == {"channels": 3, "image_size": 16, "vocabulary_size": 5 + len(words), "context_length": 32}
    assert red(data, "train") == spoken(data, "train") and len(red(data, "train")) == 54
    assert all(len(texts) == 5 for texts in data.captions("train"))


@pytest.mark.parametrize("listing", ["metadata.jsonl", "metadata.csv"])
def test_a_folder_of_pictures_with_a_list_of_texts(listing: str, tmp_path: Path) -> None:
    rows = [{"file_name": f"{row}.png", "words": f"picture, of {row}"} for row in range(20)]
    for row in range(20):
        photo(24, 24 + row, row).save(tmp_path / f"{row}.png")
    if listing.endswith("jsonl"):
        (tmp_path / listing).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (tmp_path / listing).write_text(
            "file_name,words\n" + "".join(f'{row["file_name"]},"{row["words"]}"\n' for row in rows)
        )
    facts, data = by_flags("--data.path", str(tmp_path), "--data.image_size", "12", "--data.columns", "{}")
    assert facts["image_size"] == 12 and "num_classes" not in facts
    for split, num in (("train", 18), ("validation", 2)):
        assert red(data, split) == spoken(data, split) and len(red(data, split)) == num


def test_a_set_of_save_to_disk(tmp_path: Path) -> None:
    features = datasets.Features({"img": datasets.Image(), "Title": datasets.Value("string")})
    rows = {"img": [photo(16, 16, row) for row in range(30)], "Title": [f"title {row}" for row in range(30)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.train_test_split(10, seed=0).save_to_disk(tmp_path / "saved")
    facts, data = by_flags(
        "--data.path", str(tmp_path / "saved"), "--data.columns", "{image: img}", "--data.tokenizer.context_length", "4"
    )
    assert (facts["image_size"], facts["context_length"]) == (64, 4)  # the size of the YAML
    for split, num in (("train", 18), ("validation", 2), ("test", 10)):
        assert red(data, split) == spoken(data, split) and len(red(data, split)) == num


# Every kind of picture ------------------------------------------------------------------------------------------------


def as_png(image: Image.Image) -> bytes:
    return encoded(image, "PNG")


def odd_pictures() -> dict[str, tuple[bytes, np.ndarray | None]]:
    """Kind -> bytes and the mean of each channel, found without Pillow's conversions; None where it must be refused."""
    noise = RANDOM.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    deep = RANDOM.integers(0, 65536, (40, 40), dtype=np.uint16)
    inks = RANDOM.integers(0, 256, (40, 40, 4), dtype=np.uint8)
    coverage = inks.astype(float) / 255
    paper = 255 * (1 - coverage[..., :3]) * (1 - coverage[..., 3:])
    cmyk = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(cmyk, "TIFF")
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((200, 20, 20), (20, 200, 20), (20, 20, 200))]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:], duration=50)
    wide = RANDOM.integers(0, 256, (900, 2400), dtype=np.uint8)  # its middle is what is seen
    half = np.dstack([noise, np.full((40, 40), 128, np.uint8)])
    gray = np.repeat(deep.mean() / 257, 3)
    return {
        "truncated": (as_png(Image.fromarray(noise))[:900], None),
        "cmyk": (cmyk.getvalue(), paper.mean((0, 1))),
        "16 bit": (as_png(Image.fromarray(deep)), gray),
        "gray": (as_png(Image.fromarray(noise[..., 0])), np.repeat(noise[..., 0].mean(), 3)),
        "1x1": (as_png(Image.new("RGB", (1, 1), (9, 99, 199))), np.array([9, 99, 199])),
        "animated": (animated.getvalue(), np.array([200, 20, 20])),
        "large": (as_png(Image.fromarray(wide)), np.repeat(wide[:, 750:1650].mean(), 3)),
        "oversized": (as_png(Image.new("1", (10_000, 6_000))), None),
        "half seen": (as_png(Image.fromarray(half)), (noise * (128 / 255) + 127).mean((0, 1))),
    }


def test_odd_pictures_are_right_or_refused_and_the_texts_stay_beside_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = odd_pictures()
    places = {kind: 11 * number for number, kind in enumerate(odd, 1)}
    bad = {places[kind]: data for kind, (data, _) in odd.items()}
    captioned(tmp_path, 220, bad=bad)
    data = ready(
        ImageCaptions(str(tmp_path), image_size=40, channels=3, validation_split="train", tokenizer=Vocabulary(8))
    )
    said = capsys.readouterr().err
    refused = [kind for kind, (_, mean) in odd.items() if mean is None]
    assert "2 of 220 rows refused" in said
    for kind in refused:
        assert f"row {places[kind]} ({places[kind]}.png): " in said
    assert "more than 50 million pixels" in said
    rows = [int(texts[0].split()[1]) for texts in data.captions("train")]
    assert rows == [row for row in range(220) if row not in [places[kind] for kind in refused]]
    means = dict(zip(rows, data.images("train").mean((2, 3)), strict=True))
    for kind, (_, mean) in odd.items():
        if mean is not None:
            assert np.abs(means[places[kind]] - mean).max() <= 2, kind
    flat = [row for row in rows if row not in bad]
    assert all((means[row] == row).all() for row in flat)


def test_one_bad_row_of_a_few_never_ends_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"validation_split": "train", "tokenizer": Vocabulary(8)}
    captioned(tmp_path, 40, bad={17: b"nonsense"})
    assert len(ready(ImageCaptions(str(tmp_path), **arguments)).captions("train")) == 39
    assert "1 of 40 rows refused: row 17 (17.png): not a picture" in capsys.readouterr().err
    captioned(tmp_path, 40, {20: []}, bad={17: b"nonsense"})
    with pytest.raises(ValueError, match=r"2 of 40 rows refused: row 17 .*; row 20 \(20.png\): no text \(more than 1%"):
        ready(ImageCaptions(str(tmp_path), **arguments))
    captioned(tmp_path, 1, bad={0: b"nonsense"})
    with pytest.raises(ValueError, match="1 of 1 rows refused"):
        ready(ImageCaptions(str(tmp_path), image_size=8, channels=1, **arguments))


# Emoji ----------------------------------------------------------------------------------------------------------------


def test_the_emoji_set(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRACTICUM_DATA", str(mirror))
    facts, data = by_flags("--data.limit", "300")
    assert facts["num_classes"] == 9 and (facts["channels"], facts["image_size"]) == (3, 64)
    assert data.class_names[0] == "activities"
    source = data._chosen["train"][0]
    for number, row in list(enumerate(data._chosen["train"][1]))[::20]:
        assert data.captions("train")[number] == [source[int(row)]["name"]]
        assert data.labels("train")[number] == source[int(row)]["group"]
        pixels = np.asarray(source[int(row)]["image"]).astype(float)  # H W 4
        alpha = pixels[..., 3:] / 255
        white = (pixels[..., :3] * alpha + 255 * (1 - alpha)).transpose(2, 0, 1)
        assert np.abs(data.images("train")[number] - white).max() <= 1
    corners = data.images("train")[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).mean() > 0.95
