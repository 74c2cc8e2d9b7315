"""Objects with their classes and places: scenes, sets nobody here prepared, and what is no such set."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.image_objects import ImageObjects
from datamodules.scenes.dataset import Scenes
from datamodules.scenes.wording import VOCABULARY

KIND = datasets.ClassLabel(names=["cat", "dog"])


def ready(path: object, **arguments: object) -> ImageObjects:
    data = ImageObjects(path, **arguments)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def pets(folder: Path, fields: dict, rows: list[list[dict]], column: str = "objects") -> Path:
    features = datasets.Features({"image": datasets.Image(), column: datasets.List(fields)})
    pictures = [Image.fromarray(np.full((8, 8, 3), 10 * row, dtype=np.uint8)) for row in range(len(rows))]
    datasets.Dataset.from_dict({"image": pictures, column: rows}, features=features).to_parquet(folder / "pets.parquet")
    return folder


def test_scenes() -> None:
    source = Scenes(num_train=60, num_validation=20, num_test=20)
    data = ready(source, image_size=16, batch_size=60)
    assert data.facts() == {
        "channels": 3, "image_size": 16, "num_classes": 64, "attributes": {name: list(words) for name, words in VOCABULARY.items()},
    }  # fmt: skip
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    assert batch["attributes"].shape == (20, 3, 5) and batch["centre"].shape == (20, 3, 2) and batch["box"].shape == (20, 3, 4)
    scenes = source.describe("validation", np.arange(20))
    assert (batch["label"].numpy() == 8 * scenes.shape[:, 0] + scenes.colour[:, 0]).all()
    for row, objects in enumerate(data.objects("validation")):
        assert len(objects) == scenes.count[row] == (batch["attributes"][row, :, 0] >= 0).sum()
        for number, thing in enumerate(objects):
            words = [list(VOCABULARY[name])[batch["attributes"][row, number, place]] for place, name in enumerate(VOCABULARY)]
            assert words == [thing[name] for name in VOCABULARY]
            np.testing.assert_allclose([thing["x"], thing["y"]], scenes.pose[row, number, :2], atol=1e-6)
            np.testing.assert_allclose(thing["box"], batch["box"][row, number])
            np.testing.assert_allclose(batch["centre"][row, number], scenes.pose[row, number, :2], atol=1e-6)


def test_other_names_no_centre_and_several_numbers_of_objects(tmp_path: Path) -> None:
    rows = [[{"box": [0, 0, 0.5, 1], "kind": number % 2, "name": "x"} for number in range(row % 3)] for row in range(12)]
    fields = {"box": datasets.List(datasets.Value("float32")), "kind": KIND, "name": datasets.Value("string")}
    folder = pets(tmp_path, fields, rows, "pets")
    with pytest.raises(ValueError, match=r"has no objects column \(columns: image, pets\); name it with --data.columns"):
        ImageObjects(str(folder)).facts()
    data = ready(folder.as_posix(), columns={"objects": "pets"}, validation_split=0.5, batch_size=6)
    assert data.facts()["attributes"] == {"kind": ["cat", "dog"]}
    batch = next(iter(data.val_dataloader()))
    assert batch["attributes"].shape == (6, 2, 1)
    there = batch["attributes"][..., 0] >= 0
    assert (batch["centre"][there] == torch.tensor([0.25, 0.5])).all() and (batch["centre"][~there] == 0).all()


def test_mirrored_pictures_have_mirrored_places() -> None:
    data = ImageObjects(Scenes(num_train=4), image_size=16)
    image = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    batch = {
        "image": image.clone(), "flip": torch.tensor([False, True]), "attributes": torch.zeros(2, 1, 1, dtype=torch.int64),
        "centre": torch.tensor([[[0.2, 0.3]], [[0.2, 0.3]]]), "box": torch.tensor([[[0.1, 0.2, 0.4, 0.5]]] * 2),
    }  # fmt: skip
    moved = data.on_after_batch_transfer(batch, 0)
    torch.testing.assert_close(moved["centre"], torch.tensor([[[0.2, 0.3]], [[0.8, 0.3]]]))
    torch.testing.assert_close(moved["box"], torch.tensor([[[0.1, 0.2, 0.4, 0.5]], [[0.6, 0.2, 0.9, 0.5]]]))
    torch.testing.assert_close(moved["image"][1], image[1].flip(-1) / 127.5 - 1)


def test_what_is_no_column_of_objects(tmp_path: Path) -> None:
    folder = pets(tmp_path, {"kind": KIND}, [[{"kind": 0}]] * 10)
    with pytest.raises(ValueError, match=r"'objects' of .* is no list of structs with a box or a centre"):
        ImageObjects(str(folder)).facts()
