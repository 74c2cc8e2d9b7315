"""Whose code a config may name: a YAML, a flag, a sweep or a run folder of others must not run code that came with it.

A class path is imported only if its module begins with one of `PREFIXES`, or one that the user has added with
`--allow-module PREFIX` or the environment variable PRACTICUM_ALLOW_MODULES (several: with commas). Imports no torch.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

VARIABLE = "PRACTICUM_ALLOW_MODULES"
FLAG = "--allow-module"
PREFIXES = (
    *("lightning_modules", "callbacks", "datamodules"),
    *("torch", "lightning", "torchmetrics", "timm", "open_clip", "transformers"),
)
# Parts of those that run, unpickle or fetch whatever they are told to.
DENIED = (
    *("torch.hub", "torch.load", "torch.jit", "torch.package", "torch.export", "torch.multiprocessing", "torch.distributed.run"),
    *("torch.utils.cpp_extension", "torch.utils.collect_env", "torch.utils.model_zoo", "torch.distributed.elastic"),
    *("torch.distributed.launcher", "torch.testing", "torch._inductor", "torch._dynamo", "callbacks.allowlist"),
)
# Modules that others have imported, so that a path through an allowed module reaches them.
MACHINERY = (
    *("os", "posix", "nt", "sys", "subprocess", "builtins", "importlib", "runpy", "code", "ctypes", "pickle", "marshal"),
    *("shutil", "socket", "functools", "operator", "inspect", "types"),
)
# Arguments by which a library is told to run foreign code, and the value that does not.
HARMLESS = {"trust_remote_code": False, "weights_only": True, "load_weights_only": True}

MOST_BYTES, MOST_PARTS, DEEPEST = 1_000_000, 100_000, 100  # of a YAML
NESTING = re.compile(r"[\[{]|[-?]\s|\n {100}")  # what begins a collection
SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml parses 8 times faster

_ever_added: set[str] = set()


class NotAllowed(ValueError):
    """A class path, or an argument, that would run code which nobody has allowed. One line, with the remedy."""


def added() -> list[str]:
    """The prefixes that the user has added; ValueError for what is no module's name."""
    found = [prefix.strip() for prefix in os.environ.get(VARIABLE, "").split(",") if prefix.strip()]
    for prefix in found:
        if not all(part.isidentifier() for part in prefix.split(".")) or prefix.split(".")[0] == "jsonargparse":
            raise ValueError(f"{VARIABLE}, {FLAG}: {prefix!r} cannot be allowed; give a module's name, such as my_models")
    return found


@contextmanager
def flagged(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The arguments of a command without `--allow-module PREFIX`, whose prefixes are allowed in here, and in child
    processes."""
    rest, more = [], []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != FLAG:
            rest.append(word)
        elif value := value if equals else next(words, ""):
            more.append(value)
        else:
            raise ValueError(f"{FLAG} needs a value: the name of a module whose code may be run, such as my_models")
    before = os.environ.get(VARIABLE)
    if more:
        os.environ[VARIABLE] = ",".join([*([before] if before else []), *more])
    try:
        added()
        yield rest
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def flags() -> list[str]:
    """The flags that allow what is allowed now, for a command that is to be run again."""
    return [word for prefix in added() for word in (FLAG, prefix)]


def guard_parser() -> None:
    """jsonargparse imports what is allowed and nothing else, wherever a class, function or module is named: call it
    before a parser is given anything."""
    from jsonargparse import set_parsing_settings

    now = added()
    gone = _ever_added.difference(now)
    _ever_added.update(now)
    set_parsing_settings(
        import_path_denylist=["*", *DENIED, *gone],
        import_path_allowlist=[*PREFIXES, *now],
        instantiate_subclass_spec_in_any=False,
    )


def check(config: Any, where: str = "") -> None:
    """Raises `NotAllowed` if a config, of plain values or as jsonargparse has parsed it, names a class that is not
    allowed, or an argument that lets a library run foreign code, at any depth. Nothing is imported.

    `where`: what the config is, for the message, for instance the file.
    """
    for key, value in _items(config):
        name, place = key.rsplit(".", 1)[-1], f"{where}: {key}" if where else key
        if name == "class_path" and isinstance(value, str):
            check_class_path(value, place.removesuffix(".class_path"))
        elif inspect.isroutine(value):  # what a parser has made of the path of a function
            check_class_path(f"{value.__module__}.{value.__qualname__}", place)
        elif name in HARMLESS and value is not HARMLESS[name] and value is not None:
            raise NotAllowed(f"{place}: {value!r} would run code that came with the weights; leave it out")


def check_class_path(class_path: str, where: str) -> None:
    """Raises `NotAllowed` unless the class path is of an allowed module, or a bare class name."""
    place = f"{where}: " if where else ""
    parts = class_path.split(".")
    if len(parts) == 1 and class_path.isidentifier():
        return  # found among the classes that are imported; jsonargparse asks about the path that it finds
    if not all(part.isidentifier() for part in parts):
        raise NotAllowed(f"{place}{class_path[:100]!r} is no path to a class, such as torch.nn.Identity")
    if any(part[:1].isupper() for part in parts[:-1]):
        raise NotAllowed(f"{place}{class_path!r} names a part of a class; name the class itself")
    if used := [part for part in parts[1:] if part in MACHINERY]:
        raise NotAllowed(f"{place}{class_path!r} reaches {used[0]} by way of {parts[0]}; name a class")
    verdicts = {**dict.fromkeys(PREFIXES, True), **dict.fromkeys(DENIED, False), **dict.fromkeys(added(), True)}
    begins = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    if not next((verdicts[begin] for begin in begins if begin in verdicts), False):
        raise NotAllowed(f"{place}{refusal(class_path)}")


def denied(error: Exception) -> str:
    """What a parser's error says of a class path that is not allowed, in one line; nothing if it is of something else."""
    found = re.search(r"Importing '([\w.]+)' is not allowed", str(error))
    return refusal(found[1]) if found else ""


def refusal(class_path: str) -> str:
    """Why a class path is refused, and what to do about it."""
    module = class_path.rpartition(".")[0] if class_path.startswith(PREFIXES) else class_path.split(".")[0]
    near = difflib.get_close_matches(module, [*PREFIXES, *added()], 1, 0.8)
    meant = f"did you mean {near[0]}? " if near and near[0] != module else ""
    return f"{class_path!r} is not of an allowed module; {meant}if you trust its code, add {FLAG} {module}"


def imported(class_path: str, where: str = "") -> Any:
    """The class of a class path, imported if it is allowed."""
    check_class_path(class_path, where)
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        found = None
    if not inspect.isclass(found):
        raise ValueError(f"{where}: there is no class {class_path!r}")
    check_class_path(f"{found.__module__}.{found.__qualname__}", where)  # a module holds what it has imported, too
    return found


def read_yaml(path: Path, allowed_only: bool = True) -> dict[str, Any]:
    """The mapping in a YAML file, read by the safe loader and checked; ValueError with line and column where it is not one.

    Keys are strings, none stands twice, and anchors do not stand for very much. With `allowed_only` no class is named
    that is not allowed; where nothing is built from the file, it may.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{path}: {size:,} bytes are no config (more than {MOST_BYTES:,}); is it the right file?")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    try:
        if len(NESTING.findall(text)) > DEEPEST:
            _check_depth(text)
        content = yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        # Also a date of the 45th, a number of 5,000 digits.
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}")
    if _num_parts(content) > MOST_PARTS:
        raise ValueError(
            f"{path}: it is nested deeper than {DEEPEST}, or its anchors stand for more than {MOST_PARTS:,} values;"
            " no config is"
        )
    if allowed_only:
        check(content, str(path))
    return content


def _check_depth(text: str) -> None:
    """ValueError for a YAML that is nested too deep, on which libyaml's loader would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST}; no config is")


def run_config(run: Path) -> dict[str, Any]:
    """config.yaml of a run folder; ValueError where it is damaged, or names what is not allowed."""
    return read_yaml(run / "config.yaml")


class Loader(SafeLoader):  # type: ignore[misc,valid-type]
    """The safe loader that refuses what it would pass over in silence: a key that stands twice, of which the last one
    would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            kind = key.tag.removeprefix("tag:yaml.org,2002:")
            if not isinstance(key, yaml.ScalarNode) or kind not in ("str", "merge"):
                said = f"the key {getattr(key, 'value', key.id)!r} is no word; write it in quotes"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
            if kind == "str" and key.value in seen:
                said = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _num_parts(value: Any, known: dict[int, float] | None = None, depth: int = 0) -> float:
    """How many values a YAML has when its anchors are written out; infinite where one stands for itself, or is nested
    too deep."""
    known = {} if known is None else known
    if not isinstance(value, (dict, list)):
        return 1
    if depth > DEEPEST:
        return float("inf")
    if id(value) not in known:
        known[id(value)] = float("inf")
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_num_parts(item, known, depth + 1) for item in items)
    return known[id(value)]


def _items(value: Any, key: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) at any depth, each object once: in YAML an anchor may stand for millions of them."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, (str, bytes, int, float, type(None))):
        return
    seen.add(id(value))
    if isinstance(value, Mapping) or hasattr(value, "as_dict"):  # jsonargparse's Namespace
        for name, item in (value if isinstance(value, Mapping) else vars(value)).items():
            place = f"{key}.{name}" if key else str(name)
            yield place, item
            yield from _items(item, place, seen)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _items(item, key, seen)
