"""`practicum fit`, `resume`, `validate`, `test`: an experiment's YAML becomes a trained run folder, by the one LightningCLI."""

import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from callbacks import checkpoints
from callbacks.allowlist import flags as allowing
from callbacks.allowlist import run_config
from callbacks.stopping import Stopped
from datamodules.sources import say_once
from experiments.catalogue import Mistake, nearest
from experiments.command_line import CommandLine, data_module, facts, parse_data
from experiments.request import Request, samples_in, split_equals
from experiments.runs import find_run, flatten, is_run, load_runs, locked, new_run_folder, runs_root
from experiments.sampling import draw_data_set
from experiments.wandb_mode import finish, settle_wandb_mode

NOT_IDENTITY = ("batch_size", "num_workers", "flip")       # arguments that do not change which pictures a data set holds
FREE = ("checkpoints", "trainer.accelerator", "trainer.devices", "data.num_workers")      # may change from one resume to the next
LENGTH = ("max_steps", "max_epochs", "max_time", "limit_train_batches", "overfit_batches")
FIT_USAGE = """usage: practicum fit NAME [--data D] [--out DIR] [--KEY VALUE ...]

  NAME              an experiment of `practicum list`, or a path to a YAML
  --data D          a data set of `practicum list`; its parts: --data.path DIR_OR_HUB_ID --data.image_size 32 ...
  --out DIR         the run folder (default: runs/NAME/ID); one that holds this very run, unfinished, is gone on with
  --KEY VALUE       any key of the YAML: --model.schedule Cosine --trainer.max_steps 100 --seed_everything 3
  --checkpoints.every_minutes 5 --checkpoints.keep 2"""
RESUME_USAGE = """usage: practicum resume RUN [--KEY VALUE ...] [--allow-change KEY ...]

  RUN                 a run folder, or NAME/ID: it goes on from its newest whole checkpoint as if it had never stopped
  --KEY VALUE         a key that is to be another one, such as --trainer.max_steps 2000; each needs
  --allow-change KEY  the key again (trainer.max_steps, or all of `model`), or `data` if the pictures may be others"""


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
    if is_run(folder):
        return resume(folder, quiet=quiet, wanted=check(request, known, needed))
    line = command_line(folder, request.command_line(needed), experiment=request.experiment, facts=known, quiet=quiet,
                        command=["practicum", "fit", *arguments, *allowing()])
    return train(line, mode)


def resume(folder: Path, flags: Sequence[str] = (), allowed: Sequence[str] = (), *, quiet: bool = False,
           wanted: Mapping[str, Any] | None = None) -> Path:
    """Goes on with a run from its newest whole checkpoint, or from the beginning where it has none; returns its folder.

    `wanted` is the resolved config of a `fit` that found the folder taken. Raises `Mistake` for a run that is finished, for a config or
    data that have changed, unless `allowed` names the key, and for a run that another process is training.
    """
    calm_libraries()
    status = json.loads((folder / "status.json").read_text())
    former = run_config(folder)
    arguments = ["--config", str(folder / "config.yaml"), *flags]
    config = wanted or CommandLine(arguments, experiment=status["experiment"], folder=folder, parse_only=True).config_dump
    changes = refuse_changes(folder, former, config, allowed)
    if status["state"] == "finished" and not changes:
        raise Mistake(f"run {folder} is finished, after {status['step'] + 1} steps; make it longer with `practicum resume {folder}"
                      " --trainer.max_steps N --allow-change trainer.max_steps`, or choose another folder")
    refuse_other_data(folder, status, config, allowed)
    mode = settle_wandb_mode()[1]
    with training(folder):
        checkpoints.sweep_up(folder / "checkpoints")
        checkpoint = checkpoints.newest_valid(folder / "checkpoints")
        line = command_line(folder, arguments, experiment=status["experiment"], command=shlex.split(status["command"]), quiet=quiet)
        record: Any = line.trainer.loggers[0]
        if changes:
            record.update(changes=[*status.get("changes", []), *changes])
        if checkpoint is None:
            record.rewind(None)
        if not quiet:
            say_once(f"run {folder}: {'no whole checkpoint, begins again' if checkpoint is None else f'goes on from {checkpoint.name}'}")
        return train(line, mode, checkpoint, locked=True)


def refuse_changes(folder: Path, former: Mapping[str, Any], config: Mapping[str, Any], allowed: Sequence[str]) -> list[str]:
    """The changes between two resolved configs, as "key: 1 -> 2"; raises `Mistake` for one whose key, or a key above it, is not allowed."""
    before, after = ({key.replace(".init_args", ""): value for key, value in flatten(one)} for one in (former, config))
    keys = [key for key in [*before, *(key for key in after if key not in before)]
            if before.get(key) != after.get(key) and not is_below(key, FREE)]
    known = {".".join(key.split(".")[:depth]) for key in [*before, *after] for depth in range(1, key.count(".") + 2)}
    for key in allowed:
        if key not in known:
            raise Mistake(f"--allow-change {key}: there is no such key; {nearest(key, known)}")
    for key in keys:
        if not is_below(key, allowed):
            raise Mistake(f"run {folder}: {key} is {before.get(key)!r} there and {after.get(key)!r} here; choose another folder, or"
                          f" `practicum resume {folder} --{key} {after.get(key)} --allow-change {key}`")
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


def is_below(key: str, parents: Sequence[str]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def refuse_other_data(folder: Path, status: Mapping[str, Any], config: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Raises `Mistake` where the pictures, or what stands beside them, are not those that the run began with."""
    if (former := status.get("data_fingerprint")) is None or is_below("data", allowed):
        return
    module = data_module(Namespace(config["data"]))
    module.prepare_data()
    if module.fingerprint != former:
        raise Mistake(f"run {folder}: its data had the fingerprint {former}, {module.title} now has {module.fingerprint}; bring the former"
                      " data back, or go on with these: --allow-change data")


def command_line(folder: Path, arguments: list[str], **how: Any) -> CommandLine:
    """The parts of a training; the empty folder of one that cannot begin is removed."""
    try:
        return CommandLine(arguments, folder=folder, **how)
    except Mistake:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def train(line: CommandLine, mode: str, checkpoint: Path | None = None, locked: bool = False) -> Path:
    """Runs the fit loop, from a checkpoint or from the beginning, and returns the run folder."""
    if not line.quiet:
        say_once(mode)
        warn_of_a_busy_machine()
    with nullcontext() if locked else training(line.folder):
        line.datamodule.prepare_data()
        record: Any = line.trainer.loggers[0]
        record.update(data_fingerprint=getattr(line.datamodule, "fingerprint", None))
        try:
            run_stage(line, "fit", checkpoint)
        except Stopped as stop:
            stop.args = (f"{stop}; `practicum resume {line.folder}` goes on",)
            raise
    return line.folder


def training(folder: Path) -> AbstractContextManager[None]:
    """Holds a run folder for this process; ValueError where another one trains there."""
    return locked(folder, f"run {folder}: another process is training it; wait for its end, or stop it")


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


def check(request: Request, known: Mapping[str, int] | None = None, needed: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """The resolved config of a request; raises `Mistake` for a wrong key, value or class, before anything is trained."""
    needed = needed or {Request(need).experiment: Path(need) for need in request.needs}
    line = CommandLine(request.command_line(needed), experiment=request.experiment, folder=Path(), facts=known, parse_only=True)
    return line.config_dump


def fit_need(need: str, request: Request, quiet: bool) -> Path:
    """The finished run of a needed experiment; trained now, on the same data if its YAML names none, where there is none."""
    own = Request(need)
    own.data_arguments = Request(need).data_arguments if "data" in own.yaml else request.data_arguments
    wanted = recipe(check(own, facts(parse_data(own))))
    same = [run for run in reversed(load_runs_below(runs_root() / own.experiment)) if recipe(run.config) == wanted]
    for run in same:
        if run.state == "finished":
            return run.folder
    for run in same:
        if any((run.folder / "checkpoints").glob("*.ckpt")) and not is_training(run.folder):
            print(f"{request.experiment} needs {own.experiment}: going on with {run.folder}", file=sys.stderr)
            return resume(run.folder, quiet=quiet)
    where = "" if "data" in own.yaml else " on the same data"
    print(f"{request.experiment} needs {own.experiment}{where}: training it first", file=sys.stderr)
    return fit([need, *own.data_flags], quiet=quiet)


def evaluate(run: str, stage: str, flags: list[str]) -> Path:
    """Runs the validation or test loop of a run's last checkpoint, metrics and all, and appends to its record."""
    folder = find_run(run)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        raise Mistake(f"run {folder}: no checkpoint there ({checkpoint.name}); train it first with `practicum fit`")
    weights = checkpoints.load(checkpoint)["state_dict"]
    calm_libraries()
    status = json.loads((folder / "status.json").read_text())
    run_config(folder)      # which says what is wrong with it
    line = CommandLine(["--config", str(folder / "config.yaml"), *split_equals(flags)], experiment=status["experiment"],
                       folder=folder, stage=stage, command=shlex.split(status.get("command", "")))
    try:
        line.model.load_state_dict(weights)
    except RuntimeError:
        raise Mistake(f"run {folder}: its config.yaml and flags describe another model than the one in {checkpoint.name}") from None
    run_stage(line, stage)
    return folder


def run_stage(line: CommandLine, stage: str, checkpoint: Path | None = None) -> None:
    """trainer.fit, .validate or .test; the record is closed whatever happens, and a crash of the run is never hidden."""
    record = line.trainer.loggers[0]
    try:
        if stage == "fit":
            with line.resumable.signals as signals:
                line.trainer.fit(line.model, datamodule=line.datamodule, ckpt_path=checkpoint, weights_only=True)
                signals.check()
        else:
            getattr(line.trainer, stage)(line.model, datamodule=line.datamodule)
    except BaseException:
        record.finalize("failed")
        raise
    finally:
        finish()


def main_fit(arguments: list[str]) -> int:
    """The verb `fit`."""
    if "-h" in arguments or "--help" in arguments:
        print(FIT_USAGE)
        return 0
    folder = fit(arguments)
    report(folder)
    return 0


def main_resume(arguments: list[str]) -> int:
    """The verb `resume`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(RESUME_USAGE)
        return 0 if arguments else 2
    flags, allowed = list[str](), list[str]()
    rest = iter(split_equals(arguments[1:]))
    for flag in rest:
        if flag != "--allow-change":
            flags.append(flag)
        elif (key := next(rest, None)) is None:
            raise Mistake("--allow-change needs a key, such as trainer.max_steps")
        else:
            allowed.append(key)
    report(resume(find_unfinished(arguments[0]), flags, allowed))
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


def recipe(config: Mapping[str, Any]) -> str:
    """What decides the weights of a run: two resolved configs with equal recipes are the same experiment on the same pictures."""
    data, trainer = config["data"], config["trainer"]
    arguments = {key: value for key, value in data.get("init_args", {}).items() if key not in NOT_IDENTITY}
    return json.dumps({"model": config["model"], "seed": config["seed_everything"], "data": [data["class_path"], arguments],
                       "trainer": {key: trainer.get(key) for key in LENGTH}}, sort_keys=True, default=str)


def find_unfinished(spec: str) -> Path:
    """The run folder meant by a path, by NAME/ID, or by NAME: its newest run, finished or not."""
    folder = runs_root() / spec
    runs = sorted(run for run in folder.iterdir() if is_run(run) and not run.is_symlink()) if folder.is_dir() else []
    return runs[-1].resolve() if runs and not is_run(Path(spec)) else find_run(spec)


def is_training(folder: Path) -> bool:
    """Whether a process trains this run now."""
    try:
        with training(folder):
            return False
    except ValueError:
        return True


def load_runs_below(folder: Path) -> list:
    return load_runs([folder]) if any(folder.glob("*/status.json")) else []


def warn_of_a_busy_machine() -> None:
    """Threads that wait for each other are several times slower where another program holds one of the cores."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if not torch.cuda.is_available() and torch.get_num_threads() > 1 and load > 0.5 * cores:
        say_once(f"other programs keep this machine busy (load {load:.1f} on {cores} cores): OMP_NUM_THREADS=1 may be several times faster")


def calm_libraries() -> None:
    """Silences what the libraries say about themselves; warnings of ours, and errors, stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    os.environ.setdefault("WANDB_SILENT", "true")
    for pattern in (".*does not have many workers.*", ".*num_workers.*bottleneck.*", ".*smaller than the logging interval.*",
                    ".*isinstance\\(treespec, LeafSpec\\).*", ".*Checkpoint directory.*exists and is not empty.*",
                    ".*LightningCLI's args parameter.*", ".*checkpoint that ended before the epoch ended.*"):
        warnings.filterwarnings("ignore", pattern)
