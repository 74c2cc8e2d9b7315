"""LightningCLI as practicum uses it: one line for a mistake, networks that follow the data, and a run folder that logs everything."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, PositiveInt
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from callbacks.checkpoints import DurableCheckpointIO
from callbacks.finite import FiniteGuard
from callbacks.resumable import Resumable
from callbacks.training_progress import TrainingProgress
from experiments.mistakes import parse, said_by_constructors
from experiments.record import RunRecord, WandbRecord
from experiments.request import Request
from experiments.wandb_mode import settle_wandb_mode


class CommandLine(LightningCLI):
    """LightningCLI that raises a one-line `Mistake`, lets the networks follow the data, and logs into a run folder."""

    def __init__(self, arguments: list[str], *, experiment: str, folder: Path, command: Iterable[str] = (), stage: str = "fit",
                 facts: Mapping[str, int] | None = None, quiet: bool = False, parse_only: bool = False) -> None:
        self.experiment, self.folder, self.command, self.stage = experiment, folder, list(command), stage
        self.facts, self.quiet, self.parse_only = facts or {}, quiet, parse_only
        super().__init__(LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, run=False,
                         args=arguments, save_config_callback=None, auto_configure_optimizers=False,
                         load_from_checkpoint_support=False, parser_kwargs={"exit_on_error": False})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--checkpoints.every_minutes", type=NonNegativeFloat, default=5.0, help="minutes between two checkpoints")
        parser.add_argument("--checkpoints.keep", type=PositiveInt, default=2, help="how many checkpoints are kept")

    def parse_arguments(self, parser, args) -> None:
        self.config = parse(parser, args)

    def before_instantiate_classes(self) -> None:
        follow_data(self.config.model, self.facts)
        trainer = self.config.trainer
        if isinstance(trainer.val_check_interval, int) and 0 < trainer.max_steps < trainer.val_check_interval:
            trainer.val_check_interval = trainer.max_steps      # a run cut short is validated too, at its end
        self._dump_config()
        self.config_dump.pop("config", None)

    def instantiate_classes(self) -> None:
        if not self.parse_only:
            with said_by_constructors():
                super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        if self.config_init.trainer.precision is None and torch.cuda.is_available():
            kwargs["precision"] = "bf16-mixed"
        if self.stage == "fit":
            settings = self.config_init.checkpoints
            self.resumable = Resumable(self.folder / "checkpoints", settings.every_minutes, settings.keep)
            own = [TrainingProgress(self.experiment, self.quiet), FiniteGuard(self.folder / "non_finite.json"), self.resumable]
            self.config_init.trainer.callbacks = [*(self.config_init.trainer.callbacks or []), *own]
        trainer = super().instantiate_trainer(logger=False, default_root_dir=self.folder, enable_checkpointing=False,
                                              enable_model_summary=False, enable_progress_bar=False, plugins=[DurableCheckpointIO()],
                                              **kwargs)
        record = RunRecord(self.folder, experiment=self.experiment, command=self.command,
                           seed=self.config_dump.get("seed_everything"), training=self.stage == "fit")
        if self.stage == "fit":      # what a look at a run is asked with is not what the run was trained with
            record.log_config(self.config_dump)
        record.update(title=self.datamodule.title, classes=getattr(self.datamodule, "class_names", []), device=describe_device(),
                      parameters=sum(parameter.numel() for parameter in self.model.parameters()))
        loggers: list[Any] = [record]
        mode, _ = settle_wandb_mode()
        if mode != "disabled":
            loggers.append(WandbRecord(self.folder, experiment=self.experiment))
            loggers[-1].log_config(self.config_dump)
        trainer.loggers = loggers
        return trainer


def parse_data(request: Request) -> Namespace:
    """The data part of a request alone: class_path and init_args."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(LightningDataModule, "data")
    return parse(parser, request.data_arguments).data


def data_module(data: Namespace) -> Any:
    """The LightningDataModule of a parsed data part."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    with said_by_constructors():
        return parser.instantiate_classes(Namespace(data=data)).data


def facts(data: Namespace) -> dict[str, Any]:
    """channels, image_size, num_classes, ... of the data set, as its DataModule reports them without decoding."""
    module = data_module(data)
    module.prepare_data()
    return module.facts()


def follow_data(config: Any, known: Mapping[str, int]) -> None:
    """Sets the arguments named like a fact of the data (channels, image_size, num_classes) wherever the model has them.

    An argument that is null stays so: `num_classes: null` is an unconditional network.
    """
    if not isinstance(config, Namespace):
        return
    for key, value in vars(config).items():
        if key in known and value is not None:
            setattr(config, key, known[key])
        else:
            follow_data(value, known)


def describe_device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
