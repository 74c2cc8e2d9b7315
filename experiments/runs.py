"""Run folders: where they are, how they are found and read, and what must never be written into them.

`load_runs` is the only reader of run folders (`experiments.record.RunRecord` is the only writer). Nothing here imports torch or
lightning, so that listing and reporting stay quick.
"""

from __future__ import annotations

import difflib
import json
import netrc
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import yaml

from callbacks.allowlist import read_yaml

MASK = "***"
SHORTEST_SECRET = 6  # a variable set to "1" must not blot out every 1
SECRET_KEY = re.compile(r"api[_-]?key|password|passwd|secret|credential|private[_-]?key|(?<![a-z])token(?![a-z])")
SECRET_SHAPE = re.compile(  # what says of itself that it is a secret: tokens of the Hub, GitHub, OpenAI, AWS, Google, Slack, JWTs, keys
    r"\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bsk-[\w-]{20,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}|\bxox[abeprs]-[\w-]{10,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}|(?i:\bbearer\s+[\w.~+/=-]{8,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
ASSIGNMENT = re.compile(r"(?P<key>[\w.-]+)(?P<sign>[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s&'\",}\]]+)")
BESIDE = re.compile(r"\..+-\d+-[0-9a-f]{4}")  # what `write_atomically` calls a file until it is whole
NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml parses a resolved config 8 times faster


class Table(NamedTuple):
    """A logged table: column names and rows of cells."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Run:
    """One run folder as read: the config, the status, and every logged value with its step."""

    folder: Path
    config: dict[str, Any]
    status: dict[str, Any]
    scalars: dict[str, list[tuple[int, float]]]  # every value, in the order logged
    tables: dict[str, Table]  # the last of each key
    media: dict[str, Path]  # the last of each key
    about: dict[str, dict[str, Any]]  # what each metric says of itself: extractor, number of images, sampler, ...

    @property
    def id(self) -> str:
        return str(self.status.get("id") or self.folder.name)

    @property
    def name(self) -> str:
        return str(self.status.get("experiment") or self.folder.parent.name)

    @property
    def state(self) -> str:
        """running, finished, failed or interrupted."""
        return str(self.status.get("state", "running"))

    @property
    def seed(self) -> int | None:
        seed = self.status.get("seed", self.config.get("seed_everything"))
        return seed if isinstance(seed, int) else None

    def last(self, key: str) -> float | None:
        """The value of `key` that was logged last; None where it never was."""
        return self.scalars[key][-1][1] if self.scalars.get(key) else None

    @cached_property
    def flat_config(self) -> dict[str, Any]:
        """The config as {dotted key: value}; empty lists and dicts are values, lists count as values too."""
        return dict(flatten(self.config))


def runs_root() -> Path:
    """The folder of all run folders: $PRACTICUM_RUNS, else ./runs."""
    return Path(os.environ.get("PRACTICUM_RUNS") or "runs")


def new_id() -> str:
    """A run id that sorts by time and differs between processes, such as 20261121-194803-3f2a."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def new_run_folder(root: str | Path, name: str) -> Path:
    """Creates and returns the empty folder root/name/<new id>; no two processes are given the same."""
    while True:
        folder = Path(root) / name / new_id()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder


def point_latest(folder: Path) -> None:
    """Lets `latest` beside a run folder point to it: a symlink, or a text file where symlinks are refused; atomic."""
    link = folder.parent / "latest"
    beside = folder.parent / f".latest-{os.getpid()}-{secrets.token_hex(2)}"
    try:
        beside.symlink_to(folder.name)
    except OSError:
        beside.write_text(folder.name + "\n")
    os.replace(beside, link)


def latest(folder: Path) -> Path | None:
    """The last finished run of an experiment's folder, or None."""
    link = folder / "latest"
    if link.is_symlink() or link.is_dir():
        target = link.resolve()
    elif link.is_file():
        target = folder / link.read_text().strip()
    else:
        return None
    return target if is_run(target) else None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder."""
    return (folder / "status.json").is_file()


def find_run(spec: str | Path, root: str | Path | None = None) -> Path:
    """The run folder meant by a path, by NAME (its last finished run) or by NAME/ID.

    Raises ValueError that names the nearest runs where there is none.
    """
    root = Path(root) if root is not None else runs_root()
    for folder in (Path(spec), root / spec):
        if is_run(folder):
            return folder.resolve()
        if folder.name == "latest":  # the text file that stands for a symlink
            folder = folder.parent
        if (found := latest(folder)) is not None:
            return found.resolve()
        if folder.is_dir() and (runs := sorted(child.name for child in folder.iterdir() if is_run(child))):
            raise ValueError(
                f"run {str(spec)!r}: there is no latest finished one among its {len(runs)} runs; name one: {folder / runs[-1]}"
            )
    known = sorted({str(path.parent.relative_to(root)) for path in root.glob("*/*/status.json")})
    names = sorted({name.split(os.sep)[0] for name in known})
    near = difflib.get_close_matches(str(spec), names + known, n=3, cutoff=0.5)
    remedy = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(names) or 'none yet'}"
    raise ValueError(f"run {str(spec)!r}: no such run folder here or in {root}; {remedy}")


def load_runs(folders: str | Path | Iterable[str | Path]) -> list[Run]:
    """Reads run folders, or every run folder below the folders given, oldest first.

    A line that a killed run left half-written is passed over. Raises ValueError for a folder without runs.
    """
    given = [folders] if isinstance(folders, (str, Path)) else list(folders)
    found: dict[Path, None] = {}
    for folder in map(Path, given):
        if is_run(folder):
            below = [folder]
        else:
            below = [Path(top) for top, _, files in os.walk(folder) if "status.json" in files]
        if not below:
            raise ValueError(f"runs {str(folder)!r}: no run folder there (a run folder holds a status.json)")
        found.update((path.resolve(), None) for path in below)
    runs = [_load_run(folder) for folder in found]
    return sorted(runs, key=lambda run: (str(run.status.get("started", "")), run.id))


@contextmanager
def locked(folder: Path, otherwise: str) -> Iterator[None]:
    """Holds a folder for this process; ValueError (`otherwise`) where another one holds it."""
    lock = filelock.FileLock(folder / ".lock", timeout=0)  # the system lets go of it when its holder dies
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(otherwise) from None
    try:
        yield
    finally:
        lock.release()


def _load_run(folder: Path) -> Run:
    status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    config_file = folder / "config.yaml"
    config = read_yaml(config_file, allowed_only=False) if config_file.is_file() else {}
    scalars: dict[str, list[tuple[int, float]]] = {}
    tables: dict[str, Table] = {}
    media: dict[str, Path] = {}
    about: dict[str, dict[str, Any]] = {}
    for line in read_lines(folder / "metrics.jsonl"):
        step = line["step"]
        if "table" in line:
            rows = [[_number(cell) for cell in row] for row in line["rows"]]
            tables[line["table"]] = Table(line["columns"], rows)
        elif "media" in line:
            media[line["media"]] = folder / line["file"]
        elif "about" in line:
            about[line["about"]] = line["declaration"]
        else:
            for key, value in line.items():
                if key not in ("step", "epoch", "time"):
                    scalars.setdefault(key, []).append((step, _number(value)))
    media = {key: file for key, file in media.items() if file.resolve().is_relative_to(folder)}  # a page holds their bytes
    return Run(folder, config or {}, status, scalars, tables, media, about)


def read_lines(path: Path, key: str = "step") -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, or of another file of JSON lines that all have `key`, without one that was cut short."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        parsed = json.loads(f"[{','.join(lines)}]")  # one call for the whole file: 3 times faster than line by line
    except json.JSONDecodeError:
        parsed = []
        for line in lines:
            try:
                parsed.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # cut short by a kill or a full disk
    return [line for line in parsed if isinstance(line, dict) and key in line]


def _number(value: Any) -> Any:
    return NON_FINITE.get(value, value) if type(value) is str else value


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted key, value) of a nested mapping; an empty one is a value."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the whole old or the whole new one."""
    beside = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(2)}")
    with naming(path):
        try:
            with open(beside, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError says of which file it is: of a full disk the system does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@cache
def sweep_up(folder: Path) -> None:
    """Removes what killed processes have left half-written in a run folder that this process holds."""
    for path in [*folder.glob(".*"), *folder.glob("media/.*")]:
        if BESIDE.fullmatch(path.name):
            path.unlink()


def is_secret_key(key: str) -> bool:
    """Whether a key names a secret: api_key, password, secret or token (not tokens, tokenizer or num_tokens)."""
    return SECRET_KEY.search(WORD_START.sub("_", key).lower()) is not None


def scrub(value: Any) -> Any:
    """A copy without secrets: what stands under a key that names one, or follows such a flag, what has the shape of a token,
    and wherever they occur in a string the values of environment variables that name one (WANDB_API_KEY, HF_TOKEN, ...) and the
    passwords of the netrc file, become "***". Numbers under `token` stay (class_token: 1).
    """
    values = {secret for name, secret in os.environ.items() if is_secret_key(name)} | _netrc_passwords()
    return _scrub(value, sorted((secret for secret in values if len(secret) >= SHORTEST_SECRET), key=len, reverse=True))


@cache
def _netrc_passwords() -> frozenset[str]:
    try:
        hosts = netrc.netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser()).hosts
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return frozenset()
    return frozenset(password for _, _, password in hosts.values() if password)


def _scrub(value: Any, values: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in values:
            value = value.replace(secret, MASK)
        value = PASSWORD_IN_URL.sub(rf"\1{MASK}", SECRET_SHAPE.sub(MASK, value))
        if "=" in value or ":" in value:
            value = ASSIGNMENT.sub(_mask_assignment, value)
        return value
    if isinstance(value, Mapping):
        return {_scrub(key, values): _mask_item(str(key), item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [
            MASK if before.startswith("-") and "=" not in before and is_secret_key(before) else _scrub(item, values)
            for before, item in zip(["", *map(str, value)], value, strict=False)
        ]
        return items if isinstance(value, list) else tuple(items)
    return value


def _mask_item(key: str, item: Any, values: Sequence[str]) -> Any:
    harmless = item is None or (isinstance(item, (bool, int, float)) and "password" not in key.lower())
    return MASK if is_secret_key(key) and not harmless else _scrub(item, values)


def _mask_assignment(match: re.Match[str]) -> str:
    return f"{match['key']}{match['sign']}{MASK}" if is_secret_key(match["key"]) else match[0]
