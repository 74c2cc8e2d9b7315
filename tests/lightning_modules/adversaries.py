"""Tiny players and data for the tests of GANs, and a callback that notes whose weights move."""

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_modules.networks.gan import Critic, Generator

SIZES = {"channels": 1, "image_size": 8, "num_classes": 3}


def players() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"generator": Generator(**SIZES, latent_dim=4, width=8), "critic": Critic(**SIZES, width=8)}


def adam(weights):
    return torch.optim.Adam(weights, lr=1e-3, betas=(0.0, 0.9), fused=True)


def batch_of(num: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {"image": torch.rand(num, 1, 8, 8, generator=generator) * 2 - 1, "label": torch.arange(num) % 3}


class Data(LightningDataModule):
    """Five batches of four images."""

    def train_dataloader(self) -> DataLoader:
        batch = batch_of(20)
        samples = [{"image": image, "label": label} for image, label in zip(batch["image"], batch["label"], strict=True)]
        return DataLoader(samples, batch_size=4, generator=torch.Generator())

    val_dataloader = train_dataloader


class Moves(Callback):
    """Notes each optimiser step of a model as "c" or "g", a batch as a word, after a check that only that network moved."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.steps: list[int] = []

    def weights(self, model) -> dict[str, torch.Tensor]:
        return {name: torch.cat([weight.detach().flatten().clone() for weight in getattr(model, network).parameters()])
                for name, network in (("c", "critic"), ("g", "generator"))}

    def on_train_start(self, trainer, pl_module) -> None:
        minimise = pl_module.minimise

        def watched(loss, network):
            before = self.weights(pl_module)
            minimise(loss, network)
            after = self.weights(pl_module)
            moved = [name for name in before if not torch.equal(before[name], after[name])]
            assert len(moved) == 1, f"weights of {moved} moved in one step"
            self.turns[-1] += moved[0]

        pl_module.minimise = watched

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.turns.append("")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps.append(trainer.global_step)


def trainer(*callbacks, **arguments) -> Trainer:
    """A real trainer on the CPU that writes nothing and, unless told otherwise, validates at the end of an epoch."""
    return Trainer(**{"max_epochs": 1, "num_sanity_val_steps": 0, "logger": False} | arguments, accelerator="cpu",
                   callbacks=list(callbacks), enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
