"""jsonargparse's nested reports become one line: the key, the value, and the nearest right name."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from callbacks.allowlist import check, denied, guard_parser
from experiments.catalogue import Mistake, nearest

LONGEST = 300       # characters of what others say
OURS = ("lightning_modules.", "callbacks.", "datamodules.")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """`parser.parse_args` that raises a one-line `Mistake`, and imports nothing that is not allowed."""
    guard_parser()
    try:
        parsed = parser.parse_args(arguments)
    except ArgumentError as error:
        raise one_line(error, parser, arguments) from None
    for group in parser.groups or ():       # jsonargparse takes anything for a group of keys, such as `trainer`
        if group in parsed and not isinstance(parsed[group], Namespace):
            raise Mistake(f"{group}: expected a mapping of keys to values, found {shown(parsed[group])}")
    check(parsed)
    return parsed


def one_line(error: Exception, parser: ArgumentParser, arguments: list[str]) -> Mistake:
    """The `Mistake` that a failed parse amounts to."""
    text = str(error)
    flags = {action.dest for action in parser._actions}
    if match := re.match(r"unrecognized arguments: (.*)", text):
        flag = match[1].split()[0]
        if not flag.startswith("-"):
            return Mistake(f"{shown(flag)} is not a flag; flags look like --trainer.max_steps 100")
        name = flag.lstrip("-").split("=")[0]
        return Mistake(f"unknown flag {flag.split('=')[0]}; {nearest(name, flags)}")
    if match := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        key = f"{match[1]}.{match[2]}"
        return Mistake(f"unknown key {key}; {nearest(key, flags)}")
    if match := re.search(r"(?:Key|Option) '([\w.]+)' is not expected", text):
        return Mistake(f"unknown key {match[1]}; {nearest(match[1], flags)}")

    keys = re.findall(r'Parser key "([\w.]+)"', text)
    key = ".".join(dict.fromkeys(keys))
    if reason := denied(error):
        return Mistake(f"{key}: {reason}" if key else reason)
    if match := re.search(r"Option '([\w.]+)' is not accepted", text):
        owner = (re.findall(r"given class_path '([\w.]+)'", text) or re.findall(r"class_path[=:] ?'([\w.]+)'", text) or [""])[-1]
        return Mistake(f"unknown key {key}.{match[1]}; {nearest(match[1], parameters(owner))}")
    if match := re.search(r"Expected a dot import path string: (\S+)", text):
        value = match[1].rstrip(".")
        if re.fullmatch(r"[\w.]+", value) and not expects_number(text):
            return Mistake(f"{key}: there is no class {shown(value)}; {nearest(value.split('.')[-1], class_names(key))}")
    if match := re.search(r"Expected a <class '(\w+)'>\. Got value: (.*)", text):
        return Mistake(f"{key}: expected {match[1]}, found {shown(match[2])}")
    if match := re.search(r"Given value: (.*?)(?:\. Got value: .*)?$", text, re.MULTILINE):
        nested = re.match(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)", match[1])
        value = nested[2] if nested else match[1]
        inside = re.search(r"Problem with given class_path '([\w.]+)':\s+(?:Parser key \"[\w.]+\":\s+)?(?!Does not validate)(.*)", text)
        if inside and value.startswith("["):        # a list of things, of which this one is wrong
            return Mistake(f"{key}: {inside[1]}: {shown(inside[2])[1:-1]}")
        wanted = [kind for kind in re.findall(r"Expected an? (?:<class '([\w.]+)'>|(\w+))", text) if "NoneType" not in kind]
        names = " or ".join(dict.fromkeys(a or b for a, b in wanted if (a or b) not in ("path", "dot")))
        return Mistake(f"{key}: expected {names or 'another type'}, found {shown(value)}")
    return Mistake(" ".join(text.split())[:LONGEST])


def shown(value: Any) -> str:
    """A value in quotes, cut where it is long."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= LONGEST // 3 else f"{text[:LONGEST // 3]}...")


@contextmanager
def said_by_constructors() -> Iterator[None]:
    """Refusals of constructors come as their own words, not inside jsonargparse's report of the types it tried.

    What torch and others raise for a value that they cannot use, whatever its type, is a mistake in the config, too; not so a disk
    that is full.
    """
    try:
        yield
    except (Mistake, OSError):
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, Mistake):
            cause = cause.__cause__
        said = " ".join(str(cause).split("Exception raised from")[0].split())     # what follows is C++
        own = isinstance(cause, (ValueError, MisconfigurationException)) and said
        raise Mistake(said if own else f"this config cannot be built: {type(cause).__name__}: {said[:LONGEST]}") from error


def expects_number(text: str) -> bool:
    return any(f"<class '{kind}'>" in text for kind in ("int", "float", "bool"))


def parameters(class_path: str) -> Iterable[str]:
    """The argument names of a class that has been imported."""
    module, _, name = class_path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return inspect.signature(found).parameters if found is not None else ()


def class_names(key: str) -> list[str]:
    """Names of classes that a user could have meant: ours, and the optimisers where an optimiser is asked for."""
    rooms = ("torch.optim.",) if "optimizer" in key else OURS
    named = key.rsplit(".", 1)[-1]
    found = {name: module_name for module_name, module in list(sys.modules.items()) if module_name.startswith(rooms)
             for name, value in vars(module).items()
             if inspect.isclass(value) and value.__module__ == module_name and not name.startswith("_")}
    if "optimizer" in key:
        return sorted(found)
    same_room = [name for name, module_name in found.items() if named.rstrip("s") in module_name]
    return same_room or list(found)
