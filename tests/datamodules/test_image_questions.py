"""Questions and answers beside their pictures, and the tokens that are given and those that are to be told."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

from datamodules.image_questions import ImageQuestions
from datamodules.tokenizers import ClipTokenizer, Vocabulary
from tests.datamodules.captioned import ready
from tests.datamodules.test_images import encoded

STRING = datasets.Value("string")
LIST = datasets.List(STRING)


def asked(folder: Path, rows: list[dict[str, Any]], **features: Any) -> Path:
    """A Parquet set whose picture i is flat gray of value i."""
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": encoded(Image.new("L", (8, 8), row)), "path": f"{row}.png"} for row in range(len(rows))]
    }
    columns.update({key: [row[key] for row in rows] for key in features})
    types = datasets.Features({"image": datasets.Image(), **features})
    datasets.Dataset.from_dict(columns, features=types).to_parquet(folder / "train.parquet")
    return folder


def like_scenes(folder: Path, num: int) -> Path:
    """Two questions a row: its number, and whether it is even."""
    rows = [
        {"question": [f"which number is {row}?", f"is {row} even?"], "answer": [f"{row}", "no" if row % 2 else "yes"],
         "kind": ["number", "parity"]}
        for row in range(num)
    ]  # fmt: skip
    return asked(folder, rows, question=LIST, answer=LIST, kind=LIST)


def of(folder: Path, columns: dict[str, str] | None = None, **arguments: Any) -> ImageQuestions:
    arguments = {"validation_split": "train", "tokenizer": Vocabulary(12), **arguments}
    return ready(ImageQuestions(str(folder), columns=columns, **arguments))


def test_a_batch_keeps_the_contract(tmp_path: Path) -> None:
    data = of(like_scenes(tmp_path, 60), batch_size=16, validation_split=0.1)
    assert data.facts() == {
        "channels": 1, "image_size": 8, "context_length": 12, "vocabulary_size": data.tokenizer.num_tokens
    }  # fmt: skip
    loader = data.train_dataloader()
    seen = []
    for batch in [batch for _ in range(4) for batch in loader]:
        assert set(batch) == {"image", "text", "answer", "kind", "tokens", "mask", "prefix_length"}
        assert batch["tokens"].shape == (16, 12) == batch["mask"].shape and batch["prefix_length"].dtype == torch.int64
        for row in range(16):
            tokens, given, number = batch["tokens"][row], int(batch["prefix_length"][row]), batch["image"][row, 0, 0, 0]
            question, answer, kind = (batch[key][row] for key in ("text", "answer", "kind"))
            assert str(int(number)) in question.rstrip("?").split() and answer in (str(int(number)), "yes", "no")
            assert kind == ("number" if question.startswith("which") else "parity")
            assert tokens[0] == data.tokenizer.start and tokens[given - 1] == data.tokenizer.separator
            assert data.tokenizer.decode(tokens[:given]) == question + "\n"
            assert data.tokenizer.decode(tokens[given:]) == answer
            told = tokens[given : int(batch["mask"][row].sum())]
            assert told[-1] == data.tokenizer.end and len(told) == 2
            seen.append(kind)
    assert 0.3 < seen.count("parity") / len(seen) < 0.7


def test_lists_stand_row_for_row(tmp_path: Path) -> None:
    data = of(like_scenes(tmp_path, 20))
    assert data.questions("train")[7] == ["which number is 7?", "is 7 even?"]
    assert data.answers("train")[7] == ["7", "no"] and data.kinds("train")[7] == ["number", "parity"]


def test_validation_asks_the_same_question_every_time(tmp_path: Path) -> None:
    like_scenes(tmp_path, 60)
    runs = []
    for seed, num_workers in ((0, 0), (1, 0), (2, 2)):
        torch.manual_seed(seed)
        loader = of(tmp_path, batch_size=16, num_workers=num_workers).val_dataloader()
        runs += [[text for batch in loader for text in batch["text"]] for _ in range(2)]
    assert all(run == runs[0] for run in runs) and 15 < sum(text.startswith("is") for text in runs[0]) < 45


def test_of_several_answers_the_most_common_counts_and_of_those_the_first(tmp_path: Path) -> None:
    answers = [["red", "blue", "red"], ["two", "three"], ["b", "a", "a", "b"], [" x ", None, "", "y", "y"], ["one"]]
    rows = [{"question": f"q{row}", "answers": [{"answer": text, "sure": "yes"} for text in texts]}
            for row, texts in enumerate(answers)]  # fmt: skip
    asked(tmp_path, rows, question=STRING, answers=datasets.List({"answer": STRING, "sure": STRING}))
    with pytest.raises(ValueError, match=r"has no answer column \(columns: image, question, answers, answers.answer"):
        of(tmp_path)
    data = of(tmp_path, {"answer": "answers.answer"})
    assert data.answers("train") == [["red"], ["two"], ["b"], ["y"], ["one"]]
    assert data.questions("train") == [["q0"], ["q1"], ["q2"], ["q3"], ["q4"]]
    with pytest.raises(ValueError, match=r"has no kind column; name it with --data.columns.kind NAME"):
        data.kinds("train")
    assert "kind" not in next(iter(data.train_dataloader()))


def test_single_strings_and_lists_of_structs(tmp_path: Path) -> None:
    rows = [{"Question": f"q{row}", "ANSWER": f"a{row}"} for row in range(4)]
    asked(tmp_path / "one", rows, Question=STRING, ANSWER=STRING)
    assert of(tmp_path / "one").answers("train") == [["a0"], ["a1"], ["a2"], ["a3"]]
    rows = [{"qa": [{"q": f"q{row}", "a": f"a{row}"}, {"q": "r", "a": "b"}]} for row in range(4)]
    asked(tmp_path / "two", rows, qa=datasets.List({"q": STRING, "a": STRING}))
    data = of(tmp_path / "two", {"question": "qa.q", "answer": "qa.a"})
    assert data.questions("train")[2] == ["q2", "r"] and data.answers("train")[2] == ["a2", "b"]


def test_rows_that_cannot_be_paired_are_refused_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": [f"q{row}", "r"], "answer": [f"a{row}", "b"]} for row in range(200)]
    rows[5]["answer"] = ["a5"]
    rows[150] = {"question": [None, "r"], "answer": ["a", ""]}
    rows[160] = {"question": ["q160", None], "answer": ["a160", "b"]}
    data = of(asked(tmp_path, rows, question=LIST, answer=LIST), batch_size=200)
    assert "2 of 200 rows refused: row 5 (5.png): 2 of 'question' and 1 of 'answer'; row 150 (150.png): no text" in (
        capsys.readouterr().err
    )
    kept = data.images("train")[:, 0, 0, 0].tolist()
    assert kept == [row for row in range(200) if row not in (5, 150)]
    assert [questions[0] for questions in data.questions("train")] == [f"q{row}" for row in kept]
    assert data.answers("train")[kept.index(160)] == ["a160"]


def test_answers_and_ends_stay_when_questions_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "which of " + "many " * 30 + "?", "answer": "the last one"} for _ in range(4)]
    asked(tmp_path / "long", rows, question=STRING, answer=STRING)
    for tokenizer in (Vocabulary(10), ClipTokenizer(10)):
        data = of(tmp_path / "long", tokenizer=tokenizer)
        batch = next(iter(data.val_dataloader()))
        assert batch["mask"].all() and (batch["tokens"][:, -1] == tokenizer.end).all()
        given = int(batch["prefix_length"][0])
        assert given == 6 and tokenizer.decode(batch["tokens"][0, given:]) == "the last one"
        assert tokenizer.decode(batch["tokens"][0, :given]).startswith("which of many")
    assert "long train: 1 of 1 different texts are longer than 10 tokens and were cut; the longest needs" in (
        capsys.readouterr().err
    )
    with pytest.raises(ValueError, match=r"tokenizer.context_length: 3 has no room for a question and its"):
        ImageQuestions(str(tmp_path), tokenizer=Vocabulary(3))


def test_the_fingerprint_follows_questions_and_answers(tmp_path: Path) -> None:
    def fingerprint(name: str, question: str, answer: str) -> str:
        rows = [{"question": f"q{row}", "answer": f"a{row}"} for row in range(6)]
        rows[3] = {"question": question, "answer": answer}
        return of(asked(tmp_path / name, rows, question=STRING, answer=STRING)).fingerprint

    prints = [fingerprint(*what) for what in (("a", "x", "y"), ("b", "x", "y"), ("c", "z", "y"), ("d", "x", "z"))]
    assert prints[0] == prints[1] and len(set(prints)) == 3
