import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_modules.base import Model


class Noisy(Model):
    """Its loss draws from the global generator, as diffusion losses do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)
        self.drawn: dict[bool, list[float]] = {True: [], False: []}

    def losses(self, batch):
        noise = torch.randn(len(batch["image"]))
        self.drawn[self.training].append(noise.sum().item())
        return {"loss": (self.weight - noise).square().mean(), "other": noise.mean()}


def run(validate: bool) -> Noisy:
    torch.manual_seed(0)
    model = Noisy()
    loader = DataLoader([{"image": torch.zeros(1)}] * 8, batch_size=4, generator=torch.Generator())
    trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(model, loader, loader if validate else None)
    model.logged_keys = set(trainer.callback_metrics)
    return model


def test_validation_does_not_move_the_generator_of_training():
    assert run(validate=True).drawn[True] == run(validate=False).drawn[True]


def test_every_validation_sees_the_same_noise():
    drawn = run(validate=True).drawn[False]
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


def test_losses_are_logged_by_stage():
    assert run(validate=True).logged_keys == {"train/loss", "train/other", "val/loss", "val/other"}


def test_frozen_parameters_are_not_optimised():
    optimizer = Noisy().configure_optimizers()
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1
