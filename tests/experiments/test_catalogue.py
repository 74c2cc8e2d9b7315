import pytest

from experiments.catalogue import Entry, Mistake, entries, find, nearest, read_yaml


def test_everything_listed_is_described_and_found():
    for kind in ("experiment", "data set", "sweep"):
        assert entries(kind)
        for entry in entries(kind):
            assert entry.summary, entry.path
            assert find(kind, entry.name) == entry.path
    assert "defaults" not in [entry.name for entry in entries("experiment")]


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: x\n")
    assert find("experiment", str(path)) == path
    with pytest.raises(Mistake, match="no such file"):
        find("experiment", str(tmp_path / "other.yaml"))


def test_nearest():
    assert nearest("mnits", ["digits", "mnist"]).startswith("nearest: mnist")
    assert nearest("zzz", ["b", "a"]) == "there are: a, b"
    assert nearest("zzz", []) == "there is none"


def test_summary_of_a_figure_is_its_docstring(tmp_path):
    (tmp_path / "f.py").write_text('"""The noising strip.\n\nMore."""\n')
    assert Entry("f", tmp_path / "f.py").summary == "The noising strip."


@pytest.mark.parametrize("text", ["a: [", "- 1", "3", "", "a: !!python/object/apply:os.system ['true']"])
def test_what_is_not_a_mapping_is_refused(text, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(Mistake, match=r"x\.yaml"):
        read_yaml(tmp_path / "x.yaml")
