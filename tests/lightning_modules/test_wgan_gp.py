from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

from callbacks.ema import EMA
from callbacks.evaluation import Evaluation
from callbacks.training_progress import TrainingProgress
from lightning_modules.losses.adversarial import UniformAlpha
from lightning_modules.wgan_gp import ConditionalWGANGP
from tests.callbacks.tiny import Record
from tests.lightning_modules.adversaries import Data, Moves, adam, batch_of, players, trainer


def model(**arguments) -> ConditionalWGANGP:
    return ConditionalWGANGP(**players(), **{"optimizer": adam} | arguments)


class When(Evaluation):
    def __init__(self, only_last: bool = False) -> None:
        super().__init__(only_last)
        self.asked: list[int] = []

    def setup(self, trainer, pl_module, stage) -> None:
        pass

    def evaluate(self, trainer, pl_module, stage) -> None:
        self.asked.append(trainer.global_step)


@pytest.mark.parametrize("num_critic_steps", [1, 3, 5])
def test_the_critic_takes_its_steps_and_then_the_generator_one(num_critic_steps):
    moves = Moves()
    trainer(moves, max_epochs=2).fit(model(num_critic_steps=num_critic_steps), datamodule=Data())
    assert moves.turns == ["c" * num_critic_steps + "g"] * 10
    assert moves.steps == list(range(1, 11))


@pytest.mark.parametrize("steps", [3, 5, 7])
def test_turns_go_on_after_a_checkpoint_in_mid_epoch(tmp_path, steps):
    path, moves = tmp_path / "last.ckpt", Moves()
    first = trainer(max_steps=steps, max_epochs=-1)
    first.fit(model(), datamodule=Data())
    first.save_checkpoint(path)
    resumed = model()
    run = trainer(moves, max_steps=12, max_epochs=-1)
    run.fit(resumed, datamodule=Data(), ckpt_path=path)
    assert moves.turns == ["cccg"] * (12 - steps)
    assert moves.steps == list(range(steps + 1, 13))
    states = [optimizer.state_dict()["state"][0]["step"].item() for optimizer in run.optimizers]
    assert states == [12, 36], "each optimiser goes on with its own moments"


def test_everything_counts_batches(tmp_path, capsys):
    """max_steps, val_check_interval, EMA, evaluations, checkpoint, progress and the record: 7 batches are 7 steps, not 28."""
    ema, always, last, record = EMA(0.5), When(), When(only_last=True), Record()
    path = tmp_path / "last.ckpt"
    run = trainer(ema, always, last, TrainingProgress("game", every=0.0), max_steps=7, max_epochs=-1,
                  val_check_interval=3, check_val_every_n_epoch=None, logger=record, log_every_n_steps=1)
    run.fit(model(), datamodule=Data())
    assert run.global_step == run.fit_loop.epoch_loop.total_batch_idx + 1 == 7
    assert always.asked == [3, 6, 7]
    assert last.asked == [7]
    assert ema.num_updates == 7
    run.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["global_step"] == 7
    assert "step 7 of 7" in capsys.readouterr().err
    assert [step for step, _ in record.values("train/c_loss")] == list(range(7))
    assert [step for step, _ in record.values("val/loss")] == [2, 5, 6]
    assert {f"train/{name}" for name in ("c_loss", "c_wass", "c_gp", "g_loss")} <= {key for _, line in record.metrics for key in line}


def test_a_turn_equals_a_slow_one():
    """The lecture's train step written out with torch alone, from the same noise."""
    batch, ours = batch_of(4), model(optimizer=partial(SGD, lr=0.1), num_critic_steps=2, penalty_weight=10.0)
    record = Record()
    torch.manual_seed(5)
    run = trainer(max_steps=1, limit_val_batches=0, logger=record, log_every_n_steps=1)
    run.fit(ours, torch.utils.data.DataLoader([batch], batch_size=None, generator=torch.Generator()))

    theirs = players()
    generator, critic = theirs["generator"], theirs["critic"]
    g_optimizer, c_optimizer = SGD(generator.parameters(), lr=0.1), SGD(critic.parameters(), lr=0.1)
    real, label = batch["image"], batch["label"]
    torch.manual_seed(5)
    noise = torch.randn(8, 4)
    for k in range(2):
        fake = generator(noise[4 * k:4 * k + 4], label).detach()
        c_wass = critic(fake, label).mean() - critic(real, label).mean()
        alpha = torch.rand(4, 1, 1, 1)
        between = (alpha * real + (1 - alpha) * fake).requires_grad_()
        gradient, = torch.autograd.grad(critic(between, label).sum(), between, create_graph=True)
        c_gp = ((gradient.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
        c_optimizer.zero_grad()
        (c_wass + 10 * c_gp).backward()
        c_optimizer.step()
    g_loss = -critic(generator(torch.randn(4, 4), label), label).mean()
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()

    logged = {key: value for _, line in record.metrics for key, value in line.items()}
    expected = {"c_loss": c_wass + 10 * c_gp, "c_wass": c_wass, "c_gp": c_gp, "g_loss": g_loss}
    for name, value in expected.items():
        assert logged[f"train/{name}"] == pytest.approx(value.item(), abs=1e-4), name
    for mine, slow in ((ours.generator, generator), (ours.critic, critic)):
        for one, other in zip(mine.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_image_i_is_the_same_in_a_batch_of_1_and_of_64():
    game = model().eval()
    before = torch.get_rng_state()
    many = game.sample({"label": torch.arange(64) % 3}, generator=[torch.Generator().manual_seed(i) for i in range(64)])
    one = game.sample({"label": torch.tensor([41 % 3])}, generator=[torch.Generator().manual_seed(41)], num_steps=7, start=0.5)
    torch.testing.assert_close(many[41:42], one, atol=1e-5, rtol=1e-5)
    assert many.shape == (64, 1, 8, 8) and many.abs().max() <= 1 and not many.requires_grad
    assert torch.equal(before, torch.get_rng_state())


def test_the_label_reaches_both_networks():
    game = model().eval()
    noise = [torch.Generator().manual_seed(0) for _ in range(3)]
    images = game.sample({"label": torch.arange(3)}, generator=noise)
    assert (images[0] - images[1]).abs().max() > 1e-3
    scores = game.critic(images[:1].repeat(3, 1, 1, 1), torch.arange(3))
    assert len(scores.unique()) == 3


def test_validation_needs_no_gradient_and_is_never_negative():
    losses = model().losses(batch_of(6))
    assert losses["loss"].item() == pytest.approx(abs(losses["c_wass"].item()))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="num_critic_steps 0"):
        model(num_critic_steps=0)
    normed = players()
    normed["critic"].layers.append(nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="the critic has a batch norm"):
        ConditionalWGANGP(**normed, alpha=UniformAlpha())
