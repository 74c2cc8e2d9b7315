"""What there is: experiments, data sets, sweeps and figures, found by glob and described by their own first lines. Imports no torch."""

import argparse
import ast
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from callbacks import allowlist

HERE = Path(__file__).parent
FOLDERS = {"experiment": HERE / "configs", "data set": HERE / "configs" / "data", "sweep": HERE / "configs" / "sweeps",
           "figure": HERE / "figures"}
NOT_EXPERIMENTS = ("defaults",)


class Mistake(ValueError):
    """A user's mistake: one line that says what, where and the remedy. The command line prints it and exits with code 2."""


class Arguments(argparse.ArgumentParser):
    """An argparse parser whose mistakes are one line, with the nearest flag, and without the usage."""

    def error(self, message: str) -> NoReturn:
        if match := re.match(r"unrecognized arguments: (-\S+)", message):
            flag = match[1].split("=")[0]
            raise Mistake(f"unknown flag {flag}; {nearest(flag, self._option_string_actions)}")
        raise Mistake(f"{message} (`{self.prog} --help` says more)")


@dataclass(frozen=True)
class Entry:
    """One experiment, data set, sweep or figure."""

    name: str
    path: Path

    @property
    def summary(self) -> str:
        """The first comment line of a YAML file, or the first line of a figure's docstring."""
        if self.path.suffix == ".py":
            return (ast.get_docstring(ast.parse(self.path.read_text())) or "").split("\n")[0]
        first = self.path.read_text().split("\n", 1)[0]
        return first.removeprefix("#").strip() if first.startswith("#") else ""


def entries(kind: str) -> list[Entry]:
    """Everything of a kind ("experiment", "data set", "sweep" or "figure"), by name."""
    pattern = "*.py" if kind == "figure" else "*.yaml"
    return [Entry(path.stem, path) for path in sorted(FOLDERS[kind].glob(pattern))
            if path.stem not in NOT_EXPERIMENTS and not path.stem.startswith("_")]


def find(kind: str, name: str) -> Path:
    """The file of a name, or the file itself if `name` is a path to a YAML; else a `Mistake` with the nearest name."""
    for entry in entries(kind):
        if entry.name == name:
            return entry.path
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise Mistake(f"{kind} {name!r}: there is no such file; `practicum list` shows the built-in names")
    raise Mistake(f"{kind} {name!r} does not exist; {nearest(name, [entry.name for entry in entries(kind)])}")


def nearest(name: str, names: Iterable[str]) -> str:
    """The remedy for a misspelt name: "nearest: a, b", or all the names where none is near."""
    names, name = sorted(set(names)), name[:200]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"nearest: {', '.join(near)}"
    return f"there are: {', '.join(names[:20])}" if names else "there is none"


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file, read and checked as `callbacks.allowlist.read_yaml` does; a `Mistake` where it is not one."""
    try:
        return allowlist.read_yaml(path)
    except ValueError as error:
        raise Mistake(str(error)) from None
