"""open_clip's architectures and published weights, known without importing open_clip, which takes ten seconds.

Imports no torch either: a misspelt name or weights that cannot be had are said at once.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from callbacks.allowlist import check

HUB_TIMEOUT = 2.0  # seconds
CONFIG = "open_clip_config.json"  # of a folder that open_clip has saved


def checked(architecture: str, pretrained: str | None) -> bool:
    """Whether the weights `pretrained` (a published tag, or a local file) of an architecture are on this machine.

    `architecture`: a name of open_clip, a JSON file that describes one, or a folder that open_clip has saved, which
    holds its own weights. Raises ValueError, within three seconds, for a wrong name, for no weights, and for weights
    that are published on a host that does not answer.
    """
    check_described(Path(architecture))
    if Path(architecture).is_dir():
        if not (Path(architecture) / CONFIG).is_file():
            raise ValueError(f"{architecture}: open_clip has not saved this folder, there is no {CONFIG} in it")
        if pretrained is not None:
            raise ValueError(f"--pretrained {pretrained}: the folder {architecture} holds its own weights; leave it out")
        return True
    if not (architecture.endswith(".json") and Path(architecture).is_file()):
        known = architectures()
        if architecture not in known:
            raise ValueError(f"open_clip has no model {architecture!r}{_nearest(architecture, known)}")
    tags = published().get(architecture, {})
    if pretrained is None:
        which = f"a tag ({_some(tags)}) or the file" if tags else "the file"
        raise ValueError(f"open_clip's {architecture} has no weights of its own: give {which} as `pretrained`")
    if Path(pretrained).is_file():
        return True
    tag = pretrained.lower().replace("-", "_")  # as open_clip reads it
    if tag not in tags:
        near = _nearest(pretrained, tags) or f" (tags: {_some(tags) or 'none'})"
        raise ValueError(f"open_clip: {pretrained!r} is neither a file nor a tag of {architecture}{near}")
    if _in_cache(tags[tag]):
        return True
    require_hub(f"the weights {pretrained} of open_clip's {architecture}")
    return False


def check_described(path: Path) -> None:
    """Raises ValueError for a description of an architecture, a JSON file or that of a folder, that is damaged or would
    run foreign code: open_clip hands its `tokenizer_kwargs` on."""
    file = path / CONFIG if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file():
        return
    try:
        check(json.loads(file.read_text(encoding="utf-8")), str(file))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file} describes no architecture: {str(error)[:100]}; export or download it again") from error


def architectures() -> list[str]:
    """The names of open_clip's models."""
    return sorted(path.stem for path in (_folder() / "model_configs").glob("*.json"))


@cache
def published() -> dict[str, dict[str, dict[str, Any]]]:
    """Architecture -> tag -> where open_clip finds the weights: its own table, run without the rest of its package."""
    known: dict[str, Any] = {}
    exec((_folder() / "constants.py").read_text(), known)
    tree = ast.parse((_folder() / "pretrained.py").read_text())
    tree.body = [part for part in tree.body if not isinstance(part, ast.Try) and getattr(part, "level", 0) == 0]
    exec(compile(tree, "pretrained.py", "exec"), known)
    return known["_PRETRAINED"]


@contextmanager
def offline(wanted: bool = True) -> Iterator[None]:
    """The Hugging Face Hub is not asked in here, which costs most of a minute where it does not answer."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def require_hub(what: str) -> None:
    """Raises ValueError where the Hugging Face Hub must not be asked, or does not answer in time."""
    remedy = "give a local file, or fetch them once where there is a network"
    if is_offline():
        raise ValueError(f"{what} are not in the cache, and HF_HUB_OFFLINE is set: {remedy}")
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or "huggingface.co"
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.create_connection((host, 443), timeout=HUB_TIMEOUT).close()
            answers.append(True)
        except OSError:
            pass

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name has no time limit
    asking.start()
    asking.join(HUB_TIMEOUT)
    if not answers:
        raise ValueError(f"{what} are on the Hugging Face Hub, which cannot be reached ({host}): {remedy}")


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def _in_cache(where: dict[str, Any]) -> bool:
    from huggingface_hub import try_to_load_from_cache

    repository, _, file = where.get("hf_hub", "").rpartition("/")
    if not repository:
        return (Path("~/.cache/clip").expanduser() / where.get("url", "").rpartition("/")[2]).is_file()
    file = file or "open_clip_pytorch_model.bin"
    names = (file, f"{file.rpartition('.')[0]}.safetensors", "open_clip_model.safetensors")
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)


def _folder() -> Path:
    spec = find_spec("open_clip")  # which does not import it
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; the nearest name is {near[0]}" if near else ""


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
