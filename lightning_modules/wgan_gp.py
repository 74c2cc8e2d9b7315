"""The conditional Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, 1704.00028), in the lecture's train step.

The critic minimises E D(G(z, y), y) - E D(x, y) + lambda E(|grad D(x_hat, y)| - 1)^2, the generator -E D(G(z, y), y). For each
batch of real images the critic takes `num_critic_steps` steps, each against images from new noise, and then the generator one.
Deviations from the paper: as in the lecture, the critic's steps of a turn share their real images, and there are 3 (paper: 5).
From the lecture: the penalty's points lie between the images (`alpha: NormalAlpha` brings back the lecture's).
"""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import Adversarial
from lightning_modules.losses.adversarial import UniformAlpha, gradient_penalty, wasserstein_loss


class ConditionalWGANGP(Adversarial):
    """`generator(z [B, Z], label [B]) -> [B, C, H, W]`, `critic(images, label) -> [B]` without batch norm.

    Logs c_loss = c_wass + penalty_weight * c_gp and g_loss, of the last of the critic's steps and the generator's; val/loss is
    the distance that the critic sees between validation images and generated ones, of either sign, as -D is a critic too.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, num_critic_steps: int = 3, penalty_weight: float = 10.0,
                 alpha: UniformAlpha = UniformAlpha(), optimizer: OptimizerCallable = torch.optim.Adam,
                 critic_optimizer: OptimizerCallable | None = None) -> None:
        super().__init__(generator, critic, optimizer, critic_optimizer)
        if num_critic_steps < 1:
            raise ValueError(f"num_critic_steps {num_critic_steps}: the critic takes 1 step at least; the lecture 3, the paper 5")
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules()):
            raise ValueError("the critic has a batch norm: the penalty is on the score of each image alone; take another norm or none")
        self.num_critic_steps, self.penalty_weight, self.alpha = num_critic_steps, penalty_weight, alpha

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        real, label = batch["image"], self.label(batch)                                       # B C H W; B
        for fake in self.fakes(label, len(real)):
            losses = self.critic_losses(real, fake, label)
            self.minimise(losses["c_loss"], self.critic)
        g_loss = -self.critic(self.generate(label, len(real)), label).mean()
        self.minimise(g_loss, self.generator)
        self.log_losses("train", {**losses, "g_loss": g_loss}, len(real))

    def critic_losses(self, real: Tensor, fake: Tensor, label: Tensor | None) -> dict[str, Tensor]:
        c_wass = wasserstein_loss(*self.scores(real, fake, label))
        c_gp = gradient_penalty(lambda images: self.critic(images, label), real, fake, self.alpha(len(real), real.device))
        return {"c_loss": c_wass + self.penalty_weight * c_gp, "c_wass": c_wass, "c_gp": c_gp}

    @torch.no_grad()
    def fakes(self, label: Tensor | None, num: int) -> tuple[Tensor, ...]:
        """The images [B, C, H, W] of each critic step: in one pass, as the generator rests meanwhile."""
        labels = None if label is None else label.repeat(self.num_critic_steps)
        return self.generate(labels, num * self.num_critic_steps).chunk(self.num_critic_steps)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """For validation: no penalty, which takes gradients."""
        real, label = batch["image"], self.label(batch)
        real_scores, fake_scores = self.scores(real, self.generate(label, len(real)), label)
        c_wass = wasserstein_loss(real_scores, fake_scores)
        return {"loss": c_wass.abs(), "c_wass": c_wass, "g_loss": -fake_scores.mean()}
