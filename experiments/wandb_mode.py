"""Whether Weights & Biases runs online or offline, settled once and within two seconds, before `wandb.init`; and its patience.

Left to itself, W&B kills a run that has neither key nor mode, blocks 102 s where there is a key and no network, kills the run where the
host fails after that question, and at the end waits for ever for a host that has died.
"""

from __future__ import annotations

import base64
import configparser
import difflib
import json
import netrc
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 2.0  # seconds in which the host must answer
PATIENCE: dict[str, Any] = {"init_timeout": 8.0, "finish_timeout": 15.0}  # seconds for W&B's beginning of a run, and for its last uploads
MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
LATER = "`wandb sync` sends the run folder's wandb/ later"


def settle_wandb_mode() -> tuple[str, str]:
    """Sets WANDB_MODE, silences W&B's console and its reports on itself; returns the mode and one line that says why.

    WANDB_MODE where it is set; else online if there is a key that the host accepts within 2 s; else offline. Raises ValueError for
    a mode that W&B does not know.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it goes to the same host, which it waits for: 20 s more at the end
    if given := os.environ.get("WANDB_MODE"):
        if given not in MODES:
            near = difflib.get_close_matches(given, MODES, n=1, cutoff=0) or MODES
            raise ValueError(f"WANDB_MODE={given!r}: no such mode; nearest: {near[0]} (there are {', '.join(MODES)})")
        return given, f"W&B: {given} (WANDB_MODE)"
    mode, why = "offline", f"no key; {LATER}, after `wandb login`"
    if key := find_key():
        problem = ask_host(key)
        mode, why = ("offline", f"{problem}; {LATER}") if problem else ("online", host())
    os.environ["WANDB_MODE"] = mode
    return mode, f"W&B: {mode}, {why}"


def online_or_offline(begin: Callable[[], Any], arguments: dict[str, Any]) -> Any:
    """The W&B run that `begin` gives; an offline one, said in one line, where the host fails now: `arguments` are those of `wandb.init`."""
    import wandb

    try:
        return begin()
    except wandb.errors.CommError:
        wandb.teardown()  # its service still holds the run's id
        os.environ["WANDB_MODE"] = arguments["mode"] = "offline"
        print(f"W&B: offline, {host()} failed to begin a run; {LATER}", file=sys.stderr)
        return begin()


def finish() -> None:
    """Ends the W&B run of this process, if there is one; says so where the host has not taken all of it in time."""
    run = getattr(sys.modules.get("wandb"), "run", None)
    if run is None:
        return
    run.finish()
    if getattr(run, "_finish_timed_out", False):
        print(f"W&B: {host()} did not take everything within {PATIENCE['finish_timeout']:.0f} s; {LATER}", file=sys.stderr)


def host() -> str:
    """The W&B server: WANDB_BASE_URL, else what `wandb login --host` has stored, else the public one."""
    stored = configparser.ConfigParser(default_section="none", interpolation=None)
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    try:
        stored.read(Path(folder).expanduser() / "settings", encoding="utf-8")
    except (configparser.Error, OSError):
        stored.clear()
    url = os.environ.get("WANDB_BASE_URL") or stored.get("default", "base_url", fallback=None)
    return (url or "https://api.wandb.ai").rstrip("/")


def find_key() -> str | None:
    """The W&B key of WANDB_API_KEY or of the netrc file, where `wandb login` puts it."""
    if key := os.environ.get("WANDB_API_KEY", "").strip():
        return key
    candidates = [os.environ.get("NETRC") or "~/.netrc", "~/_netrc"]
    for path in (Path(candidate).expanduser() for candidate in candidates):
        try:
            found = netrc.netrc(path).authenticators(urlsplit(host()).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return found[2]
    return None


def ask_host(key: str, timeout: float = TIMEOUT) -> str | None:
    """Asks the host who owns the key; None if it answers and knows the key, else what is wrong in a few words."""
    request = urllib.request.Request(
        f"{host()}/graphql",
        data=json.dumps({"query": "query Viewer { viewer { id } }"}).encode(),
        headers={
            "Content-Type": "application/json",
            "User-Agent": "practicum",
            "Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode(),
        },
    )
    problem: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                viewer = (json.load(reply).get("data") or {}).get("viewer")
            problem.append(None if viewer else f"{host()} does not know the key")
        except urllib.error.HTTPError as error:
            refused = error.code in (401, 403)
            problem.append(f"{host()} does not know the key" if refused else f"{host()} answers with error {error.code}")
        except (OSError, ValueError, AttributeError):
            problem.append(f"{host()} does not answer")

    thread = threading.Thread(target=ask, daemon=True)  # a look-up of the host's name knows no timeout of its own
    thread.start()
    thread.join(timeout)
    return problem[0] if problem else f"{host()} does not answer within {timeout:g} s"
