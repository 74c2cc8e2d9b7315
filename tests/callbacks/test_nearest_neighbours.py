import numpy as np
import pytest
import torch

from callbacks.media import GUTTER, to_float, to_uint8
from callbacks.nearest_neighbours import NearestNeighbours, neighbours
from tests.callbacks.test_fid import Pooled
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICUM_CACHE", str(tmp_path))


def validate(callback, model=None, stage="validate", times=1):
    record = Record()
    run = trainer([callback], logger=record)
    for _ in range(times):
        getattr(run, stage)(model or TinyModel(), datamodule=TinyData(), verbose=False)
    return record


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_neighbours_one_by_one(dtype):
    generator = torch.Generator().manual_seed(0)
    points, training = (torch.randint(0, 256, (num, 9), generator=generator).to(dtype) for num in (40, 70))
    for chunk in (16, 4096):
        found = neighbours(points, training, chunk=chunk)
        for i, point in enumerate(points.double()):
            distances = (training.double() - point).norm(dim=1)
            nearest = int(distances.argmin())
            assert found.nearest[i] == nearest and found.distance[i].item() == pytest.approx(distances[nearest].item())
            others = (training.double() - training[nearest].double()).norm(dim=1)
            others[nearest] = torch.inf
            assert found.second[i] == others.argmin() and found.apart[i].item() == pytest.approx(others.min().item())
            assert found.memorised[i] == (distances.min() < others.min())


def test_a_copy_of_an_image_that_stands_twice_in_the_training_data_is_memorised():
    training = torch.tensor([[0.0], [0.0], [9.0]])
    found = neighbours(torch.tensor([[0.0], [1.0], [7.0]]), training)
    assert found.distance.tolist() == [0, 1, 2] and found.apart.tolist() == [0, 0, 9]
    assert found.memorised.tolist() == [True, False, True]
    assert found.ratio.argsort().tolist() == [0, 2, 1]


class Copying(TinyModel):
    """Draws training images, each moved by `noise` grey levels."""

    def __init__(self, noise: int = 0, share: float = 1.0) -> None:
        super().__init__()
        self.noise, self.share = noise, share

    def sample(self, batch, *, generator=None, **arguments):
        images = super().sample(batch, generator=generator)
        data = TinyData().images("train").astype(int)
        for i, one in enumerate(generator):
            if one.initial_seed() < self.share * 100:
                images[i] = to_float((data[one.initial_seed()] + self.noise).clip(0, 255).astype(np.uint8))
        return images


@pytest.mark.parametrize("extractor, ending", [(None, ""), (Pooled(), "_pooled")])
def test_copies_are_memorised_and_fresh_draws_are_like_held_out_images(extractor, ending):
    def measure(model):
        metrics = validate(NearestNeighbours(extractor, num_generated=100), model).metrics[0][1]
        return metrics[f"val/memorised{ending}"], metrics[f"val/real_floor_memorised{ending}"]

    assert measure(Copying())[0] == measure(Copying(noise=1))[0] == 1.0
    fresh, floor = measure(TinyModel())
    assert 0.02 < floor < 0.9 and fresh == pytest.approx(floor, abs=0.15)
    assert measure(Copying(share=0.5))[0] == pytest.approx(0.5 + fresh / 2, abs=0.1)
    # samples without noise are the mean of their class, and near to everything
    assert measure(TinyModel(spread=0.0))[0] == 1.0


def test_the_baseline_is_of_held_out_images_and_the_table_has_both():
    record = validate(NearestNeighbours(num_generated=100), times=2)
    assert len(record.values("val/memorised")) == 2 and len(record.values("val/real_floor_memorised")) == 1
    data = TinyData()
    order = np.random.default_rng(0).permutation(200)[:100]
    real = torch.from_numpy(data.images("validation")[order]).flatten(1)
    expected = neighbours(real, torch.from_numpy(data.images("train")).flatten(1))
    columns, rows = record.tables["val/memorised_by_source"][1]
    assert columns == ["images", "share", "low", "high", "mean distance", "num_images"]
    assert [(row[0], row[-1]) for row in rows] == [("samples", 100), ("held-out real images", 100)]
    share = expected.memorised.double().mean().item()
    assert rows[1][1] == pytest.approx(share) == pytest.approx(record.values("val/real_floor_memorised")[0][1])
    assert rows[1][4] == pytest.approx(expected.distance.mean().item())
    assert rows[0][2] < rows[0][1] < rows[0][3]


def test_the_picture_shows_the_most_suspicious_first():
    model = Copying(noise=1, share=0.03)  # the samples 0, 1 and 2 are nearly copies
    record = validate(NearestNeighbours(num_generated=60, num_shown=13), model)
    ((key, picture, caption),) = record.images
    shown, cell = np.asarray(picture), 8 * 8 + 6
    assert key == "val/nearest_neighbours" and shown.shape[:2] == (2 * (3 * cell + 6) + 12, 10 * cell + 6)

    def tile(row, column):
        top = row * cell + 6 + row // 3 * 18
        part = shown[top : top + 64, column * cell + 6 : (column + 1) * cell]
        return torch.from_numpy(part[::8, ::8, 0].astype(np.int64))

    training = torch.from_numpy(TinyData().images("train")[:, 0].astype(np.int64))
    assert sorted(i for column in range(3) for i in range(3) if torch.equal(tile(1, column), training[i])) == [0, 1, 2]
    for column in range(3):
        assert torch.equal(tile(0, column), (tile(1, column) + 1).clamp(max=255))
        others = (training - tile(1, column)).double().flatten(1).norm(dim=1)
        assert torch.equal(tile(2, column), training[others.argsort()[1]])
    assert (tile(5, 2) != GUTTER).any() and (tile(5, 3) == GUTTER).all()  # 13 = 10 + 3, the rest is blank
    assert (tile(3, 0) != GUTTER).any()
    assert caption.startswith("step 0; rows in threes: sample, nearest training image, nearest other training image")


def test_a_part_of_the_training_images_and_what_it_is():
    (about,) = validate(NearestNeighbours(Pooled(), 40, num_train=50), times=2).about["val/memorised_pooled"]
    assert about == about | {
        "num_generated": 40,
        "num_train": 50,
        "num_real": 40,
        "space": "features",
        "extractor": "pooled",
        "split": "validation",
        "weights": "raw",
        "sampler": "closed form",
        "noise_seed": 0,
    }
    record = validate(NearestNeighbours(num_generated=20), stage="test")
    (about,) = record.about["test/memorised"]
    assert (about["space"], about["num_train"], about["split"]) == ("pixels, 0 to 255", 200, "test")
    assert "extractor" not in about and "test/real_floor_memorised" in record.metrics[0][1]


def test_more_training_features_than_one_part(monkeypatch):
    from callbacks import fid

    whole = validate(NearestNeighbours(Pooled(), 50)).values("val/memorised_pooled")
    monkeypatch.setattr(fid, "MAX_FEATURES", 66)
    monkeypatch.setenv("PRACTICUM_CACHE", fid.cache_folder().as_posix() + "/parts")
    assert validate(NearestNeighbours(Pooled(), 50)).values("val/memorised_pooled") == whole
    # 200 training images in 4 parts, the last of more than two, and the 50 held-out ones
    assert len(list((fid.cache_folder() / "features").iterdir())) == 5


def test_the_batch_size_says_nothing():
    one, other = (
        validate(NearestNeighbours(num_generated=30, batch_size=size)).values("val/memorised") for size in (7, 30)
    )
    assert one == other
    assert to_uint8(to_float(np.arange(256, dtype=np.uint8))).tolist() == list(range(256))  # pixels there and back


def test_mistakes_are_one_line():
    for arguments, said in (
        ({"num_shown": 0}, "0 of 1000 samples cannot be shown"),
        ({"num_generated": 5}, "10 of 5 samples cannot be shown"),
        ({"num_generated": 1, "num_shown": 1}, "num_generated 1 is too few"),
        ({"num_train": 1}, "num_train 1 is too few; leave it out for all images"),
        ({"split": "train"}, "split train is what is looked among; take validation or test"),
    ):
        with pytest.raises(ValueError, match=said):
            NearestNeighbours(**arguments)

    class Broken(TinyModel):
        def sample(self, batch, **arguments):
            return super().sample(batch, **arguments) * 3

    with pytest.raises(ValueError, match=r"the images of Broken\.sample cannot be compared: values reach from"):
        validate(NearestNeighbours(num_generated=20), Broken())
