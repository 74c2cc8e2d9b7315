"""Nats per image, the label probe and reconstructions, each in a real Trainer."""

import numpy as np
import pytest
import torch

from callbacks.latent_probe import LatentProbe
from callbacks.nats_per_image import NatsPerImage
from callbacks.reconstruction_grid import ReconstructionGrid
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


class Latent(TinyModel):
    """Its latent is the means of the quadrants, which tell the label, or (`leaky` = False) the mean and a constant."""

    def __init__(self, leaky: bool = True, bound: float = -3.0) -> None:
        super().__init__()
        self.leaky, self.bound = leaky, bound

    def encode(self, images, label=None):
        quadrants = self.classify(images)
        mu = quadrants if self.leaky else torch.cat([quadrants.mean(1, keepdim=True), torch.ones(len(images), 1)], 1)
        return mu, torch.zeros_like(mu)

    def reconstruct(self, images, label=None):
        return -images

    def log_likelihood_bound(self, batch, *, num_samples, generator=None):
        noise = torch.stack([torch.randn(num_samples, generator=one).sum() for one in generator])
        return self.bound + batch["image"].flatten(1).mean(1) + noise

    def likelihood_settings(self):
        return {"likelihood": "closed form", "levels": 256, "given_label": False}


def validate(callback, model=None, times: int = 1, stage: str = "validate"):
    record = Record()
    run = trainer([callback], logger=record)
    for _ in range(times):
        getattr(run, stage)(model or Latent(), datamodule=TinyData(), verbose=False)
    return record


def test_nats_are_the_mean_of_the_bound_whatever_the_batch_size():
    values = [validate(NatsPerImage(num_images=50, num_samples=3, batch_size=size)).values("val/nats_per_image")[0][1]
              for size in (7, 50)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    order = np.random.default_rng(0).permutation(200)[:50]
    pixels = TinyData().images("validation")[order].reshape(50, -1).mean(1) / 127.5 - 1
    noise = [torch.randn(3, generator=torch.Generator().manual_seed(index)).sum().item() for index in range(50)]
    assert values[0] == pytest.approx(3.0 - pixels.mean() - np.mean(noise), rel=1e-4)


def test_nats_say_what_they_are():
    record = validate(NatsPerImage(num_images=500, num_samples=2), times=2)
    assert len(record.about["val/nats_per_image"]) == 1
    about = record.about["val/nats_per_image"][0]
    assert about | {"num_images": 200, "num_importance_samples": 2, "levels": 2 ** 8, "given_label": False, "split": "validation",
                    "weights": "raw"} == about
    assert validate(NatsPerImage(), stage="test").about["test/nats_per_image"][0]["split"] == "test"


def test_a_bound_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="the bound of Latent is nan"):
        validate(NatsPerImage(), Latent(bound=float("nan")))


def test_probe_tells_the_label_from_a_latent_that_holds_it_and_only_then():
    told = validate(LatentProbe(num_train=150, num_images=120, batch_size=33))
    assert told.values("val/label_probe")[0][1] == 1
    about = told.about["val/label_probe"][0]
    assert about | {"num_images": 120, "num_train": 150, "latent_dim": 4, "split": "validation"} == about
    assert 0.25 <= about["chance"] < 0.35
    assert validate(LatentProbe(), Latent(leaky=False)).values("val/label_probe")[0][1] < 0.4


def test_probe_does_not_move_the_random_state():
    model, run = Latent(), trainer([LatentProbe()], logger=Record())
    torch.manual_seed(5)
    np.random.seed(5)  # the state that scikit-learn would draw from
    expected = torch.randn(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    run.validate(model, datamodule=TinyData(), verbose=False)
    assert torch.equal(torch.randn(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


def test_reconstructions_stand_below_their_images():
    record = validate(ReconstructionGrid(columns=4, rows=2))
    key, image, caption = record.images[0]
    pixels = np.asarray(image).astype(int)
    assert key == "val/reconstructions"
    assert "above" in caption
    assert pixels.shape == (4 * 70 + 6, 4 * 70 + 6, 3)
    top, below = pixels[6:70, 6:70], pixels[76:140, 6:70]
    assert np.abs(top + below - 255).max() <= 1
    assert not np.array_equal(pixels[6:70], pixels[146:210]), "other images in the second pair"


def test_what_a_model_must_offer_is_named():
    for callback, method in ((NatsPerImage(), "log_likelihood_bound"), (LatentProbe(), "encode"), (ReconstructionGrid(), "reconstruct")):
        with pytest.raises(ValueError, match=f"{method}.*which it has not"):
            validate(callback, TinyModel())


@pytest.mark.parametrize(
    "make", [lambda: NatsPerImage(num_samples=0), lambda: LatentProbe(num_train=1), lambda: ReconstructionGrid(rows=0)]
)
def test_mistakes(make):
    with pytest.raises(ValueError, match="take"):
        make()
