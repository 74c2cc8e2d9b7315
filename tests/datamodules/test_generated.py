"""Real rows, generated rows, or both to train on; real rows alone to validate and to test on."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from datamodules.generated import WithGenerated
from datamodules.image_classes import ImageClasses

NAMES = ["even", "odd"]


def flat(folder: Path, splits: dict[str, range], names: list[str] = NAMES, columns: tuple[str, str] = ("image", "label")) -> str:
    """Pictures of 8 px, flat gray, each of a value of its own."""
    features = datasets.Features({columns[0]: datasets.Image(), columns[1]: datasets.ClassLabel(names=names)})
    folder.mkdir()
    for split, values in splits.items():
        pictures = [Image.new("L", (8, 8), value) for value in values]
        rows = datasets.Dataset.from_dict({columns[0]: pictures, columns[1]: [v % 2 for v in values]}, features=features)
        rows.to_parquet(folder / f"{split}.parquet")
    return str(folder)


@pytest.fixture
def real(tmp_path: Path) -> str:
    return flat(tmp_path / "real", {"train": range(40), "test": range(100, 110)}, columns=("img", "kind"))


@pytest.fixture
def drawn(tmp_path: Path) -> str:
    return flat(tmp_path / "drawn", {"train": range(150, 250)})


def values(source: WithGenerated, validation: str | None = "test") -> dict[str, list[int]]:
    data = ImageClasses(source, validation_split=validation)
    data.prepare_data()
    for split in ("train", "validation", "test"):
        shown = data.images(split)[:, 0, 0, 0]
        assert np.array_equal(data.labels(split), shown % 2), "a label has left its picture"
    return {split: data.images(split)[:, 0, 0, 0].tolist() for split in ("train", "validation", "test")}


@pytest.mark.parametrize("validation", ["test", None])
def test_what_is_generated_trains_and_nothing_else(real: str, drawn: str, validation: str | None) -> None:
    plain = ImageClasses(real)
    plain.prepare_data()
    kept = plain.images("train")[:, 0, 0, 0].tolist()
    held_out = plain.images("validation")[:, 0, 0, 0].tolist()
    assert len(kept) == 36
    for train, expected in (
        (["real"], kept),
        ([drawn], [*range(150, 186)]),
        (["real", drawn], [*kept, *range(150, 186)]),
    ):
        found = values(WithGenerated(real, train), validation)
        assert found["train"] == expected
        assert found["test"] == [*range(100, 110)]
        assert found["validation"] == (found["test"] if validation else held_out)
        assert not set(found["train"]) & {*held_out, *found["test"]}
        assert len(set(found["train"])) == len(found["train"]), "a picture came twice"


def test_copies_are_a_multiple_of_the_real_rows(real: str, drawn: str) -> None:
    assert len(values(WithGenerated(real, ["real", drawn], copies=2))["train"]) == 36 + 72
    assert len(values(WithGenerated(real, [drawn], copies=0.5))["train"]) == 18


def test_title_and_fingerprint(real: str, drawn: str) -> None:
    sets = [ImageClasses(WithGenerated(real, train), validation_split="test") for train in (["real"], [drawn])]
    for data in sets:
        data.prepare_data()
    assert {data.title for data in sets} == {"real_with_generated"}
    assert sets[0].fingerprint != sets[1].fingerprint
    assert sets[0].class_names == NAMES


def test_mistakes_are_one_line(tmp_path: Path, real: str, drawn: str) -> None:
    other = flat(tmp_path / "other", {"train": range(40)}, names=["odd", "even"])
    plain = tmp_path / "plain"
    plain.mkdir()
    Image.new("L", (8, 8)).save(plain / "a.png")
    for make, said in (
        (lambda: WithGenerated(real, []), "must name something"),
        (lambda: WithGenerated(real, [drawn, drawn]), "nothing twice"),
        (lambda: WithGenerated(real, copies=0), "copies: 0 is not above 0"),
        (lambda: values(WithGenerated(real, [drawn], copies=3)), r"are 108, and .*drawn holds 100"),
        (lambda: values(WithGenerated(real, [other])), r"are \['odd', 'even'\] and those of real \['even', 'odd'\]"),
        (lambda: values(WithGenerated(real, [str(plain)])), "has no ClassLabel column"),
        (lambda: ImageClasses(WithGenerated(real, [drawn]), validation_split=0.2), "training rows .* do not validate"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            make()
        assert "\n" not in str(caught.value)
