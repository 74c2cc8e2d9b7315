"""The verb `data`: the sheet shows what is there, in the right place, and the numbers are right."""

import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image, ImageColor

from experiments import contact_sheet, data_statistics
from experiments.__main__ import main
from experiments.contact_sheet import COLOURS, DENSITY, MARGIN, Box, Paragraph, Span, Tile, draw, px
from experiments.data_tiles import boxes, class_span

LIST, TEXT, CLASS, PICTURE = datasets.List, datasets.Value("string"), datasets.ClassLabel, datasets.Image()


@pytest.fixture(autouse=True)
def own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("place")
    monkeypatch.setenv("PRACTICUM_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PRACTICUM_RUNS", str(folder / "runs"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PRACTICUM_DATA", raising=False)


def png(image: Image.Image) -> dict:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def flat(value: int, size: int = 8) -> dict:
    """A gray picture of one value: equal values are equal pictures."""
    return png(Image.new("L", (size, size), value))


def saved(folder: Path, features: dict, **splits: dict) -> Path:
    for split, columns in splits.items():
        made = datasets.Dataset.from_dict(columns, features=datasets.Features({"image": PICTURE, **features}))
        folder.mkdir(exist_ok=True)
        made.to_parquet(folder / f"{split}.parquet")
    return folder


def shown(folder: Path, *flags: str) -> tuple[np.ndarray, dict]:
    """The sheet's pixels and the JSON beside it."""
    out = folder.parent / "sheet.png"
    assert main(["data", str(folder), "--out", str(out), *flags]) == 0
    return np.asarray(Image.open(out)), json.loads(out.with_suffix(".json").read_text())


def tiles_drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """Keeps the tiles that the next sheets are drawn of."""
    kept: list[Tile] = []

    def keep(tiles, *words):
        kept[:] = tiles
        return draw(tiles, *words)

    monkeypatch.setattr(contact_sheet, "draw", keep)
    return kept


def words(tile: Tile) -> list[str]:
    return [" ".join(span.text for span in part.spans) for part in tile.paragraphs]


def test_help_is_quick_and_without_torch():
    code = """import atexit, sys, time
atexit.register(lambda: print(time.process_time() < 0.3, {"torch", "numpy"} & set(sys.modules), file=sys.stderr))
from experiments.__main__ import main
main(["data", "--help"])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "True set()" and "--data.KEY" in done.stdout


def test_digits_from_the_command_line(capsys):
    assert main(["data", "digits", "--num", "4", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    out = Path(printed.strip().splitlines()[-1])
    assert out.parts[-3:] == ("data", "digits", "train.png")
    assert re.search(r"train +1,077 +train", printed) and re.search(r"\n  4 +108 +36 +37\n", printed)
    found = json.loads(out.with_suffix(".json").read_text())
    assert found["splits"]["test"] == {"rows": 360, "from": "test"}
    assert found["labels"]["label"]["train"]["4"] == 108
    assert found["seen_as"] == {"channels": 1, "height": 16, "width": 16}
    assert found["pictures"]["train"] == {"looked_at": 1077, "width": [8, 8, 8], "height": [8, 8, 8], "modes": {"L": 1077}}
    written = json.loads(Image.open(out).text["parameters"])
    assert written["command"] == "practicum data digits --num 4 --seed 3"
    assert written == found["sheet"] and len(set(written["rows"])) == 4 and written["seed"] == 3


def test_rows_are_drawn_by_the_seed_and_shown_as_the_model_sees_them(tmp_path, monkeypatch):
    tiles = tiles_drawn(monkeypatch)
    folder = saved(tmp_path / "set", {"label": CLASS(names=["even", "odd"])},
                   train={"image": [flat(row) for row in range(60)], "label": [row % 2 for row in range(60)]})
    _, one = shown(folder, "--num", "20")
    assert [tile.pictures["image"][0, 0, 0] for tile in tiles] == one["sheet"]["rows"]  # the source's numbers
    assert [words(tile) for tile in tiles] == [[["even", "odd"][row % 2]] for row in one["sheet"]["rows"]]
    _, again = shown(folder, "--num", "20")
    _, other = shown(folder, "--num", "20", "--seed", "1")
    assert one["sheet"]["rows"] == again["sheet"]["rows"] != other["sheet"]["rows"]
    _, everything = shown(folder, "--num", "500")
    assert len(everything["sheet"]["rows"]) == 54 and everything["splits"]["validation"] == {"rows": 6, "from": "train"}
    _, held_out = shown(folder, "--split", "validation", "--data.image_size", "4")
    assert len(tiles) == 6 and tiles[0].pictures["image"].shape == (1, 4, 4)
    assert not set(held_out["sheet"]["rows"]) & set(everything["sheet"]["rows"])


def test_duplicates_and_leaks_are_counted_with_their_rows(tmp_path, capsys):
    values = {"train": [10, 20, 30, 20, 40, 10, 20], "test": [50, 40, 30, 30]}
    folder = saved(tmp_path / "set", {}, **{name: {"image": [flat(value) for value in row]} for name, row in values.items()})
    _, found = shown(folder, "--data.validation_split", "train")
    duplicates = found["duplicates"]
    assert duplicates["within"]["train"] == {"looked_at": 7, "extra": 3, "groups": 2, "rows": [[0, 5], [1, 3, 6]]}
    assert duplicates["within"]["test"] == {"looked_at": 4, "extra": 1, "groups": 1, "rows": [[2, 3]]}
    assert duplicates["between"]["test in train"] == {"count": 3, "rows": [[1, 4], [2, 2], [3, 2]]}
    assert "validation in train" not in duplicates["between"]  # the same rows on purpose
    assert "3 repeats in 2 groups  rows 0 = 5; 1 = 3 = 6" in capsys.readouterr().out


def test_rows_of_duplicates_are_the_sources_where_rows_are_held_out_or_refused(tmp_path):
    pictures = [flat(row // 2) for row in range(200)]
    pictures[0] = {"bytes": b"broken", "path": None}
    _, found = shown(saved(tmp_path / "set", {}, train={"image": pictures}))
    groups = [*found["duplicates"]["within"]["train"]["rows"], *found["duplicates"]["between"]["validation in train"]["rows"]]
    assert len(groups) == 10 and all(one // 2 == other // 2 and one != other for one, other in groups)


def test_colours_sizes_and_modes(tmp_path):
    pictures = [png(Image.new("RGBA", (8, 6), (255, 0, 51, 255))), png(Image.new("L", (10, 8), 102)), png(Image.new("RGBA", (8, 8)))]
    _, found = shown(saved(tmp_path / "set", {}, train={"image": pictures}), "--data.validation_split", "train")
    assert found["class_path"].endswith("HuggingFaceData")  # neither classes nor texts
    assert found["pictures"]["train"] == {"looked_at": 3, "width": [8, 8, 10], "height": [6, 8, 8], "modes": {"RGBA": 2, "L": 1}}
    columns = np.array([[1, 0, 0.2], [0.4, 0.4, 0.4], [1, 1, 1]])  # transparency is white
    assert found["channels"]["mean"] == columns.mean(0).round(4).tolist()
    assert found["channels"]["std"] == columns.std(0).round(4).tolist()


@pytest.mark.parametrize(("channels", "pixel"), [(1, (76, 76, 76)), (3, (255, 0, 0)), (4, (255, 127, 127))])
def test_gray_colour_and_transparency_on_the_page(channels, pixel):
    pixels = {1: [76], 3: [255, 0, 0], 4: [255, 0, 0, 128]}[channels]
    page = np.asarray(draw([Tile({"image": np.tile(np.array(pixels, np.uint8)[:, None, None], (1, 8, 8))})], "t", "s", []))
    assert page[page.shape[0] // 2, px(MARGIN) + px(60)] == pytest.approx(pixel, abs=1)
    assert (page[:, : px(MARGIN) - 1] == 255).all()


def test_small_pictures_are_enlarged_by_whole_numbers_and_large_ones_reduced():
    checks = (np.indices((28, 28)).sum(0) % 2 * 255).astype(np.uint8)[None]
    enlarged = np.asarray(contact_sheet.enlarged(checks))[..., 0]
    assert enlarged.shape == (252, 252) and (enlarged[::9, ::9] == checks[0]).all() and set(np.unique(enlarged)) == {0, 255}
    fine = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)[None]
    reduced = np.asarray(contact_sheet.enlarged(fine))
    assert reduced.shape[:2] == (256, 256) and abs(reduced.mean() - 127.5) < 3 and reduced[8:-8, 8:-8].std() < 8  # no moiré


def extent_of(page: np.ndarray, colour: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of a colour on the page."""
    rows, columns = np.nonzero((page == colour).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_box_is_drawn_around_what_it_names(tmp_path):
    """The drawn line stands just outside the object's pixels, for boxes in fractions and for COCO's pixels of another shape."""
    square = Image.new("RGB", (64, 64), "black")
    square.paste((0, 255, 0), (16, 8, 40, 32))  # left, top, right, bottom
    wide = Image.new("RGB", (160, 64), "black")
    wide.paste((0, 255, 0), (64, 8, 88, 32))  # the same after the centre is cut out: 48 px on the left fall away
    thing = {"box": LIST(datasets.Value("float32")), "colour": CLASS(names=["red", "green"]), "shape": TEXT}
    ours = saved(tmp_path / "ours", {"objects": LIST(thing)}, train={
        "image": [png(square)], "objects": [[{"box": [16 / 64, 8 / 64, 40 / 64, 32 / 64], "colour": 1, "shape": "square"}]]})
    coco = saved(tmp_path / "coco", {"objects": {"bbox": LIST(LIST(datasets.Value("float32"))), "category": LIST(CLASS(names=["cat"]))}},
                 train={"image": [png(wide)], "objects": [{"bbox": [[64, 8, 24, 24], [0, 0, 40, 64]], "category": [0, 0]}]})
    for folder in (ours, coco):
        page, _ = shown(folder)
        green = extent_of(page, (0, 255, 0))
        assert green[2] - green[0] == green[3] - green[1] == 24 * 4  # 64 px -> 128 points, whole
        top = page[: green[3] + 10]  # without the object's name below, which has the box's colour
        line = extent_of(top, ImageColor.getrgb(COLOURS[0]))
        assert line == (green[0] - 3, green[1] - 3, green[2] + 3, green[3] + 3)
        assert not (top == ImageColor.getrgb(COLOURS[1])).all(-1).any()  # out of sight
        assert (page[green[1] : green[3], green[0] : green[2]] == (0, 255, 0)).all()  # the line hides nothing


def test_boxes_are_named_and_cut_at_the_edge(tmp_path, monkeypatch):
    tiles = tiles_drawn(monkeypatch)
    thing = {"box": LIST(datasets.Value("float32")), "shape": CLASS(names=["star", "ring"]), "size": CLASS(names=["small", "large"])}
    objects = [[{"box": [-0.5, 0, 0.5, 0.5], "shape": 0, "size": 1}, {"box": [0.5, 0.5, 1, 1], "shape": 1, "size": 0}], []]
    shown(saved(tmp_path / "set", {"objects": LIST(thing)}, train={"image": [flat(1, 16), flat(2, 16)], "objects": objects}))
    tiles.sort(key=lambda tile: tile.pictures["image"][0, 0, 0])
    assert tiles[0].boxes == [Box((0, 0, 0.5, 0.5), "large star"), Box((0.5, 0.5, 1, 1), "small ring")]
    assert words(tiles[0]) == ["large star", "small ring"] and words(tiles[1]) == [] == tiles[1].boxes
    assert boxes([{"bbox": [0, 0, 4, 8]}], {}, flat(3)) == [Box((0, 0, 0.5, 1), "")]


def test_captions_questions_and_further_pictures_stand_in_the_tile(tmp_path, monkeypatch):
    tiles = tiles_drawn(monkeypatch)
    captions = saved(tmp_path / "captions", {"caption": LIST(TEXT), "depth": PICTURE, "label": CLASS(names=["a", "b"])}, train={
        "image": [flat(7)], "caption": [["a red star", "a star"]], "label": [1], "depth": [flat(200, 20)]})
    page, found = shown(captions)
    assert found["class_path"].endswith("ImageCaptions") and words(tiles[0]) == ["b", "a red star"]
    assert list(tiles[0].pictures) == ["image", "depth"] and tiles[0].pictures["depth"].shape == (1, 8, 8)
    assert (page == 200).all(-1).any()
    questions = saved(tmp_path / "questions", {"question": TEXT, "answer": TEXT}, train={
        "image": [flat(7)], "question": ["what is it?"], "answer": ["gray"]})
    _, found = shown(questions)
    assert found["class_path"].endswith("ImageQuestions") and words(tiles[0]) == ["what is it? gray"]


def test_words_are_counted(tmp_path):
    captions = [["A red star.", "the red ring"], ["a star"], ["A red star."]]
    folder = saved(tmp_path / "set", {"caption": LIST(TEXT), "file": TEXT}, train={
        "image": [flat(value) for value in range(3)], "caption": captions, "file": ["a.png", "b.png", "c.png"]})
    _, found = shown(folder, "--data.validation_split", "train")
    counted = found["texts"]["caption"]
    assert counted["per_row"] == [1, 1, 2] and counted["words"] == [2, 3, 3] and counted["texts"] == 4
    assert (counted["distinct"], counted["vocabulary"], counted["rows_without"]) == (3, 5, 0)
    assert counted["most_frequent"] == {"a": 3, "red": 3, "star": 3, "the": 1, "ring": 1}
    assert set(found["texts"]) == {"caption", "file"}


def test_many_classes_are_shortened_on_the_screen_and_whole_in_the_file(tmp_path, capsys):
    names = [f"kind {number:03}" for number in range(150)]
    labels = [number for number in range(149) for _ in range(1 + (number == 17) * 9)]  # the last class has no row
    folder = saved(tmp_path / "set", {"label": CLASS(names=names)},
                   train={"image": [flat(number % 256) for number in range(len(labels))], "label": labels})
    _, found = shown(folder, "--data.validation_split", "train")
    assert len(found["labels"]["label"]["train"]) == 150 and found["labels"]["label"]["train"]["kind 149"] == 0
    printed = capsys.readouterr().out
    assert "149 in train of 150; the largest, kind 017, has 10 rows, the smallest, kind 000, 1" in printed
    assert re.search(r"140 others +139", printed) and len(printed.splitlines()) < 50


def test_refused_rows_are_named_with_the_reason_and_move_no_other_row(tmp_path, capsys, monkeypatch):
    tiles = tiles_drawn(monkeypatch)
    pictures = [flat(row % 256) for row in range(300)]
    pictures[123] = {"bytes": b"\x89PNG\r\n\x1a\n broken", "path": "x.png"}
    folder = saved(tmp_path / "set", {"label": CLASS(names=[f"row {row}" for row in range(300)])},
                   train={"image": pictures, "label": list(range(300))})
    _, found = shown(folder, "--data.validation_split", "train", "--num", "100")
    assert [words(tile) for tile in tiles] == [[f"row {row}"] for row in found["sheet"]["rows"]]
    assert [tile.pictures["image"][0, 0, 0] for tile in tiles] == [row % 256 for row in found["sheet"]["rows"]]
    assert found["refused"]["train"]["count"] == 1 and found["refused"]["train"]["rows"][0]["row"] == 123
    assert "picture" in found["refused"]["train"]["rows"][0]["reason"]
    assert "refused in train: 1 row\n  row 123" in capsys.readouterr().out
    assert found["pictures"]["train"]["modes"] == {"L": 299} and 123 not in found["sheet"]["rows"]


def test_one_row_and_class_folders_of_several_sizes(tmp_path, capsys):
    _, found = shown(saved(tmp_path / "one", {}, train={"image": [flat(9)]}))
    assert found["sheet"]["rows"] == [0] and found["splits"]["train"]["rows"] == 1
    for number in range(8):
        folder = tmp_path / "photos" / ["cat", "dog"][number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + number, 20), (number, 0, 0)).save(folder / f"{number}.png")
    _, found = shown(tmp_path / "photos")
    assert found["seen_as"] == {"channels": 3, "height": 128, "width": 128}
    assert found["labels"]["label"]["train"].keys() == {"cat", "dog"}
    assert "several sizes" in capsys.readouterr().err


def test_rows_without_a_label_are_shown_and_counted(tmp_path, monkeypatch):
    tiles = tiles_drawn(monkeypatch)
    folder = saved(tmp_path / "set", {"caption": TEXT, "label": CLASS(names=["a", "b"])}, train={
        "image": [flat(1), flat(2)], "caption": ["one", "two"], "label": [1, None]})
    _, found = shown(folder)
    assert found["labels"]["label"]["train"] == {"a": 0, "b": 1, "(none)": 1}
    assert sorted(words(tile)[0] for tile in tiles) == ["b", "no label"]
    assert class_span(-1, ["a"]).text == "no label" and class_span(7, ["3", "7"]).text == "7" and class_span(1, ["x", "y"]).text == "y"


def test_a_further_split_of_the_source_can_be_shown(tmp_path):
    folder = tmp_path / "set"
    datasets.DatasetDict({name: datasets.Dataset.from_dict({"image": [flat(value)] * 20}, features=datasets.Features({"image": PICTURE}))
                          for name, value in (("train", 1), ("test", 2), ("extra", 3))}).save_to_disk(folder)
    _, found = shown(folder, "--split", "extra")
    assert found["splits"]["test"] == {"rows": 20, "from": "extra"} and found["channels"]["mean"] == [round(1 / 255, 4)]


def test_a_set_whose_only_split_has_another_name(tmp_path):
    folder = tmp_path / "set"
    made = datasets.Dataset.from_dict({"image": [flat(value) for value in range(20)]}, features=datasets.Features({"image": PICTURE}))
    datasets.DatasetDict({"full": made}).save_to_disk(folder)
    _, found = shown(folder)
    assert found["splits"] == {"train": {"rows": 18, "from": "full"}, "validation": {"rows": 2, "from": "full"}}


@pytest.mark.parametrize(("arguments", "named"), [
    (["digitz"], "nearest: digits"), ([], "which data set?"), (["digits", "--num", "0"], "--num 0"), (["digits", "--nun", "3"], "--num"),
    (["digits", "--split", "tset"], "nearest: test"), (["digits", "--seed", "-1"], "--seed -1"),
    (["digits", "--out", "a.jpg"], "a.jpg.png"),
    (["digits", "--data.imagesize", "3"], "image_size"), (["digits", "--data.image_size"], "needs a value"), (["./nowhere"], "nowhere"),
    (["digits", "--data.columns.label", "lable"], "'label'"), (["missing.yaml"], "missing.yaml"), (["digits", "again"], "again"),
    (["digits", "--data.class_path", "datamodules.image_captions.ImageCaptions"], "no text column"),
])
def test_mistakes_are_one_line(arguments, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if line.startswith("practicum data:")]) == 1
    assert named in error[-1] and "Traceback" not in "".join(error)


def test_a_place_that_cannot_be_written_is_one_line_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["data", "digits", "--out", str(tmp_path / "file" / "sheet.png")]) == 2
    error = capsys.readouterr()
    assert len(error.err.strip().splitlines()) == 1 and str(tmp_path / "file") in error.err and not error.out


# Words on the page --------------------------------------------------------------------------------------------------


def lines_of(text: str, width: int, lines: int = 3, *others: Span) -> list[str]:
    return ["".join(span.text for span in line) for line in contact_sheet.wrap(Paragraph([Span(text), *others], lines), width, None)]


def test_captions_are_wrapped_and_cut_with_an_ellipsis():
    letters, width = contact_sheet.font(None, 11), px(128)
    long = "a small striped red star left of a large blue ring and above a dotted yellow moon in the bottom right corner"
    wrapped = lines_of(long, width)
    assert len(wrapped) == 3 and wrapped[-1].endswith("…") and all(letters.getlength(line) <= width for line in wrapped)
    assert long.startswith(" ".join(wrapped)[:-1])  # nothing is lost before the cut
    assert " ".join(lines_of(long, width, 20)) == long
    assert "".join(lines_of("x" * 200, width, 50)) == "x" * 200 and len(lines_of("x" * 5000, width)) == 3
    assert lines_of("", width) == []
    cut = lines_of(f"{long}?", width, 3, Span("yes"))
    assert len(cut) == 3 and cut[-1].endswith("… yes")  # the answer stays


def test_letters_that_no_font_has_become_visible_escapes(monkeypatch):
    monkeypatch.setattr(contact_sheet, "faces", lambda: [None])
    face = contact_sheet.face_for(["ж 中"])
    assert contact_sheet.readable("star \u4e2d \U0001f600", face) == "star \\u4e2d \\U0001f600"
    assert contact_sheet.readable("plain ascii, “quoted”…", face) == "plain ascii, “quoted”…"


def test_the_page_is_as_full_as_can_be():
    assert contact_sheet.best_columns(48, 1.15) == 8 and contact_sheet.best_columns(1, 1) == 1 and contact_sheet.best_columns(2, 0.5) <= 2
    page = draw([Tile({"image": np.zeros((1, 16, 16), np.uint8)})] * 5, "t", "s", ["f"])
    assert page.width >= contact_sheet.NARROWEST * DENSITY


def test_a_large_split_is_looked_at_in_part(monkeypatch):
    monkeypatch.setattr(data_statistics, "LOOKED_AT", 10)
    rows = data_statistics.drawn(1000)
    assert len(set(rows.tolist())) == 10 and (np.diff(rows) > 0).all() and rows.max() > 500
    assert data_statistics.drawn(10).tolist() == list(range(10))


def test_numbers_are_aligned():
    assert data_statistics.aligned([["", "rows"], ["train", 1077], ["x", 5]]) == ["          rows", "  train  1,077", "  x          5"]
