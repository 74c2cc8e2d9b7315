"""A data set that is made goes wherever a path goes: in YAML, on the command line, in names and errors."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import pytest
from PIL import Image

from datamodules import sources
from datamodules.image_classes import ImageClasses
from experiments import training
from experiments.catalogue import Mistake
from experiments.request import Request
from tests.datamodules.numbered import numbered


class Lazily(Mapping):
    """Makes a split when it is asked for, and remembers which."""

    def __init__(self, num: int, size: int) -> None:
        self.num, self.size, self.made = num, size, []

    def __getitem__(self, split: str) -> datasets.Dataset:
        if split not in self:
            raise KeyError(split)
        self.made.append(split)
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
        rows = {"image": [Image.new("L", (self.size,) * 2, row) for row in range(self.num)]}
        return datasets.Dataset.from_dict({**rows, "label": [row % 2 for row in range(self.num)]}, features=features)

    def __contains__(self, split: object) -> bool:
        return split in tuple(self)

    def __iter__(self) -> Iterator[str]:
        return iter(("train", "test", "held_out"))

    def __len__(self) -> int:
        return 3


class Tiny(sources.Source):
    title = "Tiny things"

    def __init__(self, num: int = 20, correlation: float = 0.5) -> None:
        self.num, self.correlation = num, correlation

    def load(self, image_size: int | None) -> Lazily:
        self.rows = Lazily(self.num, image_size or 6)
        return self.rows


def test_a_source_is_a_data_set_like_any_other() -> None:
    source = Tiny()
    data = ImageClasses(source)
    facts = {"channels": 1, "image_size": 6, "num_classes": 2, "class_names": data.class_names}
    assert data.facts() == facts and data.title == "tiny_things"
    assert set(source.rows.made) == {"train", "test"}  # held_out was not asked for
    data.prepare_data()
    assert len(data.fingerprint) == 16 and [len(data.images(split)) for split in ("train", "validation")] == [18, 2]
    larger = Tiny()
    assert ImageClasses(larger, image_size=9).facts()["image_size"] == 9 and larger.rows.size == 9  # drawn so
    held_out = ImageClasses(Tiny(), test_split="held_out")
    held_out.prepare_data()
    assert len(held_out.images("test")) == 20
    again = ImageClasses(Tiny())
    again.prepare_data()
    assert again.fingerprint == data.fingerprint


def test_mistakes_name_the_source() -> None:
    with pytest.raises(ValueError, match=r"train_split: Tiny things has no split 'trian', did you mean 'train'\? \(it"):
        ImageClasses(Tiny(), train_split="trian").facts()
    with pytest.raises(ValueError, match=r"columns: Tiny things has no column 'lable', did you mean 'label'\?"):
        ImageClasses(Tiny(), columns={"label": "lable"}).facts()


def test_a_built_in_name_can_be_a_source_that_is_imported_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.BUILT_IN, "tiny", lambda image_size: Tiny(12).load(image_size))
    assert len(sources.load("tiny", image_size=7)["train"]) == 12
    with pytest.raises(ValueError, match=r"give a folder, a Hub id or a built-in name \(.*tiny\)"):
        sources.load("./nowhere")


YAML = """# tiny
data:
  class_path: datamodules.image_classes.ImageClasses
  init_args:
    path: {class_path: tests.datamodules.test_source_objects.Tiny, init_args: {num: 30, correlation: 0.9}}
    image_size: 8
"""


def parsed(folder: Path, *flags: str) -> object:
    file = folder / "tiny.yaml"
    file.write_text(YAML)
    return training.parse_data(Request("classifier", data=str(file), flags=list(flags)))


def test_a_yaml_holds_a_source_and_flags_change_it(tmp_path: Path) -> None:
    assert parsed(tmp_path).init_args.path.init_args.as_dict() == {"num": 30, "correlation": 0.9}
    changed = parsed(tmp_path, "--data.path.correlation", "0.7", "--data.path.num", "12")
    assert changed.init_args.path.init_args.as_dict() == {"num": 12, "correlation": 0.7}
    facts = {"channels": 1, "image_size": 8, "num_classes": 2, "class_names": ["even", "odd"]}
    assert training.facts(changed) == facts
    with pytest.raises(Mistake, match=r"unknown key data.path.corelation; nearest: correlation"):
        parsed(tmp_path, "--data.path.corelation", "0.7")
    with pytest.raises(Mistake, match=r"data.path.correlation: expected float, found 'high'"):
        parsed(tmp_path, "--data.path.correlation", "high")


def test_a_path_takes_the_place_of_a_source_and_the_other_way_round(tmp_path: Path) -> None:
    folder = str(numbered(tmp_path / "set", 40))
    for path, classes in (("digits", 10), (folder, 2)):
        replaced = parsed(tmp_path, "--data.path", path)
        assert replaced.init_args.path == path and training.facts(replaced)["num_classes"] == classes
    flags = ["--data.path", "tests.datamodules.test_source_objects.Tiny", "--data.path.num", "7"]
    made = training.parse_data(Request("classifier", data="digits", flags=flags))
    assert made.init_args.path.init_args.num == 7


def test_the_whole_command_line_keeps_the_source_in_its_config(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(YAML)
    request = Request("classifier", data=str(tmp_path / "tiny.yaml"), flags=["--data.path.correlation", "0.6"])
    path = training.check(request)["data"]["init_args"]["path"]
    assert path["class_path"].endswith("Tiny") and path["init_args"] == {"num": 30, "correlation": 0.6}
