"""`practicum sweep FILE`: every trial of a standard W&B sweep file, run here, in worker processes that import torch once.

The file is W&B's own format with flat dotted keys, plus `experiment: NAME` and `data: NAME` (either may be a parameter instead):

    experiment: ddpm_digits
    method: grid
    metric: {name: val/fd_digits_classifier, goal: minimize}
    parameters:
      model.schedule: {values: [LinearBetas, Cosine]}
      seed_everything: {values: [0, 1, 2]}
      trainer.max_steps: {value: 500}

The sweep's folder holds sweep.yaml, trials.jsonl, logs/ and a run folder for each trial. The same sweep into the same folder runs
only what is not finished yet. This module imports no torch: only the workers do.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from experiments.catalogue import FOLDERS, Arguments, Mistake, find, nearest, read_yaml
from experiments.request import as_flag, samples_in
from experiments.runs import load_runs, locked, new_id, read_lines, runs_root, scrub, write_atomically
from experiments.wandb_mode import settle_wandb_mode
from experiments.workers import Outcome, Slots

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

METHODS = ("grid", "random", "bayes")
KEYS = ("experiment", "data", "name", "method", "metric", "parameters", "run_cap")
WANDB_KEYS = ("program", "command", "project", "entity", "description")  # of no meaning here
PARAMETER_KEYS = ("value", "values", "min", "max", "distribution")
DISTRIBUTIONS = ("constant", "categorical", "uniform", "int_uniform", "log_uniform_values")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep: a list of choices, or a range from `low` to `high`."""

    distribution: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def suggest(self, trial: Trial, key: str) -> Any:
        if self.choices:
            return self.choices[trial.suggest_categorical(key, range(len(self.choices)))]  # an index: any YAML value
        if self.distribution == "int_uniform":
            return trial.suggest_int(key, int(self.low), int(self.high))
        return trial.suggest_float(key, self.low, self.high, log=self.distribution == "log_uniform_values")


@dataclass(frozen=True)
class Sweep:
    """A sweep file as read and checked."""

    name: str
    method: str
    parameters: dict[str, Parameter]
    metric: str | None
    minimize: bool
    num_trials: int
    text: str

    @classmethod
    def read(cls, file: str | Path) -> Sweep:
        """Reads a sweep: the name of a file of configs/sweeps, or a path. Raises `Mistake` that names key, value and remedy."""
        path = find("sweep", str(file))
        content = read_yaml(path)
        check_keys(path, content, KEYS, ignored=WANDB_KEYS)
        method = content.get("method")
        if method not in METHODS:
            raise Mistake(f"{path}: method {method!r} does not exist; {nearest(str(method), METHODS)}")
        given = content.get("parameters")
        if not isinstance(given, dict) or not given:
            raise Mistake(f"{path}: `parameters` is missing or empty; give it keys such as seed_everything: {{values: [0, 1]}}")
        parameters = {str(key): read_parameter(path, str(key), value) for key, value in given.items()}
        for key in ("experiment", "data"):
            if key in content:
                parameters = {key: Parameter("constant", (content[key],)), **parameters}
        if "experiment" not in parameters:
            raise Mistake(f"{path}: no experiment; add `experiment: NAME` (`practicum list` shows the names)")
        for key, kind in (("experiment", "experiment"), ("data", "data set")):
            for choice in parameters[key].choices if key in parameters else ():
                find(kind, str(choice))
        metric = content.get("metric") or {}
        check_keys(path, metric, ("name", "goal"))
        goal = metric.get("goal", "minimize")
        if goal not in ("minimize", "maximize"):
            raise Mistake(f"{path}: metric.goal {goal!r} does not exist; {nearest(str(goal), ('minimize', 'maximize'))}")
        if method == "bayes" and "name" not in metric:
            raise Mistake(f"{path}: method bayes needs a metric; add metric: {{name: val/..., goal: minimize}}")
        run_cap = content.get("run_cap")
        if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
            raise Mistake(f"{path}: run_cap {run_cap!r} is not a number of trials; give a whole number from 1 on")
        if method == "grid":
            if ranges := [key for key, parameter in parameters.items() if not parameter.choices]:
                raise Mistake(f"{path}: method grid needs values for {ranges[0]}; give `values: [...]`, or method: random")
            size = 1
            for parameter in parameters.values():
                size *= len(parameter.choices)
            num_trials = min(size, run_cap or size)
        elif run_cap is None:
            raise Mistake(f"{path}: method {method} has no end of its own; add `run_cap: 20`, the number of trials")
        else:
            num_trials = run_cap
        name = str(content.get("name") or path.stem)
        if not re.fullmatch(r"[\w][\w .-]{0,99}", name):
            raise Mistake(f"{path}: name {name[:100]!r} is no name of a folder; give letters, digits, _, - and . alone")
        text = yaml.safe_dump(scrub(content), sort_keys=False, allow_unicode=True)
        return cls(name, method, parameters, metric.get("name"), goal == "minimize", num_trials, text)

    def label(self, parameters: Mapping[str, Any]) -> str:
        """What tells a trial from the others of this sweep, such as "model.schedule=Cosine seed_everything=1"."""
        varying = {key: parameters[key] for key in self.parameters if len(self.parameters[key].choices) != 1}
        return " ".join(f"{key}={value}" for key, value in scrub(varying or dict(parameters)).items())

    def study(self) -> Study:
        """The Optuna study that gives out the trials, always the same ones; a grid in the order written, the last key fastest."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = {
            "grid": lambda: optuna.samplers.RandomSampler(seed=0),  # all trials are enqueued below
            "random": lambda: optuna.samplers.RandomSampler(seed=0),
            "bayes": lambda: optuna.samplers.TPESampler(seed=0, constant_liar=True),
        }[self.method]()
        study = optuna.create_study(sampler=sampler, direction="minimize" if self.minimize else "maximize")
        if self.method == "grid":
            indices = [range(len(parameter.choices)) for parameter in self.parameters.values()]
            for point in itertools.islice(itertools.product(*indices), self.num_trials):
                study.enqueue_trial(dict(zip(self.parameters, point, strict=True)))
        return study


@dataclass
class Attempt:
    """One trial as it goes: a line of trials.jsonl once it has ended."""

    number: int
    parameters: dict[str, Any]
    recipe: str  # hash of the files behind it: an edited experiment is run again
    folder: str = ""
    state: str = ""
    reason: str = ""
    seconds: float = 0.0

    @property
    def log(self) -> str:
        return f"trial-{self.number:02d}.log"

    @property
    def arguments(self) -> list[str]:
        """The arguments of `practicum fit`."""
        rest = {key: value for key, value in self.parameters.items() if key not in ("experiment", "data")}
        data = ["--data", str(self.parameters["data"])] if "data" in self.parameters else []
        return [
            str(self.parameters["experiment"]),
            *data,
            *(f"--{key}={as_flag(value)}" for key, value in rest.items()),
        ]


def check_keys(path: Path, content: Any, keys: Sequence[str], ignored: Sequence[str] = (), where: str = "") -> None:
    """Raises `Mistake` for something that is no mapping, or has a key that is not among `keys` and `ignored`."""
    if not isinstance(content, Mapping):
        raise Mistake(f"{path}: {where or 'metric'} is {content!r}; give a mapping with {', '.join(keys)}")
    for key in content:
        if key not in keys and key not in ignored:
            raise Mistake(f"{path}: unknown key {f'{where}.{key}' if where else key!r}; {nearest(str(key), keys)}")


def read_parameter(path: Path, key: str, content: Any) -> Parameter:
    """One entry of `parameters`: {value}, {values}, or {min, max[, distribution]}."""
    if isinstance(content, Mapping) and "parameters" in content:
        raise Mistake(f"{path}: parameter {key} is nested; write flat dotted keys: {key}.KEY: {{values: [...]}}")
    check_keys(path, content, PARAMETER_KEYS, where=key)
    if "value" in content:
        return Parameter("constant", (content["value"],))
    if "values" in content:
        values = content["values"]
        if not isinstance(values, list) or not values:
            raise Mistake(f"{path}: {key}.values is {values!r}; give a list with at least one value")
        return Parameter("categorical", tuple(values))
    low, high = content.get("min"), content.get("max")
    if not all(isinstance(bound, (int, float)) for bound in (low, high)) or low >= high:
        raise Mistake(f"{path}: parameter {key} is {dict(content)}; give value, values, or numbers min < max")
    whole = type(low) is int and type(high) is int
    distribution = content.get("distribution", "int_uniform" if whole else "uniform")
    if distribution not in DISTRIBUTIONS[2:]:
        raise Mistake(f"{path}: {key}.distribution {distribution!r} does not exist; {nearest(str(distribution), DISTRIBUTIONS[2:])}")
    if distribution == "log_uniform_values" and low <= 0:
        raise Mistake(f"{path}: {key}.min is {low}; a logarithmic range begins above 0")
    return Parameter(distribution, low=low, high=high)


def recipe(parameters: Mapping[str, Any]) -> str:
    """A hash of the YAML files that a trial is made of, beside its parameters."""
    files = [FOLDERS["experiment"] / "defaults.yaml", find("experiment", str(parameters["experiment"]))]
    if "data" in parameters:
        files.append(find("data set", str(parameters["data"])))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files if file.is_file())).hexdigest()[:16]


def run_sweep(file: str | Path, *, workers: int | None = None, out: Path | None = None) -> list[Path]:
    """Runs the trials of a sweep that are not finished yet; returns the run folders of all finished ones, in order.

    `workers` processes share the cores (default: as many as cores, one thread each; OMP_NUM_THREADS overrules). A failing trial does not
    stop the others: it is reported in one line and left out of what is returned. Raises `Mistake` for a wrong file.
    """
    folder, attempts = run_trials(Sweep.read(file), workers=workers, out=out)
    return [folder / attempt.folder for attempt in attempts if attempt.state == "finished"]


def run_trials(sweep: Sweep, *, workers: int | None = None, out: Path | None = None) -> tuple[Path, list[Attempt]]:
    """Like `run_sweep`; returns the sweep's folder and every attempt, failed ones too."""
    folder = out or runs_root() / sweep.name
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with locked(folder, f"sweep {folder}: another process runs it; wait for its end, or stop it"):
        return run_locked(sweep, folder, workers)


def run_locked(sweep: Sweep, folder: Path, workers: int | None) -> tuple[Path, list[Attempt]]:
    write_atomically(folder / "sweep.yaml", sweep.text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_workers = max(1, min(workers or cores, sweep.num_trials))
    print(settle_wandb_mode()[1], flush=True)  # once, here: the workers inherit it
    with Progress(sweep.name, sweep.num_trials, num_workers) as progress, Slots(num_workers, cores, folder) as slots:
        attempts = schedule(sweep, folder, slots, progress)
    return folder, attempts


def schedule(sweep: Sweep, folder: Path, slots: Slots, progress: Progress) -> list[Attempt]:
    """Asks for trials, runs each on the next free worker, and tells their results."""
    earlier = earlier_trials(folder)
    study = sweep.study()
    attempts: list[Attempt] = []
    running: dict[Future[Outcome], tuple[Trial, Attempt]] = {}
    prepared: set[tuple[str, ...]] = set()
    while len(attempts) < sweep.num_trials or running:
        while len(attempts) < sweep.num_trials and slots.free:
            trial = study.ask()
            parameters = {key: parameter.suggest(trial, key) for key, parameter in sweep.parameters.items()}
            attempt = Attempt(len(attempts), parameters, recipe(parameters))
            attempts.append(attempt)
            kept = earlier.get(key_of(attempt), {})
            if kept.get("state") == "finished":
                attempt.folder, attempt.state, attempt.seconds = kept["folder"], "finished", kept["seconds"]
                tell(study, trial, sweep, folder, attempt)
                progress.ended(sweep.label(parameters), attempt, kept=True)
                continue
            if not running and not prepared:
                slots.begin()
            experiment = find("experiment", str(parameters["experiment"]))
            attempt.folder = kept.get("folder") or f"{experiment.stem}-{new_id()}"
            if kept:
                progress.note(f"{sweep.label(parameters)}: goes on with {attempt.folder}")
            base = tuple(part for part in attempt.arguments if part.startswith("--data") or part[:2] != "--" or "samples:" in part)
            content = read_yaml(experiment)
            needs = [*content.get("needs", []), *sorted({name for name, _ in samples_in([content, attempt.arguments])})]
            if base not in prepared and needs:
                progress.note(f"first, unless finished runs are there, what {experiment.stem} needs: {', '.join(needs)}")
                progress.note(slots.prepare(attempt.arguments))
            prepared.add(base)
            attempt.state = "running"
            note(folder, attempt)
            running[slots.submit(attempt.arguments, folder / attempt.folder, attempt.log)] = trial, attempt
        for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
            trial, attempt = running.pop(future)
            attempt.reason, attempt.seconds = slots.result(future)
            attempt.state = "failed" if attempt.reason else "finished"
            note(folder, attempt)
            tell(study, trial, sweep, folder, attempt)
            progress.ended(sweep.label(attempt.parameters), attempt)
    return attempts


def key_of(attempt: Attempt) -> str:
    return json.dumps(scrub([attempt.parameters, attempt.recipe]), sort_keys=True)


def note(folder: Path, attempt: Attempt) -> None:
    """Appends a trial to trials.jsonl: when it begins, and when it has ended."""
    with open(folder / "trials.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(scrub(asdict(attempt))) + "\n")


def earlier_trials(folder: Path) -> dict[str, dict[str, Any]]:
    """The trials of a sweep's folder that need no new run, by what they were asked to do: finished ones, and those that something
    has stopped half-way."""
    found: dict[str, dict[str, Any]] = {}
    for kept in read_lines(folder / "trials.jsonl", "folder"):
        if Path(kept["folder"]).name != kept["folder"]:
            continue  # not of this sweep's folder
        status = folder / kept["folder"] / "status.json"
        state = json.loads(status.read_text()) if status.is_file() else {}
        if state.get("state") in ("finished", "running", "interrupted"):
            seconds = kept.get("seconds") or state.get("seconds", 0.0)
            found[json.dumps([kept["parameters"], kept["recipe"]], sort_keys=True)] = kept | {"state": state["state"], "seconds": seconds}
    return found


def tell(study: Study, trial: Trial, sweep: Sweep, folder: Path, attempt: Attempt) -> None:
    """Tells the study a trial's metric; a trial without one counts as failed."""
    from optuna.trial import TrialState

    value = None
    if sweep.metric and attempt.state == "finished":
        value = load_runs([folder / attempt.folder])[0].last(sweep.metric)
        if value is None:
            attempt.reason = f"it logged no {sweep.metric}"
    study.tell(trial, value, state=TrialState.FAIL if value is None else None)


class Progress:
    """Done, total, elapsed and an estimate of the rest: a bar in a terminal, one line per ended trial elsewhere."""

    def __init__(self, name: str, total: int, workers: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.total, self.workers = total, workers
        self.done, self.seconds = 0, list[float]()
        self.began = time.monotonic()
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        columns = (
            TextColumn(f"sweep {name}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
        )
        self.bar = Bar(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("", total=total, rest=f"{workers} workers begin")

    def __enter__(self) -> Self:
        self.bar.start()
        if not self.console.is_terminal:
            self.console.print(f"{self.total} trials on {self.workers} workers")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def ended(self, label: str, attempt: Attempt, kept: bool = False) -> None:
        self.done += 1
        if not kept:
            self.seconds.append(attempt.seconds)
        what = "kept, finished earlier" if kept else attempt.state + (f" ({attempt.reason})" if attempt.reason else "")
        rest = self._rest()
        place = "" if self.console.is_terminal else f"[{self.done}/{self.total}] "
        when = "" if self.console.is_terminal else f"; {duration(time.monotonic() - self.began)} elapsed, {rest}"
        self.console.print(f"{place}{label}: {what} in {duration(attempt.seconds)}{when}")
        self.bar.update(self.task, completed=self.done, rest=rest)

    def note(self, text: str) -> None:
        if text:
            self.console.print(text)

    def _rest(self) -> str:
        left = self.total - self.done
        if not left:
            return "done"
        if not self.seconds:
            return f"{left} left"
        rounds = -(-left // self.workers)
        return f"about {duration(sum(self.seconds) / len(self.seconds) * rounds)} left"


def duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def main(arguments: list[str]) -> int:
    """The verb `sweep`: 0 if all trials finished, 1 if one failed."""
    parser = Arguments(prog="practicum sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", help="a sweep of `practicum list`, or a path to a W&B sweep YAML")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: the number of cores)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the sweep's folder (default: runs/<its name>)")
    parser.add_argument("--dry-run", action="store_true", help="print the trials and run none")
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        raise Mistake(f"--workers {options.workers}: give at least 1")
    sweep = Sweep.read(options.file)
    if options.dry_run:
        study = sweep.study()
        for number in range(sweep.num_trials):
            trial = study.ask()
            parameters = {key: parameter.suggest(trial, key) for key, parameter in sweep.parameters.items()}
            print("practicum fit " + " ".join(Attempt(number, parameters, "").arguments))
        return 0
    folder, attempts = run_trials(sweep, workers=options.workers, out=options.out)
    failed = [attempt for attempt in attempts if attempt.state == "failed"]
    for attempt in failed:
        print(
            f"trial {attempt.number} failed: {attempt.reason} ({folder}/logs/{attempt.log})",
            file=sys.stderr,
        )
    print(f"{len(attempts) - len(failed)} of {len(attempts)} trials finished; next: practicum report {folder}")
    return 1 if failed else 0
