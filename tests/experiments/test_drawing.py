"""The verb `figure`: every figure that needs no run, the gallery, and mistakes in one line."""

import json
import re
from importlib import import_module

import pytest
from PIL import Image

from experiments.__main__ import main
from experiments.catalogue import entries

FIGURES = entries("figure")
COMPUTED = [entry for entry in FIGURES if not getattr(import_module(f"experiments.figures.{entry.name}"), "RUNS", {})]


@pytest.mark.parametrize("entry", COMPUTED, ids=lambda entry: entry.name)
def test_figures_without_runs(entry, tmp_path, capsys):
    assert main(["figure", entry.name, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / f"{entry.name}.png")
    picture = Image.open(tmp_path / f"{entry.name}.png")
    assert picture.width > 800 and len(picture.convert("RGB").getcolors(10**7) or []) > 50, "nearly empty"
    assert (tmp_path / f"{entry.name}.svg").read_text().startswith("<?xml")
    about = json.loads((tmp_path / f"{entry.name}.json").read_text())
    assert about["runs"] == {} and about["numbers"] and re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"])


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)
def test_every_figure_says_what_it_shows(entry):
    assert len(entry.summary) > 20
    module = import_module(f"experiments.figures.{entry.name}")
    experiments = {one.name for one in entries("experiment")} | {f"sweep:{one.name}" for one in entries("sweep")}
    assert callable(module.draw) and set(getattr(module, "RUNS", {}).values()) <= experiments


def test_the_gallery(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.drawing.entries", lambda kind: COMPUTED[:2])
    assert main(["figure", "all", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    for entry in COMPUTED[:2]:
        assert f'src="{entry.name}.png"' in page and f'href="{entry.name}.json"' in page
    assert capsys.readouterr().out.strip().endswith("index.html")


@pytest.mark.parametrize("arguments, says", [
    (["scene"], "nearest: scenes, scene_maps"),
    (["scenes", "--run", "model"], "write KEY=RUN"),
    (["scenes", "--run", "model=x"], "scenes draws from no such run (its keys: none)"),
    (["all", "--run", "model=x"], "not with all"),
    (["scenes", "--outt", "x"], "nearest: --out"),
])
def test_mistakes_are_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["figure", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
