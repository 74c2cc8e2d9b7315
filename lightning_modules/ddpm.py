"""Denoising diffusion (Ho, Jain and Abbeel 2020, 2006.11239), plain or conditioned on a class.

Minimises E_{x0, t, eps} w(t) |target - network(alpha x0 + sigma eps, t, label)|^2, with target = eps in the paper and x0, v or
velocity by another `parameterization`. Deviations: t is drawn from the whole of [0, 1], the discrete chain being the points k/T;
the label is dropped for a share of the images, so that one network serves classifier-free guidance (2207.12598).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import Model, num_rows
from lightning_modules.diffusion import parameterizations, samplers, schedules, timesteps, weightings
from lightning_modules.diffusion.bound import bits_by_term
from lightning_modules.diffusion.guidance import ClassifierFreeGuidance
from lightning_modules.diffusion.noise import Generators, randn


class DDPM(Model):
    """`network(x_t [B, C, H, W], t [B], label [B] or None) -> [B, C, H, W]`; it is conditional if `network.num_classes` is a number.

    `guidance` is the s of eps_u + s (eps_c - eps_u): 1 is the conditional model, 0 the unconditional one.
    """

    def __init__(self, network: nn.Module, schedule: schedules.Schedule, image_size: int = 32,
                 parameterization: parameterizations.Parameterization = parameterizations.Eps(),
                 timesteps: timesteps.Timesteps = timesteps.Uniform(),
                 weighting: weightings.Weighting = weightings.Uniform(),
                 sampler: samplers.Sampler = samplers.DDIM(), num_sampling_steps: int = 50,
                 guidance: float = 1.0, label_dropout: float = 0.1,
                 optimizer: OptimizerCallable = torch.optim.AdamW, lr_scheduler: LRSchedulerCallable | None = None) -> None:
        super().__init__(optimizer, lr_scheduler)
        if isinstance(parameterization, parameterizations.Eps) and schedule(torch.ones(1))[0] == 0:
            raise ValueError(f"{schedule} ends in pure noise, from which eps says nothing of the image: "
                             "predict v or x0, --model.parameterization V")
        if num_sampling_steps < 1:
            raise ValueError(f"num_sampling_steps {num_sampling_steps}: sampling takes 1 step at least, for instance 50")
        self.network: Any = network
        self.schedule, self.image_size = schedule, image_size
        self.parameterization, self.timesteps, self.weighting = parameterization, timesteps, weighting
        self.sampler, self.num_sampling_steps = sampler, num_sampling_steps
        self.guidance, self.label_dropout = guidance, label_dropout

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x0 = batch["image"]                                                                   # B C H W
        t = self.timesteps(len(x0), x0.device)                                                # B
        eps = torch.randn_like(x0)                                                            # B C H W
        alpha, sigma = self.schedule(t, like=x0)                                              # B 1 1 1
        output = self.network(alpha * x0 + sigma * eps, t, self.dropped(batch))               # B C H W
        target = self.parameterization.target(x0, eps, alpha, sigma)                          # B C H W
        weight = self.weighting(alpha, sigma, self.parameterization)                          # B
        return {"loss": (weight * (output - target).square().flatten(1).mean(1)).mean()}

    @torch.no_grad()
    def sample(self, batch: Batch, *, generator: Generators = None, num_steps: int | None = None, start: float = 1.0,
               progress: Callable[[Iterable], Iterable] | None = None) -> Tensor:
        """Images [B, C, H, W] in [-1, 1], one for each row of `batch` (and of its label, if the model is conditional)."""
        noise = self.noise(batch, generator)                                                  # B C H W
        return self.sampler(self.denoiser(batch), noise, schedule=self.schedule, generator=generator,
                            num_steps=num_steps or self.num_sampling_steps, start=start, progress=progress)

    @torch.no_grad()
    def denoising_path(self, batch: Batch, *, generator: Generators = None, num_frames: int = 10) -> Tensor:
        """What the network takes the clean image for, at `num_frames` moments of sampling [F, B, C, H, W]."""
        seen: list[Tensor] = []
        denoise = self.denoiser(batch)

        def watched(x_t: Tensor, t: Tensor) -> Tensor:
            seen.append(denoise(x_t, t))
            return seen[-1]

        self.sampler(watched, self.noise(batch, generator), schedule=self.schedule, generator=generator,
                     num_steps=self.num_sampling_steps)
        moments = torch.linspace(0, len(seen) - 1, num_frames).round().long()
        return torch.stack([seen[moment] for moment in moments])                              # F B C H W

    def noising(self, images: Tensor, t: Tensor, *, generator: Generators = None) -> Tensor:
        """x_t [B, C, H, W] of images [B, C, H, W] at times t [B]."""
        alpha, sigma = self.schedule(t, like=images)                                          # B 1 1 1
        return alpha * images + sigma * randn(images.shape, generator, images.device)

    @torch.no_grad()
    def loss_at(self, batch: Batch, t: Tensor, *, generator: Generators = None) -> Tensor:
        """Mean squared error of the predicted noise [B] at times t [B]: the same measure for every parameterization."""
        x0 = batch["image"]                                                                   # B C H W
        eps = randn(x0.shape, generator, x0.device)                                           # B C H W
        alpha, sigma = self.schedule(t, like=x0)                                              # B 1 1 1
        x_t = alpha * x0 + sigma * eps
        output = self.network(x_t, t, self.label(batch))
        return (self.parameterization.eps(output, x_t, alpha, sigma) - eps).square().flatten(1).mean(1)

    @torch.no_grad()
    def bits_by_term(self, batch: Batch, *, num_terms: int = 20, generator: Generators = None) -> dict[str, Tensor]:
        """The variational bound on the negative log-likelihood of 8-bit images, in bits per dimension [B], by its parts."""
        return bits_by_term(self.denoiser(batch, guidance=1.0), batch["image"], self.schedule, num_terms, generator)

    def sampling_settings(self) -> dict[str, Any]:
        """How `sample` draws, for the declaration that stands beside a metric."""
        return {"sampler": repr(self.sampler), "num_steps": self.num_sampling_steps, "guidance": self.guidance,
                "conditional": self.network.num_classes is not None, "clipped": True}

    def denoiser(self, batch: Batch, guidance: float | None = None) -> Callable[[Tensor, Tensor], Tensor]:
        """(x_t, t) -> predicted clean image, clipped to the range of images as in the paper."""
        label = self.label(batch)
        predict = self.network if label is None else ClassifierFreeGuidance(
            self.network, label, torch.full_like(label, self.network.num_classes),
            self.guidance if guidance is None else guidance)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = self.schedule(t, like=x_t)
            return self.parameterization.x0(predict(x_t, t), x_t, alpha, sigma).clamp(-1, 1)

        return denoise

    def noise(self, batch: Batch, generator: Generators) -> Tensor:
        return randn((num_rows(batch), self.network.channels, self.image_size, self.image_size), generator, self.device)

    def label(self, batch: Batch) -> Tensor | None:
        return None if self.network.num_classes is None else batch["label"].to(self.device)

    def dropped(self, batch: Batch) -> Tensor | None:
        label = self.label(batch)
        if label is None:
            return None
        drop = torch.rand(len(label), device=label.device) < self.label_dropout
        return label.masked_fill(drop, self.network.num_classes)
