"""The conditional generative adversarial network (Mirza and Osindero 2014, 1411.1784).

min_G max_D E log D(x | y) + E log(1 - D(G(z | y) | y)), D the sigmoid of the critic's score. For each batch of real images the
discriminator takes one step and then the generator one. The generator's side of the game is `generator_loss`: `Minimax`, the
equation, or `NonSaturating`, which Goodfellow et al. (2014) already use where the discriminator is sure of itself.
"""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import Adversarial
from lightning_modules.losses.adversarial import Minimax, log_losses


class ConditionalGAN(Adversarial):
    """`generator(z [B, Z], label [B]) -> [B, C, H, W]`; `critic(images, label) -> [B]`, the discriminator's logit of "real".

    Logs d_loss = d_real + d_fake, in nats (2 ln 2 = 1.386 where the discriminator knows nothing), and g_loss; val/loss is the
    discriminator's on validation images.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module, generator_loss: Minimax = Minimax(),
                 optimizer: OptimizerCallable = torch.optim.Adam, critic_optimizer: OptimizerCallable | None = None) -> None:
        super().__init__(generator, critic, optimizer, critic_optimizer)
        self.generator_loss = generator_loss

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        real, label = batch["image"], self.label(batch)                                       # B C H W; B
        fake = self.generate(label, len(real))                                                # B C H W
        losses = self.critic_losses(real, fake.detach(), label)
        self.minimise(losses["d_loss"], self.critic)
        g_loss = self.generator_loss(self.critic(fake, label))      # the same images, before a discriminator that has moved on
        self.minimise(g_loss, self.generator)
        self.log_losses("train", {**losses, "g_loss": g_loss}, len(real))

    def critic_losses(self, real: Tensor, fake: Tensor, label: Tensor | None) -> dict[str, Tensor]:
        d_real, d_fake = log_losses(*self.scores(real, fake, label))
        return {"d_loss": d_real + d_fake, "d_real": d_real, "d_fake": d_fake}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        real, label = batch["image"], self.label(batch)
        losses = self.critic_losses(real, self.generate(label, len(real)), label)
        return {"loss": losses["d_loss"], "d_real": losses["d_real"], "d_fake": losses["d_fake"]}
