"""`practicum fit`, `validate`, `test`: an experiment's YAML becomes a trained run folder, by the one LightningCLI."""

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI

from callbacks.last_checkpoint import LastCheckpoint
from callbacks.training_progress import TrainingProgress
from datamodules.sources import say_once
from experiments.catalogue import Mistake
from experiments.mistakes import one_line, said_by_constructors
from experiments.record import RunRecord, WandbRecord
from experiments.request import Request, samples_in, split_equals
from experiments.runs import find_run, load_runs, new_run_folder, runs_root
from experiments.sampling import draw_data_set
from experiments.wandb_mode import settle_wandb_mode

NOT_IDENTITY = ("batch_size", "num_workers", "flip")       # arguments that do not change which pictures a data set holds
LENGTH = ("max_steps", "max_epochs", "max_time", "limit_train_batches", "overfit_batches")
FIT_USAGE = """usage: practicum fit NAME [--data D] [--out DIR] [--KEY VALUE ...]

  NAME              an experiment of `practicum list`, or a path to a YAML
  --data D          a data set of `practicum list`; its parts: --data.path DIR_OR_HUB_ID --data.image_size 32 ...
  --out DIR         the run folder (default: runs/NAME/ID)
  --KEY VALUE       any key of the YAML: --model.schedule Cosine --trainer.max_steps 100 --seed_everything 3"""


class CommandLine(LightningCLI):
    """LightningCLI that raises a one-line `Mistake`, lets the networks follow the data, and logs into a run folder."""

    def __init__(self, arguments: list[str], *, experiment: str, folder: Path, command: Iterable[str] = (),
                 facts: Mapping[str, int] | None = None, callbacks: Iterable[Any] = (), parse_only: bool = False) -> None:
        self.experiment, self.folder, self.command = experiment, folder, list(command)
        self.facts, self.more_callbacks, self.parse_only = facts or {}, list(callbacks), parse_only
        super().__init__(LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, run=False,
                         args=arguments, save_config_callback=None, auto_configure_optimizers=False,
                         load_from_checkpoint_support=False, parser_kwargs={"exit_on_error": False})

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
        self.config_init.trainer.callbacks = [*(self.config_init.trainer.callbacks or []), *self.more_callbacks]
        trainer = super().instantiate_trainer(logger=False, default_root_dir=self.folder, enable_checkpointing=False,
                                              enable_model_summary=False, enable_progress_bar=False, **kwargs)
        record = RunRecord(self.folder, experiment=self.experiment, command=self.command,
                           seed=self.config_dump.get("seed_everything"))
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


def fit(arguments: list[str], *, out: Path | None = None, quiet: bool = False) -> Path:
    """Trains an experiment and returns its run folder.

    `arguments` are those of the command line after `practicum fit`. Raises `Mistake` for what the user can mend.
    """
    calm_libraries()
    request = Request.read(arguments)
    config = check(request)
    request = settle_samples(request, config, quiet)
    known = facts(parse_data(request))
    needed = fit_missing(request, config, quiet)
    mode = settle_wandb_mode()[1]
    folder = out or request.out or new_run_folder(runs_root(), request.experiment)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        raise Mistake(f"--out {folder} already holds a run; choose another folder")
    try:
        line = CommandLine(request.command_line(needed), experiment=request.experiment, folder=folder,
                           command=["practicum", "fit", *arguments], facts=known,
                           callbacks=[TrainingProgress(request.experiment, quiet), LastCheckpoint(checkpoint, timedelta(minutes=5))])
    except Mistake:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise
    if not quiet:
        say_once(mode)
        warn_of_a_busy_machine()
    run_stage(line, "fit")
    return folder


def fit_needs(arguments: list[str]) -> dict[str, Path]:
    """Trains the experiments that a `fit` with these arguments stands on, unless finished runs are there."""
    request = Request.read(arguments)
    config = check(request)
    return fit_missing(settle_samples(request, config, quiet=True), config, quiet=True)


def settle_samples(request: Request, config: Mapping[str, Any], quiet: bool) -> Request:
    """The request with every `samples:NAME:NUM` that its config uses drawn; one that a flag has taken out is not."""
    folders = {}
    for need, num in sorted(samples_in(config)):
        if "data" not in Request(need).yaml:
            raise Mistake(f"samples:{need}: the experiment names no data set; take one that does, or add `data: NAME` to it")
        run = fit_need(need, request, quiet)
        folders[need, num] = (run / "samples" / f"data-{num}-0").resolve()
        if not folders[need, num].is_dir():
            print(f"{request.experiment} needs {num} samples of {run}: drawing them once", file=sys.stderr)
            draw_data_set(run, folders[need, num], num)
    return request.with_samples(folders)


def fit_missing(request: Request, config: Mapping[str, Any], quiet: bool) -> dict[str, Path]:
    """The run folder of every needed experiment, by name; one whose `run:NAME` a flag has taken out of the config is not trained."""
    written, resolved = json.dumps(request.yaml), json.dumps(config, default=str)
    return {name: Path(need) if f"run:{name}" in written and str(Path(need).resolve()) not in resolved else fit_need(need, request, quiet)
            for need in request.needs for name in [Request(need).experiment]}


def check(request: Request, known: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The resolved config of a request; raises `Mistake` for a wrong key, value or class, before anything is trained."""
    needed = {Request(need).experiment: Path(need) for need in request.needs}
    line = CommandLine(request.command_line(needed), experiment=request.experiment, folder=Path(), facts=known, parse_only=True)
    return line.config_dump


def fit_need(need: str, request: Request, quiet: bool) -> Path:
    """The finished run of a needed experiment; trained now, on the same data if its YAML names none, where there is none."""
    own = Request(need)
    own.data_arguments = Request(need).data_arguments if "data" in own.yaml else request.data_arguments
    wanted = recipe(check(own, facts(parse_data(own))))
    for run in reversed(load_runs_below(runs_root() / own.experiment)):
        if run.state == "finished" and recipe(run.config) == wanted:
            return run.folder
    where = "" if "data" in own.yaml else " on the same data"
    print(f"{request.experiment} needs {own.experiment}{where}: training it first", file=sys.stderr)
    return fit([need, *own.data_flags], quiet=quiet)


def evaluate(run: str, stage: str, flags: list[str]) -> Path:
    """Runs the validation or test loop of a run's last checkpoint, metrics and all, and appends to its record."""
    folder = find_run(run)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        raise Mistake(f"run {folder}: no checkpoint there ({checkpoint.name}); train it first with `practicum fit`")
    calm_libraries()
    status = json.loads((folder / "status.json").read_text())
    line = CommandLine(["--config", str(folder / "config.yaml"), *split_equals(flags)], experiment=status["experiment"],
                       folder=folder, command=shlex.split(status.get("command", "")))
    line.model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    run_stage(line, stage)
    return folder


def run_stage(line: CommandLine, stage: str) -> None:
    """trainer.fit, .validate or .test; the record is closed whatever happens, and a crash of the run is never hidden."""
    record = line.trainer.loggers[0]
    try:
        getattr(line.trainer, stage)(line.model, datamodule=line.datamodule)
    except BaseException as error:
        record.finalize("failed")
        if isinstance(error, SystemExit) and line.trainer.interrupted:      # so Lightning ends a fit that Ctrl-C has stopped
            raise KeyboardInterrupt from None
        raise
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()


def main_fit(arguments: list[str]) -> int:
    """The verb `fit`."""
    if "-h" in arguments or "--help" in arguments:
        print(FIT_USAGE)
        return 0
    folder = fit(arguments)
    report(folder)
    return 0


def main_validate(arguments: list[str]) -> int:
    """The verb `validate`."""
    return main_evaluate("validate", arguments)


def main_test(arguments: list[str]) -> int:
    """The verb `test`."""
    return main_evaluate("test", arguments)


def main_evaluate(stage: str, arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: practicum {stage} RUN [--KEY VALUE ...]\n\n  RUN  a run folder, NAME/ID, or NAME for its latest run")
        return 0 if arguments else 2
    report(evaluate(arguments[0], stage, arguments[1:]))
    return 0


def report(folder: Path) -> None:
    """Prints the last value of every metric of a run, and where the run is."""
    run = load_runs([folder])[0]
    width = max(map(len, run.scalars), default=0)
    for key in sorted(run.scalars):
        if key.startswith(("val/", "test/")):
            print(f"  {key:{width}}  {run.last(key):.4g}")
    print(f"run: {folder}")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """`parser.parse_args` that raises a one-line `Mistake`."""
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise one_line(error, parser, arguments) from None


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


def recipe(config: Mapping[str, Any]) -> str:
    """What decides the weights of a run: two resolved configs with equal recipes are the same experiment on the same pictures."""
    data, trainer = config["data"], config["trainer"]
    arguments = {key: value for key, value in data.get("init_args", {}).items() if key not in NOT_IDENTITY}
    return json.dumps({"model": config["model"], "seed": config["seed_everything"], "data": [data["class_path"], arguments],
                       "trainer": {key: trainer.get(key) for key in LENGTH}}, sort_keys=True, default=str)


def load_runs_below(folder: Path) -> list:
    return load_runs([folder]) if any(folder.glob("*/status.json")) else []


def warn_of_a_busy_machine() -> None:
    """Threads that wait for each other are several times slower where another program holds one of the cores."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if not torch.cuda.is_available() and torch.get_num_threads() > 1 and load > 0.5 * cores:
        say_once(f"other programs keep this machine busy (load {load:.1f} on {cores} cores): OMP_NUM_THREADS=1 may be several times faster")


def describe_device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def calm_libraries() -> None:
    """Silences what the libraries say about themselves; warnings of ours, and errors, stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    os.environ.setdefault("WANDB_SILENT", "true")
    for pattern in (".*does not have many workers.*", ".*num_workers.*bottleneck.*", ".*smaller than the logging interval.*",
                    ".*isinstance\\(treespec, LeafSpec\\).*", ".*Checkpoint directory.*exists and is not empty.*",
                    ".*LightningCLI's args parameter.*"):
        warnings.filterwarnings("ignore", pattern)
