"""What there is: experiments, data sets, sweeps and figures, found by glob and described by their own first lines. Imports no torch."""

import argparse
import ast
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from callbacks.allowlist import check

HERE = Path(__file__).parent
FOLDERS = {"experiment": HERE / "configs", "data set": HERE / "configs" / "data", "sweep": HERE / "configs" / "sweeps",
           "figure": HERE / "figures"}
NOT_EXPERIMENTS = ("defaults",)
SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)      # libyaml parses 8 times faster
MOST_BYTES, MOST_PARTS, DEEPEST = 1_000_000, 100_000, 100       # of a YAML


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
    """The mapping in a YAML file, read by the safe loader; a `Mistake` with line and column where it is not one.

    Keys are strings, none stands twice, and no class or argument is named that would run foreign code (callbacks.allowlist).
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Mistake(f"{path}: {path.stat().st_size:,} bytes are no config (more than {MOST_BYTES:,}); is it the right file?")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Mistake(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise Mistake(f"{path}: cannot be read: {error.strerror}") from None
    except Mistake:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:     # a date of the 45th, a number of 5,000 digits
        raise Mistake(f"{path}: not YAML: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(content, dict):
        raise Mistake(f"{path}: expected a mapping of keys to values, found {type(content).__name__}")
    if num_parts(content) > MOST_PARTS:
        raise Mistake(f"{path}: it is nested deeper than {DEEPEST}, or its anchors stand for more than {MOST_PARTS:,} values; no config is")
    check(content, str(path))
    return content


class Loader(SafeLoader):       # type: ignore[misc,valid-type]
    """The safe loader that refuses what it would pass over in silence: a key that stands twice, of which the last one would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise yaml.constructor.ConstructorError(None, None, f"the key {getattr(key, 'value', key.id)!r} is no word; "
                                                        "write it in quotes", key.start_mark)
            if key.value in seen and key.tag.endswith("str"):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def num_parts(value: Any, known: dict[int, float] | None = None, depth: int = 0) -> float:
    """How many values a YAML has when its anchors are written out; infinite where one stands for itself, or is nested too deep."""
    known = {} if known is None else known
    if not isinstance(value, (dict, list)):
        return 1
    if depth > DEEPEST:
        return float("inf")
    if id(value) not in known:
        known[id(value)] = float("inf")
        known[id(value)] = 1 + sum(num_parts(item, known, depth + 1) for item in (value.values() if isinstance(value, dict) else value))
    return known[id(value)]
