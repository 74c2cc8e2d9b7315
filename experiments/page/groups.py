"""Runs become groups: equal settings but for the seed, with a short name made of what differs."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.runs import Run

BOOKKEEPING = frozenset(
    {
        "seed_everything",
        "ckpt_path",
        "default_root_dir",
        "save_dir",
        "dirpath",
        "folder",
        "root_dir",
        "out",
        "logger",
        "config",
    }
)  # settings that say where a run is written, or which draw of chance it is; never what is compared
SAMPLES = re.compile(r"([^/]+)/[^/]+/samples/data-\d+-\d+$")  # pictures of a run: told by the run's experiment


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only; `settings` holds the values that set them apart from the other groups."""

    label: str
    index: int
    runs: tuple[Run, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def values(self, key: str) -> dict[int, float]:
        """Return the last value of a scalar by seed, without the runs that have not logged it."""
        return {seed(run): value for run in self.runs if (value := run.last(key)) is not None}

    def run_of(self, number: int) -> Run | None:
        """Return the run with this seed, or None."""
        return next((run for run in self.runs if seed(run) == number), None)


@dataclass(frozen=True)
class Comparison:
    """What a page is about: groups in order of their start, the names of the settings that differ, and the runs left out."""

    title: str
    groups: tuple[Group, ...]
    differing: tuple[str, ...]
    paths: tuple[str, ...] = ()  # the dotted keys, down to plain values, that tell the groups apart
    left_out: tuple[tuple[Run, str], ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def seeds(self) -> list[int]:
        return sorted({seed(run) for run in self.runs})

    def logged(self) -> list[str]:
        """Return every scalar key of any run, in order of first appearance."""
        return list(dict.fromkeys(key for run in self.runs for key in run.scalars))


def seed(run: Run) -> int:
    """Return the seed of a run; 0 where it names none."""
    return run.seed or 0


def num_steps(run: Run) -> int:
    """Return the number of training steps made: loggers count from 0, so a whole run of N steps ends with step N - 1."""
    step = int(run.status.get("step") or 0)
    planned = run.config.get("trainer", {}).get("max_steps")
    return step + 1 if isinstance(planned, int) and step + 1 == planned else step


def compare(runs: Sequence[Run], title: str = "") -> Comparison:
    """Sort runs into groups; unfinished runs and earlier repeats of the same settings and seed are left out, and listed."""
    if not runs:
        raise ValueError("no runs to report: name run folders, for instance `practicum report runs/ddpm_digits`")
    ordered = sorted(runs, key=lambda run: (str(run.status.get("started", "")), run.id))
    finished = [run for run in ordered if run.state == "finished"] or ordered
    left_out = [(run, f"state: {run.state}") for run in ordered if run not in finished]

    gathered: dict[str, dict[int, Run]] = {}
    for run in finished:
        same = gathered.setdefault(json.dumps(_settings(run.config), sort_keys=True, default=str), {})
        if seed(run) in same:
            left_out.append((same[seed(run)], f"an earlier repeat of {run.id}"))
        same[seed(run)] = run
    members = [tuple(run for _, run in sorted(same.items())) for same in gathered.values()]
    differing = dict(_differences("", [_settings(runs[0].config) for runs in members]))
    order = _order(differing, len(members))
    members = [members[i] for i in order]
    differing = {path: _without_shared_arguments([values[i] for i in order]) for path, values in differing.items()}
    names = _short_names(list(differing))
    labels = _labels([runs[0].name for runs in members], {names[path]: differing[path] for path in _model_first(differing)})
    groups = tuple(
        Group(label, index, runs, {names[path]: values[index] for path, values in differing.items()})
        for index, (label, runs) in enumerate(zip(labels, members, strict=True))
    )
    return Comparison(title or _title(groups), groups, tuple(names.values()), _plain_paths(differing), tuple(left_out))


def short(value: Any, arguments: bool = True) -> str:
    """Write a setting in few characters: an object as its class and arguments, a number with at most four digits."""
    if isinstance(value, dict) and "class_path" in value:
        name = words(value["class_path"])
        given = value.get("init_args") or {}
        inner = ", ".join(f"{key}={short(item)}" for key, item in given.items())
        return f"{name} ({inner})" if inner and arguments else name
    if isinstance(value, dict):
        return ", ".join(f"{key}={short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(short(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and (drawn := SAMPLES.search(value)):
        return drawn[1]
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def words(class_path: str) -> str:
    """Return a class's name as the lecture says it: LinearBetas -> linear, OffsetCosine -> offset cosine, DDIM -> DDIM."""
    name = class_path.rsplit(".", 1)[-1]
    if not re.fullmatch(r"([A-Z][a-z]+)+", name):
        return name
    parts = [part.lower() for part in re.findall(r"[A-Z][a-z]+", name)]
    return " ".join(parts[:-1] if len(parts) > 1 and parts[-1] == "betas" else parts)


def _settings(config: dict[str, Any]) -> Any:
    if isinstance(config, dict):
        return {key: _settings(value) for key, value in config.items() if key not in BOOKKEEPING}
    return [_settings(value) for value in config] if isinstance(config, list) else config


def _differences(path: str, values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the smallest parts of the settings that differ; an object whose class differs is one part, arguments and all."""
    if all(value == values[0] for value in values):
        return
    if all(isinstance(value, dict) for value in values) and len({value.get("class_path") for value in values}) == 1:
        for key in dict.fromkeys(key for value in values for key in value):
            yield from _differences(f"{path}.{key}".lstrip("."), [value.get(key) for value in values])
    elif all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1:
        for number, items in enumerate(zip(*values, strict=True)):
            yield from _differences(f"{path}.{number}", list(items))
    else:
        yield path, values


def _without_shared_arguments(values: list[Any]) -> list[Any]:
    """Objects keep the arguments that set them apart: what all of them have, with the same value, is dropped."""
    if not all(isinstance(value, dict) and isinstance(value.get("init_args"), dict) for value in values):
        return values
    first = values[0]["init_args"]
    shared = {key for key in first if all(key in value["init_args"] and value["init_args"][key] == first[key] for value in values)}
    return [{**value, "init_args": {key: item for key, item in value["init_args"].items() if key not in shared}} for value in values]


def _plain_paths(differing: dict[str, list[Any]]) -> tuple[str, ...]:
    """An object is told by its class and, where two groups have the same class, by the arguments that differ."""
    paths = []
    for path, values in differing.items():
        classes = [value.get("class_path") for value in values if isinstance(value, dict)]
        if len(classes) < len(values) or None in classes:
            paths.append(path)
            continue
        paths.append(f"{path}.class_path")
        if len(set(classes)) < len(classes):
            paths += dict.fromkeys(f"{path}.init_args.{key}" for value in values for key in value.get("init_args") or {})
    return tuple(paths)


def _order(differing: dict[str, list[Any]], count: int) -> list[int]:
    """Groups keep the order of their first run; a sweep of numbers goes from the smallest to the largest."""
    if differing and all(isinstance(value, int | float) for values in differing.values() for value in values):
        return sorted(range(count), key=lambda i: [values[i] for values in differing.values()])
    return list(range(count))


def _short_names(paths: list[str]) -> dict[str, str]:
    """Name each dotted key by as few of its last parts as keep the names apart."""
    parts = {path: [part for part in path.split(".") if part != "init_args"] for path in paths}
    names = {}
    for path in paths:
        depth = next(
            depth
            for depth in range(1, len(parts[path]) + 1)
            if depth == len(parts[path]) or sum(other[-depth:] == parts[path][-depth:] for other in parts.values()) == 1
        )
        names[path] = ".".join(parts[path][-depth:])
    return names


def _model_first(paths: Iterable[str]) -> list[str]:
    return sorted(
        paths,
        key=lambda path: ("model", "data").index(root) if (root := path.split(".")[0]) in ("model", "data") else 2,
    )


def _labels(experiments: list[str], differing: dict[str, list[Any]]) -> list[str]:
    """Name groups by as few settings as tell them apart; by their experiments where more than two would be needed."""
    if not differing:
        return experiments
    for arguments in (False, True):
        chosen: dict[str, list[Any]] = {}
        for key, values in differing.items():
            with_it = _setting_labels({**chosen, key: values}, len(experiments), arguments)
            if len(set(with_it)) > len(set(_setting_labels(chosen, len(experiments), arguments))):
                chosen[key] = values
        labels = _setting_labels(chosen, len(experiments), arguments)
        if len(chosen) > 2 and len(set(experiments)) == len(experiments):
            return _without_shared_ends(experiments)
        if len(set(labels)) == len(labels):
            return labels
    return [f"{label} #{number}" if labels.count(label) > 1 else label for number, label in enumerate(labels, 1)]


def _setting_labels(differing: dict[str, list[Any]], count: int, arguments: bool) -> list[str]:
    def part(key: str, value: Any) -> str:
        named = isinstance(value, dict) and "class_path" in value
        return short(value, arguments) if named else f"{key.rsplit('.', 1)[-1]} {short(value)}"

    return [" · ".join(part(key, values[i]) for key, values in differing.items()) for i in range(count)]


def _without_shared_ends(names: list[str]) -> list[str]:
    """ddpm_cifar10_linear, ddpm_cifar10_cosine -> linear, cosine."""
    split = [name.split("_") for name in names]
    while all(len(parts) > 1 for parts in split) and len({parts[0] for parts in split}) == 1:
        split = [parts[1:] for parts in split]
    while all(len(parts) > 1 for parts in split) and len({parts[-1] for parts in split}) == 1:
        split = [parts[:-1] for parts in split]
    return [" ".join(parts) for parts in split]


def _title(groups: tuple[Group, ...]) -> str:
    data = {str(run.status["title"]) for group in groups for run in group.runs if run.status.get("title")}
    where = f", on {', '.join(sorted(data))}" if data else ""
    labels = [group.label for group in groups]
    if len(labels) == 1:
        return f"{labels[0]}{where}"
    listed = f"{', '.join(labels[:-1])} or {labels[-1]}"
    if len(listed) > 70:
        return f"{len(labels)} groups{where}"
    settings = list(groups[0].settings)
    return f"{settings[0]}: {listed.replace(f'{settings[0]} ', '')}{where}" if len(settings) == 1 else f"{listed}{where}"
