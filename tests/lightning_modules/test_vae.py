import math

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.distributions import MultivariateNormal
from torch.utils.data import DataLoader

from lightning_modules.losses.likelihoods import LEVEL, Bernoulli, DiscretisedLogistic, Gaussian
from lightning_modules.networks.autoencoder import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from lightning_modules.vae import VAE, ConditionalVAE

PAIRS = [(MLPEncoder, MLPDecoder), (ConvEncoder, ConvDecoder)]


def vae(pair=PAIRS[0], likelihood=None, num_classes=None, size=6, channels=1, **arguments):
    torch.manual_seed(0)
    likelihood = likelihood or Bernoulli()
    shape = {"channels": channels, "image_size": size, "num_classes": num_classes, "latent_dim": 3, "width": 8}
    decoder = pair[1](**shape, parameters_per_channel=likelihood.parameters_per_channel)
    return (ConditionalVAE if num_classes else VAE)(pair[0](**shape), decoder, likelihood, **arguments)


def batch_of(num: int, size: int = 6, channels: int = 1) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {"image": torch.rand(num, channels, size, size, generator=generator) * 2 - 1, "label": torch.arange(num) % 3}


def seeds(num: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + index) for index in range(num)]


# A model whose likelihood is known --------------------------------------------------------------------------------------


class LinearDecoder(nn.Module):
    """x = weight z + offset, so that x ~ N(offset, weight weight^T + scale^2 I) under a Gaussian likelihood."""

    num_classes, latent_dim, parameters_per_channel = None, 2, 1

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.4 * torch.randn(4, 2, generator=generator, dtype=torch.float64))
        self.offset = nn.Parameter(0.1 * torch.randn(4, generator=generator, dtype=torch.float64))

    def forward(self, z):
        return (z @ self.weight.T + self.offset).view(-1, 1, 2, 2)


class LinearEncoder(nn.Module):
    """The exact posterior, where its covariance is diagonal; `error` is added to mu and to logvar."""

    num_classes, latent_dim = None, 2

    def __init__(self, decoder: LinearDecoder, scale: float, error: float) -> None:
        super().__init__()
        precision = torch.eye(2, dtype=torch.float64) + decoder.weight.T @ decoder.weight / scale**2
        self.covariance, self.decoder, self.scale, self.error = precision.inverse().detach(), decoder, scale, error

    def forward(self, image):
        mu = (image.flatten(1) - self.decoder.offset) @ self.decoder.weight @ self.covariance / self.scale**2
        return mu + self.error, self.covariance.diagonal().log().expand_as(mu) + self.error


class Unnoised(Gaussian):
    """Explains the image itself, not a draw within its level."""

    def observe(self, image, uniform):
        return image


def linear_gaussian(error: float) -> VAE:
    decoder, scale = LinearDecoder(), 0.5
    decoder.weight.data = torch.linalg.svd(decoder.weight.data, full_matrices=False)[0] * torch.tensor([0.9, 0.4]).double()
    return VAE(LinearEncoder(decoder, scale, error), decoder, Unnoised(scale)).double()


def exact(model: VAE, image: torch.Tensor) -> torch.Tensor:
    """log p(x) of 8-bit images, [B]: the density, times the volume of a level for each of 4 pixels."""
    weight, scale = model.decoder.weight.detach(), model.likelihood.log_scale.exp().item()
    covariance = weight @ weight.T + scale**2 * torch.eye(4, dtype=torch.float64)
    return MultivariateNormal(model.decoder.offset.detach(), covariance).log_prob(image.flatten(1)) + 4 * math.log(LEVEL)


def test_with_the_exact_posterior_the_bound_is_the_likelihood():
    model, images = linear_gaussian(error=0.0), batch_of(5, size=2)["image"].double()
    for num_samples in (1, 7):
        bound = model.log_likelihood_bound({"image": images}, num_samples=num_samples, generator=seeds(5))
        torch.testing.assert_close(bound, exact(model, images), rtol=1e-6, atol=1e-5)
    nll, kl = model.nll_and_kl({"image": images.repeat(20_000, 1, 1, 1)}, torch.Generator().manual_seed(0))
    assert (nll + kl).mean().item() == pytest.approx(-exact(model, images).mean().item(), abs=0.02)


def test_the_bound_lies_below_the_likelihood_and_rises_with_the_number_of_samples():
    model, images = linear_gaussian(error=0.7), batch_of(3, size=2)["image"].double()
    many = {"image": images.repeat(4000, 1, 1, 1)}
    truth = exact(model, images).mean().item()
    bounds = [model.log_likelihood_bound(many, num_samples=num, generator=torch.Generator().manual_seed(num)).mean().item()
              for num in (1, 2, 8, 64)]
    assert bounds == sorted(bounds)
    assert bounds[0] < truth - 0.2
    assert truth - 0.05 < bounds[-1] < truth
    losses = model.losses(many)
    assert -losses["bound"].item() == pytest.approx(bounds[0], abs=0.1)


# The loss ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=["mlp", "conv"])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_losses_equal_a_slow_loop(pair, num_classes):
    model, batch = vae(pair, num_classes=num_classes, beta=2.0, warmup_steps=4), batch_of(5)
    model.steps += 3
    torch.manual_seed(7)
    losses = model.losses(batch)

    torch.manual_seed(7)
    uniform, eps = torch.rand(5, 1, 6, 6), torch.randn(5, 3)
    total = dict.fromkeys(losses, 0.0)
    for i in range(5):
        x = (uniform[i:i + 1] < (batch["image"][i:i + 1] + 1) / 2).float() * 2 - 1
        given = [] if num_classes is None else [torch.eye(3)[i % 3][None]]
        mu, logvar = model.encoder(x, *given)
        p = model.decoder(mu + (logvar / 2).exp() * eps[i], *given).sigmoid()
        nll = -torch.where(x > 0, p, 1 - p).log().sum().item()
        kl = sum((m**2 + math.exp(v) - 1 - v) / 2 for m, v in zip(mu[0].tolist(), logvar[0].tolist(), strict=True))
        for name, value in (("nll", nll), ("kl", kl), ("bound", nll + kl), ("loss", nll + 2.0 * 0.75 * kl)):
            total[name] += value / 5
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(total, rel=1e-4)


def fitted(model, steps: int, validate: bool = True, **arguments):
    rows = batch_of(12)
    loader = DataLoader([{"image": image, "label": label} for image, label in zip(rows["image"], rows["label"], strict=True)],
                        batch_size=4, generator=torch.Generator())
    trainer = Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=None if validate else 0, **arguments)
    torch.manual_seed(3)
    trainer.fit(model, loader, loader)
    return trainer


def test_warm_up_counts_training_steps_and_is_resumed():
    model = vae(warmup_steps=8)
    trainer = fitted(model, 6)
    assert model.steps == 6, "validation takes no steps"
    values = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert values["val/loss"] < values["val/bound"]
    again = vae(warmup_steps=8)
    again.load_state_dict(model.state_dict())
    assert again.steps == 6


def test_validation_does_not_move_the_generator_of_training():
    seen, unseen = vae(), vae()
    fitted(seen, 5)
    fitted(unseen, 5, validate=False)
    for one, other in zip(seen.parameters(), unseen.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("pair", PAIRS, ids=["mlp", "conv"])
def test_a_conditional_model_learns_what_the_label_says(pair):
    """White images of label 1, black ones of label 0: nothing is left for the latent, and the label decides the sample."""
    label = torch.arange(32) % 2
    images = (2.0 * label - 1).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)
    model = vae(pair, num_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        model.losses({"image": images, "label": label})["loss"].backward()
        optimizer.step()
    losses = model.losses({"image": images, "label": label})
    assert losses["bound"] < 3 < 36 * math.log(2)
    drawn = model.sample({"label": label}, generator=seeds(32))
    assert (drawn * images).mean() > 0.9
    assert (model.reconstruct(images, label) * images).mean() > 0.9
    assert (model.reconstruct(images, 1 - label) * images).mean() < 0


# Asking it --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS, ids=["mlp", "conv"])
@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), DiscretisedLogistic()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(("size", "channels"), [(6, 1), (7, 3), (16, 1)])
def test_shapes(pair, likelihood, size, channels):
    model, batch = vae(pair, likelihood, num_classes=3, size=size, channels=channels), batch_of(5, size, channels)
    mu, logvar = model.encode(batch["image"], batch["label"])
    assert mu.shape == logvar.shape == (5, 3)
    for images in (model.sample(batch), model.reconstruct(batch["image"], batch["label"])):
        assert images.shape == batch["image"].shape
        assert images.min() >= -1 and images.max() <= 1
    assert torch.isfinite(model.losses(batch)["loss"])
    assert model.log_likelihood_bound(batch, num_samples=3).shape == (5,)


def test_an_image_is_the_same_in_any_batch():
    model, batch = vae(num_classes=3), batch_of(5)
    whole = model.sample(batch, generator=seeds(5))
    last = {name: values[3:] for name, values in batch.items()}
    torch.testing.assert_close(model.sample(last, generator=seeds(2, first=3)), whole[3:])
    bound = model.log_likelihood_bound(batch, num_samples=4, generator=seeds(5))
    torch.testing.assert_close(model.log_likelihood_bound(last, num_samples=4, generator=seeds(2, first=3)), bound[3:])


def test_bits_are_nats_per_dimension():
    model, batch = vae(likelihood=DiscretisedLogistic()), batch_of(5)
    bits = model.bits_by_term(batch, num_terms=1, generator=seeds(5))
    nll, kl = model.nll_and_kl(batch, seeds(5))
    torch.testing.assert_close(bits, {"decoder": nll.detach() / 36 / math.log(2), "prior": kl.detach() / 36 / math.log(2)})
    with pytest.raises(ValueError, match="2 levels"):
        vae().bits_by_term(batch, num_terms=1)


def test_parts_that_do_not_go_together_are_refused():
    small = {"image_size": 6, "width": 8}
    with pytest.raises(ValueError, match=r"encoder\.latent_dim 3, decoder\.latent_dim 4"):
        VAE(MLPEncoder(latent_dim=3, **small), MLPDecoder(latent_dim=4, **small))
    with pytest.raises(ValueError, match="parameters_per_channel 1: DiscretisedLogistic takes 2"):
        VAE(MLPEncoder(**small), MLPDecoder(**small), DiscretisedLogistic())
    with pytest.raises(ValueError, match=r"encoder\.num_classes 10: a VAE knows no label"):
        VAE(MLPEncoder(num_classes=10, **small), MLPDecoder(**small))
    with pytest.raises(ValueError, match=r"decoder\.num_classes None: a ConditionalVAE is told the label"):
        ConditionalVAE(MLPEncoder(num_classes=10, **small), MLPDecoder(**small))
