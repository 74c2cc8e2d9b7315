"""The guard: NaN and Inf planted in the loss, or in one number of a gradient, of every optimiser, in the first step and the eighth."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from callbacks.ema import EMA
from callbacks.finite import FiniteGuard, NonFiniteError, all_finite, non_finite, tensors_in
from datamodules.order import BatchOrder, Rows
from lightning_modules.classifier import Classifier
from lightning_modules.ddpm import DDPM
from lightning_modules.diffusion import schedules
from lightning_modules.gan import ConditionalGAN
from lightning_modules.networks.conv import ConvNet
from lightning_modules.networks.unet import UNet
from lightning_modules.wgan_gp import ConditionalWGANGP
from tests.callbacks.tiny import TinyModel
from tests.lightning_modules.adversaries import adam, players
from tests.lightning_modules.test_vae import vae

NUM, BATCH = 20, 4  # five batches an epoch
MODELS: dict[str, Callable] = {
    "ddpm": lambda: DDPM(UNet(channels=1, num_classes=3, width=8, multipliers=(1, 2)), schedules.Cosine()),
    "classifier": lambda: Classifier(ConvNet(channels=1, num_classes=3, width=4)),
    "cvae": lambda: vae(num_classes=3, size=8),
    "cgan": lambda: ConditionalGAN(**players(), optimizer=adam),
    "wgan_gp": lambda: ConditionalWGANGP(**players(), optimizer=adam),
}
VALUES = (math.nan, math.inf, -math.inf)


class Numbered(LightningDataModule):
    """Pictures in an order of each epoch's own, in batches that say which rows they hold."""

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(NUM, 1, 8, 8, generator=generator) * 2 - 1
        rows = Rows({"image": image.numpy(), "label": np.arange(NUM) % 3, "row": np.arange(NUM)})
        return DataLoader(rows, batch_size=None, sampler=BatchOrder(NUM, BATCH, seed=3, shuffle=True))


class Plant(Callback):
    """In one step, adds `value` to the loss of an optimiser or puts it into its last gradient; notes what was there before."""

    def __init__(self, where: str, optimiser: int, value: float, step: int) -> None:
        self.where, self.optimiser, self.value, self.step = where, optimiser, value, step
        self.before: dict[str, torch.Tensor] = {}
        self.moments: list[torch.Tensor] = []
        self.rows: list[int] = []

    def on_fit_start(self, trainer: Trainer, pl_module) -> None:
        self.weight = [weight for weight in trainer.optimizers[self.optimiser].param_groups[0]["params"] if weight.requires_grad][-1]
        if self.where == "gradient":
            self.weight.register_hook(lambda gradient: self.spoilt(trainer, gradient))
        elif pl_module.automatic_optimization:
            losses = pl_module.losses
            pl_module.losses = lambda batch: {key: self.spoilt(trainer, value) for key, value in losses(batch).items()}
        else:
            minimise, own = pl_module.minimise, (pl_module.generator, pl_module.critic)[self.optimiser]
            pl_module.minimise = lambda loss, network: minimise(self.spoilt(trainer, loss) if network is own else loss, network)

    def spoilt(self, trainer: Trainer, tensor: torch.Tensor) -> torch.Tensor:
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 != self.step:
            return tensor
        if tensor.ndim == 0 and self.where == "loss":
            return tensor + self.value  # its gradient stays finite
        tensor = tensor.clone()
        tensor.view(-1)[tensor.numel() // 2] = self.value
        return tensor

    def on_train_batch_start(self, trainer: Trainer, pl_module, batch, batch_idx) -> None:
        self.rows = batch["row"].tolist()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module, optimizer) -> None:
        self.before = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}
        self.moments = [value.clone() for _, value in tensors_in([other.state_dict() for other in trainer.optimizers])]


def train(model, *callbacks: Callback, **arguments) -> Trainer:
    trainer = Trainer(**{"max_epochs": 3} | arguments, accelerator="cpu", logger=False, callbacks=list(callbacks), limit_val_batches=0,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=Numbered())
    return trainer


@pytest.mark.parametrize("name", MODELS)
def test_every_planted_nan_stops_training_before_the_update(name, tmp_path):
    model = MODELS[name]()
    num_optimisers = len(model.configure_optimizers()) if not model.automatic_optimization else 1
    cases = [(where, optimiser, value, step) for where in ("loss", "gradient") for optimiser in range(num_optimisers)
             for value in VALUES for step in (1, 8)]
    for number, case in enumerate(cases):
        where, optimiser, value, step = case
        plant, guard = Plant(*case), FiniteGuard(tmp_path / f"{number}.json")
        model = MODELS[name]()
        with pytest.raises(NonFiniteError) as caught:
            train(model, plant, guard)
        report, message = caught.value.report, str(caught.value)
        epoch, batch = divmod(step - 1, NUM // BATCH)
        assert "\n" not in message and message.startswith(f"step {step}: the {where} "), (case, message)
        assert f"batch {batch} of epoch {epoch} (rows {', '.join(map(str, plant.rows))} of the training data)" in message, (case, message)
        assert (report["step"], report["epoch"], report["batches"]) == (step, epoch, [batch]) and report["rows"] == plant.rows, case
        assert json.loads((tmp_path / f"{number}.json").read_text()) == report and str(tmp_path / f"{number}.json") in message
        if where == "gradient":
            (spoilt,) = [key for key, weight in model.named_parameters() if weight is plant.weight]
            assert report["parameters"] == {spoilt: f"1 of {plant.weight.numel()}"} and spoilt in message, case
        else:
            number = f" of optimiser {optimiser + 1}" if num_optimisers > 1 else ""
            assert f"the loss{number} is {value} in" in message and report["parameters"] == {}, (case, message)
        for key, weight in model.named_parameters():
            assert torch.equal(weight, plant.before[key]) and bool(weight.isfinite().all()), (case, key)
        moments = [value for _, value in tensors_in([other.state_dict() for other in model.trainer.optimizers])]
        assert all(torch.equal(*pair) for pair in zip(moments, plant.moments, strict=True)), case
    print(f"{name}: {len(cases)} NaN or Inf planted: {len(cases)} stopped before the update")


@pytest.mark.parametrize("name", ["classifier", "wgan_gp"])
def test_a_healthy_run_is_not_changed(name):
    weights = []
    for callbacks in ((), (FiniteGuard(),)):
        torch.manual_seed(1)
        model = MODELS[name]()
        train(model, *callbacks)
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert torch.equal(*weights)


def test_of_accumulated_batches_the_guilty_one_is_named():
    for where, batches in (("loss", [2]), ("gradient", [0, 1, 2, 3])):
        plant = Plant(where, 0, math.inf, step=3)
        with pytest.raises(NonFiniteError) as caught:
            train(MODELS["classifier"](), plant, FiniteGuard(), accumulate_grad_batches=4)
        assert caught.value.report["batches"] == batches and len(caught.value.report["rows"]) == len(batches) * BATCH


def test_large_gradients_are_not_taken_for_infinite_ones():
    class Steep(TinyModel):
        def __init__(self):
            super().__init__(learning_rate=1e-35)
            self.network = nn.Linear(1, 40)

        def training_step(self, batch, batch_idx):
            return self.network(batch["image"].flatten(1)[:, :1]).mean() * 1e30

        def on_before_optimizer_step(self, optimizer):
            self.overflowed = not all_finite([self.network.bias.grad])  # its square is beyond float32

    model = Steep()
    train(model, FiniteGuard(), max_steps=2)
    assert model.overflowed


@pytest.mark.parametrize("value", VALUES)
def test_one_bad_number_is_found_wherever_it_stands(value):
    for num in (1, 7, 33, 1000, 65_537):
        for place in {0, num // 2, num - 1}:
            tensor = torch.ones(num)
            tensor[place] = value
            assert not all_finite([torch.ones(3), tensor]) and non_finite({"a": torch.ones(2), "b": tensor}) == {"b": f"1 of {num}"}
    assert all_finite([]) and all_finite([torch.zeros(0), torch.ones(2).bfloat16(), torch.tensor(3.0, dtype=torch.float64)])


class Masked(TinyModel):
    """With a buffer that is infinite by design, and statistics that are not."""

    def __init__(self, **arguments) -> None:
        super().__init__(**arguments)
        self.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))
        self.norm = nn.BatchNorm1d(1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


SPOILS = {
    "a weight": (lambda trainer, model: model.network.weight.data.fill_(math.nan), "network.weight"),
    "a statistic": (lambda trainer, model: model.norm.running_mean.fill_(math.inf), "norm.running_mean"),
    "a moment": (lambda trainer, model: trainer.optimizers[0].state[model.network.bias]["exp_avg"].fill_(math.nan), "exp_avg"),
    "an average": (lambda trainer, model: trainer.callbacks[0]._averages[0].fill_(math.nan), "network.weight"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_weights_that_are_not_finite_are_not_saved(spoil, tmp_path):
    model = Masked()
    trainer = train(model, EMA(), FiniteGuard(tmp_path / "report.json"), max_steps=3)
    trainer.save_checkpoint(tmp_path / "good.ckpt")
    for _, value in tensors_in(torch.load(tmp_path / "good.ckpt", weights_only=True)["optimizer_states"]):
        assert value.isfinite().all()
    SPOILS[spoil][0](trainer, model)
    with pytest.raises(NonFiniteError, match="not saved: the former checkpoint stays") as caught:
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert SPOILS[spoil][1] in str(caught.value) and not (tmp_path / "bad.ckpt").exists()
    assert caught.value.report["step"] == 3 and [name for name in caught.value.report["parameters"] if name.endswith(SPOILS[spoil][1])]
