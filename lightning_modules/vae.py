"""Variational autoencoders (Kingma and Welling 2013, 1312.6114), plain and conditioned on a class (Sohn, Lee and Yan 2015).

Minimises E_{q(z | x, y)}[-log p(x | z, y)] + w KL(q(z | x, y) || N(0, I)), z = mu + exp(logvar / 2) eps; without y for the `VAE`. At
w = 1 that is an upper bound on -log p(x | y). Deviations: w is `beta`, and rises to it from 0 over the first steps; the prior of z
does not depend on y (the paper learns p(z | y)), so that what z says is what the label does not.
"""

import math
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.batch import Batch
from lightning_modules.base import Model, num_rows
from lightning_modules.diffusion.noise import Generators, rand, randn
from lightning_modules.losses.likelihoods import Bernoulli, Likelihood
from lightning_modules.losses.variational import importance_weighted_bound, kl_to_standard_normal, linear_warm_up, log_normal


class VAE(Model):
    """`encoder(image [B, C, H, W]) -> mu, logvar [B, D]`, `decoder(z [B, D]) -> [B, P*C, H, W]`, the parameters of `likelihood`.

    `beta` weighs the KL divergence; its weight rises from 0 to beta over the first `warmup_steps` steps.
    """

    conditional = False
    steps: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood = Bernoulli(), beta: float = 1.0,
                 warmup_steps: int = 0, optimizer: OptimizerCallable = torch.optim.Adam,
                 lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        self.encoder: Any = encoder
        self.decoder: Any = decoder
        self.likelihood, self.beta, self.warmup_steps = likelihood, beta, warmup_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))      # in the checkpoint: a resumed warm-up goes on
        self.check()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        self.steps += 1
        return loss

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        nll, kl = self.nll_and_kl(batch)                                                      # B, B
        weight = self.beta * linear_warm_up(int(self.steps), self.warmup_steps)
        return {"loss": (nll + weight * kl).mean(), "nll": nll.mean(), "kl": kl.mean(), "bound": (nll + kl).mean()}

    @torch.no_grad()
    def sample(self, batch: Batch, *, generator: Generators = None, num_steps: int | None = None, start: float = 1.0) -> Tensor:
        """The mean images of p(x | z) [B, C, H, W] in [-1, 1] for z of the prior, one for each row of `batch` (and of its label, if
        the model is conditional). `num_steps` and `start` mean nothing to a model of one step."""
        z = randn((num_rows(batch), self.decoder.latent_dim), generator, self.device)         # B D
        return self.decode(z, batch.get("label"))

    @torch.no_grad()
    def encode(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """mu and logvar [B, D] of q(z | x) of images [B, C, H, W] as they are."""
        return self.encoder(images, *self.condition(label))

    @torch.no_grad()
    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean images of p(x | z) [B, C, H, W] in [-1, 1] for latents [B, D]."""
        return self.likelihood.mean(self.decoder(z, *self.condition(label)))

    def reconstruct(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean images of p(x | mu) [B, C, H, W] for images of the same shape."""
        return self.decode(self.encode(images, label)[0], label)

    @torch.no_grad()
    def log_likelihood_bound(self, batch: Batch, *, num_samples: int, generator: Generators = None) -> Tensor:
        """The importance-weighted lower bound on log p(x) [B], in nats, from `num_samples` latents per image; 1 is the evidence bound.

        What a likelihood observes (binary images, for Bernoulli's) is drawn once per image, the same for any number of latents.
        """
        observation, condition, mu, logvar = self.posterior(batch, generator)                 # B C H W, ..., B D, B D
        eps = randn((len(mu), num_samples, *mu.shape[1:]), generator, mu.device)              # B K D
        log_weights = []
        for z in (mu[:, None] + (logvar[:, None] / 2).exp() * eps).unbind(1):                 # B D
            log_p = self.likelihood.log_prob(self.decoder(z, *condition), observation) + log_normal(z)
            log_weights.append(log_p - log_normal(z, mu, logvar))                             # B
        return importance_weighted_bound(torch.stack(log_weights))                            # K B -> B

    @torch.no_grad()
    def bits_by_term(self, batch: Batch, *, num_terms: int = 1, generator: Generators = None) -> dict[str, Tensor]:
        """The evidence bound in bits per dimension of the 8-bit image [B], by its parts, from one latent per image.

        It has no chain of terms: `num_terms` is not used. Raises ValueError for a likelihood of binary images.
        """
        if self.likelihood.levels != 256:
            raise ValueError(f"{type(self.likelihood).__name__} explains images of {self.likelihood.levels} levels, and bits per dimension "
                             "count 256: take callbacks.bits_per_dim out (callbacks.nats_per_image says its nats), or another likelihood")
        nll, kl = self.nll_and_kl(batch, generator)                                           # B, B
        return {name: nats / (batch["image"][0].numel() * math.log(2)) for name, nats in (("decoder", nll), ("prior", kl))}

    def sampling_settings(self) -> dict[str, Any]:
        """How `sample` draws, for the declaration that stands beside a metric."""
        return {"sampler": "mean of p(x|z)", "num_steps": 1, "conditional": self.conditional}

    def likelihood_settings(self) -> dict[str, Any]:
        """What the bound is of, for the declaration that stands beside it."""
        return {"likelihood": type(self.likelihood).__name__, "levels": self.likelihood.levels, "given_label": self.conditional}

    def nll_and_kl(self, batch: Batch, generator: Generators = None) -> tuple[Tensor, Tensor]:
        """-log p(x | z) and KL(q || prior) of each image, in nats [B]."""
        observation, condition, mu, logvar = self.posterior(batch, generator)                 # B C H W, ..., B D, B D
        z = mu + (logvar / 2).exp() * randn(mu.shape, generator, mu.device)                   # B D
        return -self.likelihood.log_prob(self.decoder(z, *condition), observation), kl_to_standard_normal(mu, logvar)

    def posterior(self, batch: Batch, generator: Generators) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Tensor]:
        """What is observed of the images, the condition, and mu and logvar of q(z | x)."""
        image, condition = batch["image"], self.condition(batch.get("label"))                 # B C H W
        observation = self.likelihood.observe(image, rand(image.shape, generator, image.device))
        mu, logvar = self.encoder(observation, *condition)                                    # B D, B D
        return observation, condition, mu, logvar

    def condition(self, label: Tensor | None) -> tuple[Tensor, ...]:
        """What encoder and decoder are given besides: nothing."""
        return ()

    def check(self) -> None:
        """One line for parts that do not go together."""
        encoder, decoder, likelihood = self.encoder, self.decoder, self.likelihood
        if encoder.latent_dim != decoder.latent_dim:
            raise ValueError(f"encoder.latent_dim {encoder.latent_dim}, decoder.latent_dim {decoder.latent_dim}: give both the same")
        if decoder.parameters_per_channel != likelihood.parameters_per_channel:
            raise ValueError(f"decoder.parameters_per_channel {decoder.parameters_per_channel}: {type(likelihood).__name__} takes "
                             f"{likelihood.parameters_per_channel}")
        for name, network in (("encoder", encoder), ("decoder", decoder)):
            if (network.num_classes is not None) != self.conditional:
                raise ValueError(f"{name}.num_classes {network.num_classes}: a {type(self).__name__} "
                                 + ("is told the label; give the number of classes" if self.conditional else
                                    "knows no label; leave it null, or take lightning_modules.vae.ConditionalVAE"))


class ConditionalVAE(VAE):
    """A VAE whose encoder and decoder are told the label, one-hot [B, K], as their second argument."""

    conditional = True

    def condition(self, label: Tensor | None) -> tuple[Tensor, ...]:
        assert label is not None, "a ConditionalVAE needs labels: a batch with `label`, or the argument `label`"
        return (F.one_hot(label.to(self.device), self.decoder.num_classes).float(),)          # B K
