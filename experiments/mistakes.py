"""jsonargparse's nested reports become one line: the key, the value, and the nearest right name."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from callbacks.allowlist import check, denied, guard_parser
from experiments.catalogue import Mistake, nearest

OURS = ("lightning_modules.", "callbacks.", "datamodules.")


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """`parser.parse_args` that raises a one-line `Mistake`, and imports nothing that is not allowed."""
    guard_parser()
    try:
        parsed = parser.parse_args(arguments)
    except ArgumentError as error:
        raise one_line(error, parser, arguments) from None
    check(parsed)
    return parsed


def one_line(error: Exception, parser: ArgumentParser, arguments: list[str]) -> Mistake:
    """The `Mistake` that a failed parse amounts to."""
    text = str(error)
    flags = {action.dest for action in parser._actions}
    if match := re.match(r"unrecognized arguments: (.*)", text):
        flag = match[1].split()[0]
        if not flag.startswith("-"):
            return Mistake(f"{flag!r} is not a flag; flags look like --trainer.max_steps 100")
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
            return Mistake(f"{key}: there is no class {value!r}; {nearest(value.split('.')[-1], class_names(key))}")
    if match := re.search(r"Expected a <class '(\w+)'>\. Got value: (.*)", text):
        return Mistake(f"{key}: expected {match[1]}, found {match[2]!r}")
    if match := re.search(r"Given value: (.*?)(?:\. Got value: .*)?$", text, re.MULTILINE):
        nested = re.match(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)", match[1])
        value = nested[2] if nested else match[1]
        wanted = [kind for kind in re.findall(r"Expected an? (?:<class '([\w.]+)'>|(\w+))", text) if "NoneType" not in kind]
        names = " or ".join(dict.fromkeys(a or b for a, b in wanted if (a or b) not in ("path", "dot")))
        return Mistake(f"{key}: expected {names or 'another type'}, found {value!r}")
    return Mistake(" ".join(text.split())[:300])


@contextmanager
def said_by_constructors() -> Iterator[None]:
    """Refusals of constructors come as their own words, not inside jsonargparse's report of the types it tried."""
    try:
        yield
    except Mistake:
        raise
    except (ValueError, MisconfigurationException) as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, (ValueError, MisconfigurationException)):
            cause = cause.__cause__
        raise Mistake(str(cause)) from error


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
