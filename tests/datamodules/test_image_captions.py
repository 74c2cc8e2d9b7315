"""Captions beside their pictures: which one, in which epoch, from which column, and what is kept with the run."""

import json
from pathlib import Path

import datasets
import lightning
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from datamodules.image_captions import ImageCaptions
from datamodules.tokenizers import ClipTokenizer, Vocabulary
from tests.datamodules.captioned import WORDINGS, captioned, epochs, numbers, ready
from tests.datamodules.test_images import encoded


def test_a_batch_keeps_the_contract(tmp_path: Path) -> None:
    data = ready(ImageCaptions(str(captioned(tmp_path, 100, classes=True)), batch_size=16))
    assert data.facts() == {
        "channels": 1, "image_size": 8, "num_classes": 2, "vocabulary_size": 49408, "context_length": 77,
    }  # fmt: skip
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert set(batch) == {"image", "label", "text", "tokens", "mask"}
    assert batch["image"].shape == (16, 1, 8, 8) and batch["image"].dtype == torch.float32
    assert batch["tokens"].shape == (16, 77) and batch["tokens"].dtype == torch.int64
    assert batch["mask"].shape == (16, 77) and batch["mask"].dtype == torch.bool
    tokens, mask = ClipTokenizer()(batch["text"])
    assert torch.equal(batch["tokens"], tokens) and torch.equal(batch["mask"], mask)
    assert batch["label"].tolist() == [number % 2 for number in numbers(batch["text"])]
    assert data.class_names == ["even", "odd"] and data.labels("validation").shape == (10,)
    rows = data.images("train")[:, 0, 0, 0]
    assert data.captions("train") == [[wording.format(row) for wording in WORDINGS] for row in rows]


def test_a_set_without_classes_goes_without_labels(tmp_path: Path) -> None:
    data = ready(ImageCaptions(str(captioned(tmp_path, 30)), tokenizer=Vocabulary(8)))
    assert "num_classes" not in data.facts() and data.class_names == []
    assert "label" not in next(iter(data.train_dataloader()))
    with pytest.raises(ValueError, match=r"^labels: .* has no classes; name a column with --data.columns.label NAME$"):
        data.labels("train")


def test_labels_that_are_missing_end_only_a_run_that_asked_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["a", "b"])}
    )
    picture = datasets.load_dataset("parquet", data_files=str(captioned(tmp_path, 1) / "train.parquet"))["train"][0]
    rows = {"image": [picture["image"]] * 4, "text": list("wxyz"), "kind": [0, 1, None, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    arguments = {"validation_split": "train", "tokenizer": Vocabulary(8)}
    data = ready(ImageCaptions(str(tmp_path), **arguments))
    assert "label" not in next(iter(data.train_dataloader()))
    assert "1 of 4 rows of the train split have no label" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"1 of 4 rows of the train split have no label in 0..1 .row 2: None"):
        ready(ImageCaptions(str(tmp_path), columns={"label": "kind"}, **arguments))


def test_training_takes_another_caption_in_each_epoch_and_validation_the_same(tmp_path: Path) -> None:
    captioned(tmp_path, 200)

    def run(seed: int, num: int, **arguments: object) -> list[dict[int, str]]:
        torch.manual_seed(seed)
        data = ready(ImageCaptions(str(tmp_path), batch_size=32, tokenizer=Vocabulary(8), **arguments))
        torch.rand(seed + 3)  # what else is drawn makes no difference
        return epochs(data.train_dataloader(), num) + epochs(data.val_dataloader(), 2)

    *train, first, second = run(0, 12)
    assert run(0, 3)[:3] == train[:3] and run(0, 3, flip=True)[:3] == train[:3]
    assert run(1, 1)[0] != train[0] != train[1]
    assert first == second == run(1, 0)[-1] and len(first) == 20
    wordings = [
        {WORDINGS.index(text.replace(str(row), "{}")) for row, text in seen.items()} for seen in (train[0], first)
    ]
    assert wordings == [{0, 1, 2}, {0, 1, 2}]  # not always the first
    share = np.mean([text.startswith("number") for seen in train for text in seen.values()])
    assert abs(share - 1 / 3) < 0.03
    common = set(train[0]) & set(train[1])  # whole batches only: not every row is in every epoch
    assert 0.5 < np.mean([train[0][row] != train[1][row] for row in common]) < 0.8


def test_worker_processes_give_the_same_captions(tmp_path: Path) -> None:
    captioned(tmp_path, 60)
    torch.manual_seed(0)
    runs = []
    for num_workers in (0, 1, 2):
        data = ready(
            ImageCaptions(str(tmp_path), batch_size=8, num_workers=num_workers, tokenizer=Vocabulary(8), flip=True)
        )
        batches = [batch for loader in [data.train_dataloader()] * 3 for batch in loader]
        batches += list(data.val_dataloader())
        runs.append([(batch["text"], batch["tokens"].tolist(), batch["mask"].sum().item()) for batch in batches])
    assert runs[0] == runs[1] == runs[2]


def test_overfitting_sees_the_same_captions_again(tmp_path: Path) -> None:
    data = ready(ImageCaptions(str(captioned(tmp_path, 60)), batch_size=20, tokenizer=Vocabulary(8)))
    data.trainer = lightning.Trainer(overfit_batches=1, logger=False, default_root_dir=tmp_path / "run")
    first, second = epochs(data.train_dataloader(), 2)
    assert first == second


# Columns --------------------------------------------------------------------------------------------------------------

STRING, LIST = datasets.Value("string"), datasets.List(datasets.Value("string"))
STRUCTS = datasets.List({"raw": STRING, "words": LIST, "id": datasets.Value("int64")})
TWO = datasets.List({"raw": STRING, "tidy": STRING})


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"title": STRING, "Captions": LIST, "prompt": STRING}, "Captions"),
        ({"text": STRING, "captions": LIST, "caption": STRING}, "caption"),
        ({"title": STRING, "TEXT": STRING}, "TEXT"),
        ({"description": STRING, "sentences": LIST}, "sentences"),
        ({"words": LIST, "score": datasets.Value("float32")}, "words"),
        ({"sentences": STRUCTS, "file": STRING}, "sentences.raw"),
        ({"anything": STRUCTS}, "anything.raw"),
        ({"name": STRING, "file": STRING}, None),
        ({"sentences": TWO}, None),
        ({"score": datasets.Value("float32")}, None),
    ],
)
def test_the_text_column_is_found(columns: dict, found: str | None, tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), **columns})
    rows = {name: [None] * 2 for name in features}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    data = ImageCaptions(str(tmp_path), validation_split="train")
    if found is not None:
        assert data._text_column == found
        return
    with pytest.raises(ValueError, match=r"has no text column \(columns: image, .*\); name it with --data.columns"):
        data._text_column  # noqa: B018


def test_a_column_of_classes_is_not_taken_for_texts(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "place": STRING, "words": STRING})
    datasets.Dataset.from_dict({name: [None] * 2 for name in features}, features=features).to_parquet(
        tmp_path / "train.parquet"
    )
    data = ImageCaptions(str(tmp_path), validation_split="train", columns={"label": "place"})
    assert data._text_column == "words"


def test_a_wrong_text_column_is_named(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["a"])
    features = datasets.Features({"image": datasets.Image(), "sentences": TWO, "kind": kind})
    rows = {name: [None] * 2 for name in features}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")

    def message(column: str) -> str:
        with pytest.raises(ValueError, match=r"^columns: ") as caught:
            ImageCaptions(str(tmp_path), validation_split="train", columns={"text": column})._text_column  # noqa: B018
        return str(caught.value)

    assert "has no column 'sentences.rw', did you mean 'sentences.raw'?" in message("sentences.rw")
    texts = "holds no texts (texts: sentences.raw, sentences.tidy)"
    assert texts in message("sentences") and texts in message("kind") and texts in message("image")


def shaped(folder: Path, columns: dict[str, pyarrow.Array], num: int) -> Path:
    """Parquet of other writers: no metadata of `datasets`, pictures as bytes."""
    picture = datasets.load_dataset("parquet", data_files=str(captioned(folder / "one", 1) / "train.parquet"))["train"]
    data = picture.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"]
    table = pyarrow.table({"jpg": pyarrow.array([data] * num, pyarrow.binary()), **columns})
    (folder / "set").mkdir()
    pyarrow.parquet.write_table(table, folder / "set" / "train.parquet", row_group_size=2)
    return folder / "set"


@pytest.mark.parametrize(
    "array",
    [
        pyarrow.array(
            [[{"raw": "a0"}, {"raw": " b0 "}], [{"raw": "a1"}], [{"raw": ""}, {"raw": "b2"}, None], [{"raw": "a3"}]]
        ),
        pyarrow.array([{"raw": ["a0", "b0"]}, {"raw": ["a1"]}, {"raw": [None, "b2", "\n"]}, {"raw": ["a3"]}]),
        pyarrow.array([["a0", "b0"], ["a1"], ["b2", None], ["a3"]], pyarrow.large_list(pyarrow.large_string())),
    ],
    ids=["list of structs", "struct of lists", "large list"],
)
def test_texts_are_read_from_every_shape(array: pyarrow.Array, tmp_path: Path) -> None:
    folder, whole = shaped(tmp_path, {"s": array}, 4), [["a0", "b0"], ["a1"], ["b2"], ["a3"]]
    data = ready(ImageCaptions(str(folder), validation_split="train", tokenizer=Vocabulary(4)))
    assert data.captions("train") == whole
    split = ready(ImageCaptions(str(folder), validation_split=0.5, tokenizer=Vocabulary(4)))
    rows = split.captions("train") + split.captions("validation")
    assert len(split.captions("train")) == 2 and sorted(rows) == sorted(whole)


# Rows that are refused ------------------------------------------------------------------------------------------------


def test_rows_without_a_text_are_refused_like_bad_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captioned(tmp_path, 256, {7: [], 9: [None, "  "], 200: ["", "picture 200"]}, bad={30: b"nonsense"})
    arguments = {"validation_split": "train", "tokenizer": Vocabulary(8)}
    with pytest.raises(ValueError, match=r"3 of 256 rows refused: row 7 \(7.png\): no text; row 9 .*no text; row 30"):
        ready(ImageCaptions(str(tmp_path), **arguments))
    captioned(tmp_path, 256, {7: None, 200: ["", "picture 200"]}, bad={30: b"nonsense"})
    data = ready(ImageCaptions(str(tmp_path), batch_size=256, **arguments))
    rows = data.images("train")[:, 0, 0, 0].tolist()
    assert rows == [row for row in range(256) if row not in (7, 30)]
    assert [numbers(texts)[0] for texts in data.captions("train")] == rows
    assert epochs(data.val_dataloader(), 1)[0].keys() == set(rows)
    assert "warning: " in (said := capsys.readouterr().err) and "2 of 256 rows refused: row 7 (7.png): no text;" in said


def test_the_cache_of_pictures_follows_the_texts_that_are_missing(tmp_path: Path) -> None:
    picture = encoded(Image.new("L", (8, 8)))
    features = datasets.Features({"image": datasets.Image(), "german": STRING, "french": STRING})
    rows = {"image": [{"bytes": picture, "path": None}] * 40, "german": ["Bild"] * 40, "french": ["image"] * 40}
    rows["german"][7] = None
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    for language, num in (("german", 39), ("french", 40)):
        data = ImageCaptions(
            str(tmp_path), columns={"text": language}, validation_split="train", tokenizer=Vocabulary(4)
        )
        assert len(ready(data).captions("train")) == num == len(data.images("train"))


def test_a_secret_test_split_does_not_stop_training(tmp_path: Path) -> None:
    captioned(tmp_path / "a", 3, {row: [] for row in range(3)})
    captioned(tmp_path, 30)
    (tmp_path / "a" / "train.parquet").rename(tmp_path / "test.parquet")
    data = ready(ImageCaptions(str(tmp_path), tokenizer=Vocabulary(8)))
    assert len(data.fingerprint) == 16
    with pytest.raises(ValueError, match=r"test: no row has text \(row 0: no text\); choose another column or split"):
        data.setup("test")


# What is kept and said ------------------------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_texts(tmp_path: Path) -> None:
    def fingerprint(name: str, captions: dict | None = None, **arguments: object) -> str:
        folder = captioned(tmp_path / name, 20, captions, name=name)
        data = ImageCaptions(str(folder), **arguments)
        data.prepare_data()
        return data.fingerprint

    same = fingerprint("text")
    assert fingerprint("caption") == same == fingerprint("prompt", tokenizer=Vocabulary(8))
    others = [{3: ["picture 3", "a picture of 3"]}, {3: ["x", *(wording.format(3) for wording in WORDINGS[1:])]}]
    assert len({same, *(fingerprint("title", other) for other in others)}) == 3


def test_the_words_are_kept_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captioned(tmp_path / "one", 40)
    captioned(tmp_path / "two", 40, {row: [f"quite another {row}"] for row in range(40)})
    run = tmp_path / "run"
    run.mkdir()

    def fitted(stage: str, name: str, tokenizer: Vocabulary) -> ImageCaptions:
        data = ImageCaptions(str(tmp_path / name), tokenizer=tokenizer, validation_split="train")
        data.trainer = lightning.Trainer(logger=False, default_root_dir=run)
        data.prepare_data()
        data.setup(stage)
        return data

    words = fitted("fit", "one", Vocabulary(8)).tokenizer.vocabulary
    file = run / "tokenizer.json"
    assert json.loads(file.read_text()) == {"tokenizer": "vocabulary", "words": words} and len(list(run.iterdir())) == 1
    before = file.stat().st_mtime_ns
    capsys.readouterr()
    data = fitted("validate", "two", Vocabulary(8))
    assert data.tokenizer.vocabulary == words and file.stat().st_mtime_ns == before
    said = [line for line in capsys.readouterr().err.splitlines() if "words" in line]
    assert said == [
        f"two {split}: 80 of 120 words are not in the vocabulary and became <unk>: 'quite', 'another'"
        for split in ("train", "validation")
    ]
    batch = next(iter(data.val_dataloader()))
    assert (batch["tokens"][:, 1:3] == Vocabulary.unk).all()
    file.unlink()
    fitted("validate", "two", Vocabulary(8))
    assert not file.exists()  # only training writes


def test_what_was_cut_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ready(ImageCaptions(str(captioned(tmp_path / "cut", 40)), tokenizer=Vocabulary(5), validation_split="train"))
    for _ in range(2):
        list(data.train_dataloader())
        data.setup("fit")
    said = [line for line in capsys.readouterr().err.splitlines() if "cut;" in line]
    assert said == [
        f"cut {split}: 40 of 120 different texts are longer than 5 tokens and were cut; the longest needs"
        " --data.tokenizer.context_length 6"
        for split in ("train", "validation")
    ]
