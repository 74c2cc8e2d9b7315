import numpy as np
import pytest
import torch
from torch.nn import functional as F

from datamodules.scenes.dataset import Scenes
from datamodules.scenes.wording import VOCABULARY
from lightning_modules.networks.object_grid import ObjectGrid
from lightning_modules.scene_reader import REACH, SceneReader

NAMES = {name: list(words) for name, words in VOCABULARY.items()}


def batch_of(num: int, size: int = 32):
    rows = list(Scenes().rows("train", np.arange(num), size))
    attributes = torch.full((num, 3, len(NAMES)), -1)
    centre = torch.zeros(num, 3, 2)
    for row, content in enumerate(rows):
        for number, thing in enumerate(content["objects"]):
            attributes[row, number] = torch.tensor([thing[name] for name in NAMES])
            centre[row, number] = torch.tensor(thing["centre"])
    torch.manual_seed(0)
    return {"image": torch.rand(num, 3, size, size) * 2 - 1, "attributes": attributes, "centre": centre}, rows


def exact(batch, reader: SceneReader):
    """What a perfect network would put out, by a slow loop over cells; and the cells that answer."""
    num, cells = len(batch["image"]), reader.network.cells
    objectness = torch.full((num, cells, cells), -20.0)
    offset = torch.zeros(num, 2, cells, cells)
    logits = {name: torch.zeros(num, len(words), cells, cells) for name, words in NAMES.items()}
    for row in range(num):
        for number in range(3):
            if batch["attributes"][row, number, 0] < 0:
                continue
            x, y = (batch["centre"][row, number] * cells).tolist()
            for down in range(cells):
                for right in range(cells):
                    if (away := np.hypot(x - right - 0.5, y - down - 0.5)) < REACH:
                        objectness[row, down, right] = 10 - away
                        offset[row, :, down, right] = torch.tensor([x - right - 0.5, y - down - 0.5])
                        for place, name in enumerate(NAMES):
                            logits[name][row, batch["attributes"][row, number, place], down, right] = 30.0
    return objectness, offset, logits


class Fixed(torch.nn.Module):
    """A network whose output is given."""

    def __init__(self, output, cells: int = 8) -> None:
        super().__init__()
        self.output, self.cells, self.image_size, self.attributes = output, cells, 32, NAMES

    def forward(self, images):
        return self.output


def test_every_scene_is_read_back_from_a_perfect_output():
    batch, rows = batch_of(2000)
    reader = SceneReader(ObjectGrid(NAMES)).eval()
    reader.network = Fixed(exact(batch, reader))
    losses = reader.losses(batch)
    assert losses["loss"] < 0.02, "the targets are those of the slow loop"
    for row, found in zip(rows, reader.read(batch["image"]), strict=True):
        assert len(found) == len(row["objects"]), "one object for each middle, none twice"
        for thing in row["objects"]:
            nearest = min(found, key=lambda one: np.hypot(one["x"] - thing["centre"][0], one["y"] - thing["centre"][1]))
            assert np.hypot(nearest["x"] - thing["centre"][0], nearest["y"] - thing["centre"][1]) < 1e-5
            assert all(nearest[name] == NAMES[name][thing[name]] for name in NAMES)


def test_losses_against_a_slow_loop():
    batch, _ = batch_of(6)
    torch.manual_seed(1)
    reader = SceneReader(ObjectGrid(NAMES, width=8)).eval()
    objectness, offset, logits = reader.network(batch["image"])
    true_objectness, true_offset, true_logits = exact(batch, reader)
    answers = true_objectness > 0
    found = F.binary_cross_entropy_with_logits(objectness, answers.float(), reduction="sum") / 6
    placed, wrong = [], {name: [] for name in NAMES}
    for row, down, right in answers.nonzero().tolist():
        placed.append((offset[row, :, down, right] - true_offset[row, :, down, right]).abs().mean())
        for name in NAMES:
            target = true_logits[name][row, :, down, right].argmax()
            wrong[name].append(-logits[name][row, :, down, right].log_softmax(0)[target])
    losses = reader.losses(batch)
    torch.testing.assert_close(losses["found"], found)
    torch.testing.assert_close(losses["placed"], torch.stack(placed).mean())
    for name in NAMES:
        torch.testing.assert_close(losses[name], torch.stack(wrong[name]).mean())
    total = sum(losses[name] for name in ("found", "placed", *NAMES))
    torch.testing.assert_close(losses["loss"], total)


def test_an_empty_picture_is_no_error():
    batch, _ = batch_of(2)
    batch["attributes"][:] = -1
    reader = SceneReader(ObjectGrid(NAMES, width=8)).eval()
    logits = {name: torch.zeros(2, len(words), 8, 8) for name, words in NAMES.items()}
    reader.network = Fixed((torch.full((2, 8, 8), -9.0), torch.zeros(2, 2, 8, 8), logits))
    assert reader.read(batch["image"]) == [[], []]
    assert reader.losses(batch)["loss"] == reader.losses(batch)["found"]


@pytest.mark.parametrize("size, cells", [(16, 8), (32, 8), (64, 8), (64, 16)])
def test_any_size_that_halves_to_the_grid(size, cells):
    network = ObjectGrid(NAMES, image_size=size, cells=cells, width=8, depth=1)
    objectness, offset, logits = network(torch.zeros(2, 3, size, size))
    assert objectness.shape == (2, cells, cells) and offset.shape == (2, 2, cells, cells)
    assert {name: logit.shape[1] for name, logit in logits.items()} == {name: len(words) for name, words in NAMES.items()}
    reader = SceneReader(network).eval()
    assert len(reader.read(torch.zeros(2, 3, 128, 128))) == 2
    assert reader.features(torch.zeros(2, 3, size, size)).shape == (2, network.dim)


def test_other_sizes_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"image_size 28: a grid of 8 cells takes 8 times 2, 4, 8"):
        ObjectGrid(NAMES, image_size=28)


def test_learns_to_read():
    torch.manual_seed(0)
    batch, _ = batch_of(32)
    batch["image"] = torch.from_numpy(np.stack(_pixels(32))).permute(0, 3, 1, 2) / 127.5 - 1
    reader = SceneReader(ObjectGrid(NAMES, width=16, depth=1))
    optimizer = torch.optim.AdamW(reader.parameters(), 5e-3)
    first = reader.losses(batch)["loss"].item()
    for _ in range(40):
        optimizer.zero_grad()
        loss = reader.losses(batch)["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


def _pixels(num: int):
    from io import BytesIO

    from PIL import Image

    return [np.asarray(Image.open(BytesIO(row["image"]["bytes"])), dtype=np.float32)
            for row in Scenes().rows("train", np.arange(num), 32)]
