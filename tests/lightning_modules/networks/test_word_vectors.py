"""Vectors of class names from a folder of safetensors and from a text file."""

import pytest
import torch
from safetensors.torch import save_file

from lightning_modules.networks.word_vectors import WordVectors

WORDS = ["boot", "dog", "ankle", "t-shirt"]
VECTORS = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [-1.0, 0.0]])


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "vectors"
    place.mkdir()
    save_file({"vectors": VECTORS.half()}, place / "vectors.safetensors")
    (place / "words.txt").write_text("\n".join(WORDS) + "\n")
    return place


def test_unit_vectors_in_the_order_of_the_classes(folder):
    words = WordVectors(str(folder), ["Dog", "ankle boot", "t-shirt"])
    both = torch.tensor([4.0, 4.0])
    torch.testing.assert_close(words(), torch.stack([torch.tensor([0.0, 1.0]), both / both.norm(), torch.tensor([-1.0, 0.0])]))
    assert not list(words.parameters()) and list(words.state_dict()) == ["vectors"]


def test_a_text_file_gives_the_same(folder, tmp_path):
    file = tmp_path / "glove.2d.txt"
    file.write_text("".join(f"{word} {vector[0]} {vector[1]}\n" for word, vector in zip(WORDS, VECTORS.tolist(), strict=True)))
    names = ["dog", "ankle boot"]
    torch.testing.assert_close(WordVectors(str(file), names)(), WordVectors(str(folder), names)())


def test_found_in_the_folder_of_weights(folder, monkeypatch):
    monkeypatch.setenv("PRACTICUM_WEIGHTS", str(folder.parent))
    assert WordVectors("vectors", ["dog"])().shape == (1, 2)


def test_mistakes_are_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("PRACTICUM_WEIGHTS", raising=False)
    with pytest.raises(ValueError, match="not here, and PRACTICUM_WEIGHTS is not set; set") as absent:
        WordVectors("no_such_vectors", ["dog"])
    monkeypatch.setenv("PRACTICUM_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="neither here nor in PRACTICUM_WEIGHTS=") as elsewhere:
        WordVectors("no_such_vectors", ["dog"])
    with pytest.raises(ValueError, match="no vector of 'cat', of the class 'dog cat'") as unknown:
        WordVectors(str(folder), ["dog cat"])
    (folder / "words.txt").write_text("boot\n")
    with pytest.raises(ValueError, match="1 words and 4 vectors") as unequal:
        WordVectors(str(folder), ["boot"])
    (folder / "words.txt").unlink()
    with pytest.raises(ValueError, match=r"holds no words\.txt") as empty:
        WordVectors(str(folder), ["boot"])
    assert not any("\n" in str(caught.value) for caught in (absent, elsewhere, unknown, unequal, empty))
