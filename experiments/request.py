"""What the user asked for: NAME, --data, --out and flags, read into arguments for LightningCLI. Imports no torch.

An experiment is a YAML of experiments/configs. Beside LightningCLI's keys (model, trainer, seed_everything) it may hold
`data: NAME` (a file of configs/data), `needs: [NAME, ...]` (experiments trained first; a string `run:NAME` is their run folder),
and dotted keys such as `data.image_size: 16`, which mean the same as on the command line.

In an experiment's YAML and in flags (so in the parameters of a sweep too) a string `samples:NAME:NUM` is the folder of a data set
of NUM pictures (default 10,000) drawn with seed 0 from the finished run of experiment NAME, which names its data set itself. The
string says all, so `needs:` does not name it: what the settled config uses is trained where no finished run is there, and drawn
once, into RUN/samples/data-NUM-SEED.
"""

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.catalogue import FOLDERS, Mistake, entries, find, nearest, read_yaml

DEFAULTS = FOLDERS["experiment"] / "defaults.yaml"
DEFAULT_DATA = "datamodules.image_classes.ImageClasses"
SAMPLES = re.compile(r"\bsamples:([\w./-]+)(?::(\d+))?")
NUM_SAMPLES = 10000


@dataclass
class Request:
    """What the user asked `fit` for."""

    name: str
    data: str | None = None
    out: Path | None = None
    flags: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, arguments: list[str]) -> "Request":
        """Parses NAME, --data, --out, and keeps every other flag for LightningCLI."""
        if not arguments or arguments[0].startswith("-"):
            raise Mistake(f"which experiment? {nearest('', [entry.name for entry in entries('experiment')])}")
        request = cls(arguments[0])
        rest = iter(split_equals(arguments[1:]))
        for flag in rest:
            if flag not in ("--data", "--out"):
                request.flags.append(flag)
                continue
            value = next(rest, None)
            if value is None:
                raise Mistake(f"{flag} needs a value")
            if flag == "--out":
                request.out = Path(value)
            else:
                request.data = value
        return request

    @cached_property
    def file(self) -> Path:
        return find("experiment", self.name)

    @cached_property
    def yaml(self) -> dict[str, Any]:
        content = read_yaml(self.file)
        if not isinstance(content.get("data", ""), str):
            raise Mistake(f"{self.file}: data: {str(content['data'])[:100]!r} is no name; give one of `practicum list`, or a YAML")
        needs = content.get("needs", [])
        if not isinstance(needs, list) or not all(isinstance(need, str) for need in needs):
            raise Mistake(f"{self.file}: needs: {str(needs)[:100]!r} is no list of experiments; write needs: [classifier]")
        return content

    @property
    def experiment(self) -> str:
        return self.file.stem

    @property
    def needs(self) -> list[str]:
        return self.yaml.get("needs", [])

    @cached_property
    def dotted(self) -> list[str]:
        """The YAML's dotted keys and then the user's flags, as flags: `--data.image_size`, `16`, ..."""
        written = [part for key, value in self.yaml.items() if "." in key for part in (f"--{key}", as_flag(value))]
        return written + self.flags

    @cached_property
    def data_arguments(self) -> list[str]:
        """The flags that choose the data set: all that decides what a needed experiment trains on."""
        name = self.data or self.yaml.get("data")
        pairs = [part for flag, value in flag_pairs(self.dotted) if flag.startswith("--data.") for part in (flag, *value)]
        if name is not None:
            read_yaml(found := find("data set", name))      # which says what is wrong with it
            return ["--config", str(found), *pairs]
        if "--data.path" not in pairs:
            names = ", ".join(entry.name for entry in entries("data set"))
            raise Mistake(f"{self.experiment} trains on any data set: say which, --data NAME (one of {names}) or --data.path DIR")
        return ["--data", DEFAULT_DATA, *pairs]

    def command_line(self, needed: Mapping[str, Path]) -> list[str]:
        """The arguments for LightningCLI: defaults, then the experiment, then the data set, then the flags."""
        own = deepcopy({key: value for key, value in self.yaml.items() if key not in ("data", "needs") and "." not in key})
        others = [part for flag, value in flag_pairs(self.dotted) if not flag.startswith("--data.")
                  if not (value == ["null"] and set_null(own, flag.removeprefix("--").split("."))) for part in (flag, *value)]
        return ["--config", str(DEFAULTS), "--config", json.dumps(with_runs(own, needed)), *self.data_arguments, *others]

    def with_samples(self, folders: Mapping[tuple[str, int], Path]) -> "Request":
        """The same request, reading the folders in the place of their `samples:NAME:NUM`."""
        settled = Request(self.name, self.data, self.out, with_samples(self.flags, folders))
        settled.yaml = with_samples(self.yaml, folders)
        return settled

    @property
    def data_flags(self) -> list[str]:
        """`data_arguments` in the form in which `fit` takes them, for an experiment that trains on the same data."""
        first, which, *rest = self.data_arguments
        if first != "--config":
            return rest
        return ["--data", Path(which).stem if Path(which).parent == FOLDERS["data set"] else which, *rest]


def with_runs(value: Any, needed: Mapping[str, Path]) -> Any:
    """The same YAML with every string `run:NAME` replaced by the run folder of that needed experiment."""
    if isinstance(value, dict):
        return {key: with_runs(item, needed) for key, item in value.items()}
    if isinstance(value, list):
        return [with_runs(item, needed) for item in value]
    if isinstance(value, str) and (match := re.fullmatch(r"run:(\w+)", value)):
        if match[1] not in needed:
            raise Mistake(f"{value!r} is used but `needs:` does not name {match[1]}; add it: needs: [{match[1]}]")
        return str(needed[match[1]].resolve())
    return value


def samples_in(value: Any) -> set[tuple[str, int]]:
    """(NAME, NUM) of every `samples:NAME:NUM` in a YAML, a config or flags."""
    found = SAMPLES.findall(json.dumps(value, default=str))
    return {(name, int(num or NUM_SAMPLES)) for name, num in found}


def with_samples(value: Any, folders: Mapping[tuple[str, int], Path]) -> Any:
    """The same YAML or flags with the folder in the place of each `samples:NAME:NUM` that has one."""
    def folder(match: re.Match[str]) -> str:
        return str(folders.get((match[1], int(match[2] or NUM_SAMPLES)), match[0]))

    if isinstance(value, dict):
        return {key: with_samples(item, folders) for key, item in value.items()}
    if isinstance(value, list):
        return [with_samples(item, folders) for item in value]
    return SAMPLES.sub(folder, value) if isinstance(value, str) else value


def set_null(value: Any, path: list[str]) -> bool:
    """Sets a key that a YAML holds inside a class's `init_args` to null; whether it is there.

    jsonargparse takes `--model.network.num_classes null`, two classes deep, for the word "None".
    """
    key, *rest = path
    if isinstance(value, dict) and key not in value and key in value.get("init_args", {}):
        value = value["init_args"]
    if not isinstance(value, dict) or key not in value:
        return False
    if rest:
        return set_null(value[key], rest)
    value[key] = None
    return True


def split_equals(arguments: list[str]) -> list[str]:
    """`--key=value` as two arguments."""
    return [part for argument in arguments
            for part in (argument.split("=", 1) if re.match(r"--[\w.+]+=", argument) else [argument])]


def flag_pairs(arguments: list[str]) -> list[tuple[str, list[str]]]:
    """[--a, 1, --b, --c, 2] -> [(--a, [1]), (--b, []), (--c, [2])]"""
    pairs: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--") or not pairs:
            pairs.append((argument, []))
        else:
            pairs[-1][1].append(argument)
    return pairs


def as_flag(value: Any) -> str:
    """A YAML value as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)
