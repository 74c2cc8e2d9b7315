import math
from functools import partial

import pytest
import torch
from torch.optim import SGD

from lightning_modules.gan import ConditionalGAN
from lightning_modules.losses.adversarial import Minimax, NonSaturating
from tests.callbacks.tiny import Record
from tests.lightning_modules.adversaries import Data, Moves, adam, batch_of, players, trainer


def model(**arguments) -> ConditionalGAN:
    return ConditionalGAN(**players(), **{"optimizer": adam} | arguments)


def test_the_players_take_turns_and_a_batch_is_a_step():
    moves, record = Moves(), Record()
    run = trainer(moves, max_steps=8, max_epochs=-1, logger=record, log_every_n_steps=1)
    run.fit(model(), datamodule=Data())
    assert moves.turns == ["cg"] * 8
    assert moves.steps == list(range(1, 9))
    assert {f"train/{name}" for name in ("d_loss", "d_real", "d_fake", "g_loss")} <= {key for _, line in record.metrics for key in line}
    assert record.values("val/loss")[0][1] == pytest.approx(2 * math.log(2), abs=0.3)


@pytest.mark.parametrize("generator_loss", [Minimax(), NonSaturating()], ids=repr)
def test_a_turn_equals_a_slow_one(generator_loss):
    batch, ours = batch_of(4), model(optimizer=partial(SGD, lr=0.1), generator_loss=generator_loss)
    torch.manual_seed(5)
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(ours, torch.utils.data.DataLoader([batch], batch_size=None, generator=torch.Generator()))

    theirs = players()
    generator, discriminator = theirs["generator"], theirs["critic"]
    g_optimizer, d_optimizer = SGD(generator.parameters(), lr=0.1), SGD(discriminator.parameters(), lr=0.1)
    real, label = batch["image"], batch["label"]
    torch.manual_seed(5)
    fake = generator(torch.randn(4, 4), label)
    says = discriminator(real, label).sigmoid().log().mean() + (1 - discriminator(fake.detach(), label).sigmoid()).log().mean()
    d_optimizer.zero_grad()
    (-says).backward()
    d_optimizer.step()
    probability = discriminator(fake, label).sigmoid()
    g_loss = (1 - probability).log().mean() if type(generator_loss) is Minimax else -probability.log().mean()
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    for mine, slow in ((ours.generator, generator), (ours.critic, discriminator)):
        for one, other in zip(mine.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_it_samples_by_label():
    game = model().eval()
    images = game.sample({"label": torch.arange(3)}, generator=[torch.Generator().manual_seed(0) for _ in range(3)])
    assert images.shape == (3, 1, 8, 8)
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert game.sampling_settings() == {"sampler": "generator", "num_steps": 1, "conditional": True}
