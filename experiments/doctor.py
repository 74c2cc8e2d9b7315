"""`practicum doctor`: what is installed, cached and reachable; known faults by name, each with its remedy.

No key is ever printed, only whether there is one.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from experiments.catalogue import Arguments, entries, read_yaml
from experiments.runs import runs_root
from experiments.wandb_mode import TIMEOUT, find_key
from experiments.wandb_mode import host as wandb_host

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
ACCELERATOR = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'none', torch.version.cuda, sep='|')"
# package, versions with the fault, what it is, remedy
KNOWN_FAULTS = (
    (
        "lightning",
        "==2.6.2",
        "malware that steals credentials",
        "install lightning>=2.6.6 and renew every key on this machine",
    ),
    (
        "lightning",
        "==2.6.3",
        "malware that steals credentials",
        "install lightning>=2.6.6 and renew every key on this machine",
    ),
    (
        "numpy",
        "<2",
        "`import datasets` fails",
        "install numpy>=2, and remove what pins it (often the package `sweeps`)",
    ),
    ("torch", "<2.10", "older than what is tested", "install torch>=2.10"),
)


class Finding(NamedTuple):
    """One line of the report; `remedy` is empty where nothing is wrong."""

    section: str
    name: str
    text: str
    remedy: str = ""
    fault: bool = False  # something will not work; else the remedy is advice


def examine() -> list[Finding]:
    """All findings, the slow questions asked at the same time; takes about as long as `import torch`."""
    with ThreadPoolExecutor(8) as pool:
        accelerator = pool.submit(find_accelerator)
        hub_url = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        hub, wandb = pool.submit(answers, hub_url), pool.submit(answers, wandb_host())
        findings = [*packages(), *machine(), *cached()]
        findings += [
            Finding("machine", "accelerator", accelerator.result()),
            *reachable("Hugging Face Hub", hub_url, hub, hub_key()),
            *reachable("Weights & Biases", wandb_host(), wandb, find_key() is not None),
            *settings(hub.result(), wandb.result()),
        ]
    order = list(dict.fromkeys(finding.section for finding in findings))
    return sorted(findings, key=lambda finding: order.index(finding.section))


def packages(version: Callable[[str], str] = metadata.version) -> list[Finding]:
    """The packages that practicum asks for, against what it asks; and versions known to be bad."""
    findings = [Finding("installed", "python", platform.python_version())]
    for line in metadata.requires("practicum") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except metadata.PackageNotFoundError:
            findings.append(Finding("installed", requirement.name, "missing", "run `make setup`", fault=True))
            continue
        bad = [
            (f"{found}: {what}", remedy)
            for package, versions, what, remedy in KNOWN_FAULTS
            if package == requirement.name and SpecifierSet(versions).contains(found, prereleases=True)
        ]
        if not bad and not requirement.specifier.contains(found, prereleases=True):
            bad = [(f"{found}, but {requirement.specifier} is needed", "run `make setup`")]
        text, remedy = bad[0] if bad else (found, "")
        findings.append(Finding("installed", requirement.name, text, remedy, fault=bool(bad)))
    return findings


def machine() -> list[Finding]:
    """Cores, memory, disk, symbolic links, and the browser of the page's test."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = [Finding("machine", "cores", str(cores))]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
        few = memory < 4
        findings.append(Finding("machine", "memory", f"{memory:.0f} GB", "sweep with --workers 1" if few else ""))
    existing = next(folder for folder in (runs_root().absolute(), *runs_root().absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 1e9
    advice = "free some space, or set PRACTICUM_RUNS to a larger disk" if free < 2 else ""
    findings.append(Finding("machine", "free disk", f"{free:.1f} GB for {runs_root()}", advice, fault=free < 0.2))
    try:
        with tempfile.TemporaryDirectory(dir=existing) as folder:
            (Path(folder) / "link").symlink_to("target")
        findings.append(Finding("machine", "symbolic links", "yes"))
    except OSError as error:
        text = f"no ({error.strerror}): `latest` is a text file"
        remedy = "" if os.access(existing, os.W_OK) else f"make {existing} writable, or set PRACTICUM_RUNS"
        findings.append(Finding("machine", "symbolic links", text, remedy, fault=bool(remedy)))
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    remedy = "" if browser else "apt-get install chromium chromium-driver (only the page's test needs it)"
    findings.append(Finding("machine", "browser", browser or "none", remedy))
    return findings


def find_accelerator() -> str:
    """What torch sees, asked in a process of its own: torch takes seconds to import and may crash."""
    try:
        answer = subprocess.run([sys.executable, "-c", ACCELERATOR], capture_output=True, text=True, timeout=7, check=True)
    except subprocess.TimeoutExpired:
        return "unknown, torch did not import within 7 s"
    except subprocess.CalledProcessError as error:
        return f"unknown, torch does not import: {(error.stderr.strip().splitlines() or [''])[-1]}"
    device, _, cuda = answer.stdout.strip().partition("|")
    return "none, everything runs on the CPU" if device == "none" else f"{device} (CUDA {cuda})"


def cached() -> list[Finding]:
    """Data sets and weights that need no network."""
    findings = []
    mirror = os.environ.get("PRACTICUM_DATA")
    hub = Path(os.environ.get("HF_HUB_CACHE") or hugging_face_home() / "hub").expanduser()
    if mirror and not Path(mirror).expanduser().is_dir():
        remedy = "name a folder that holds data sets, or unset it"
        findings.append(Finding("cached", "PRACTICUM_DATA", f"no such folder {mirror!r}", remedy, fault=True))
    for entry in entries("data set"):
        path = str(read_yaml(entry.path).get("data", {}).get("init_args", {}).get("path", entry.name))
        copy = Path(mirror).expanduser() / Path(path).name if mirror else None
        if "/" not in path:
            where = "built in"
        elif copy is not None and copy.is_dir():
            where = f"in the mirror, {copy}"
        elif (hub / f"datasets--{path.replace('/', '--')}").is_dir():
            where = f"in {hub}"
        else:
            where = ""
        remedy = "" if where else "fetched at first use; without a network, set PRACTICUM_DATA to a folder that holds it"
        findings.append(Finding("cached", entry.name, where or f"no ({path})", remedy))
    torch_home = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch")
    weights = torch_home.expanduser() / "hub" / "checkpoints" / INCEPTION
    remedy = "" if weights.is_file() else "only `val/fid` needs them; Fréchet distances of other extractors do not"
    findings.append(Finding("cached", "Inception weights", str(weights) if not remedy else "no", remedy))
    return findings


def hugging_face_home() -> Path:
    return Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface").expanduser()


def hub_key() -> bool:
    """Whether the Hub's token is in the environment or where `hf auth login` puts it."""
    stored = Path(os.environ.get("HF_TOKEN_PATH") or hugging_face_home() / "token").expanduser()
    return bool(os.environ.get("HF_TOKEN")) or stored.is_file()


def answers(url: str) -> bool:
    """Whether a host answers at all within 2 s."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:
        return True  # an error page is an answer
    except (OSError, ValueError):
        return False
    return True


def reachable(name: str, url: str, answer: Future[bool], key: bool) -> list[Finding]:
    text = f"{url} {'answers' if answer.result() else 'does not answer'}; {'a key' if key else 'no key'}"
    remedy = "" if answer.result() else "built-in and cached data, mirrors and offline runs work without it"
    return [Finding("reachable", name, text, remedy)]


def settings(hub: bool, wandb: bool) -> list[Finding]:
    """Environment variables that are missing, or stand against what is reachable."""
    findings = []
    if not hub and os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        remedy = "export HF_HUB_OFFLINE=1"
        findings.append(Finding("settings", "HF_HUB_OFFLINE", "not set and the Hub is away: libraries retry 23 s", remedy))
    mode = os.environ.get("WANDB_MODE")
    if mode:
        findings.append(Finding("settings", "WANDB_MODE", mode))
    if mode == "online" and not (wandb and find_key()):
        remedy = "unset WANDB_MODE: practicum then goes offline by itself; or `wandb login`"
        what = "online, but W&B is away: a run blocks 102 s" if find_key() else "online without a key: a run dies"
        findings[-1] = Finding("settings", "WANDB_MODE", what, remedy, fault=True)
    elif not mode:
        online = wandb and find_key() is not None
        remedy = "" if online else "`wandb login` for online runs; offline ones are complete and `wandb sync` sends them later"
        findings.append(Finding("settings", "WANDB_MODE", f"not set: runs are {'online' if online else 'offline'}", remedy))
    return findings


def show(findings: list[Finding]) -> None:
    """A table in a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table: Any = Table(show_edge=False, pad_edge=False)
        for column in ("", "what", "found", "remedy"):
            table.add_column(column, overflow="fold")
        section = ""
        for finding in findings:
            style = "red" if finding.fault else "yellow" if finding.remedy else ""
            cells = ("" if finding.section == section else finding.section, finding.name, finding.text, finding.remedy)
            table.add_row(*(Text(cell, style=style if place else "bold") for place, cell in enumerate(cells)))
            section = finding.section
        Console().print(table)
        return
    for finding in findings:
        mark = "FAULT" if finding.fault else "note" if finding.remedy else "ok"
        remedy = f"; remedy: {finding.remedy}" if finding.fault else f"; {finding.remedy}" if finding.remedy else ""
        print(f"{mark:5} {finding.section:9} {finding.name}: {finding.text}{remedy}")


def main(arguments: list[str]) -> int:
    """The verb `doctor`: 0 if there is no fault, else 1."""
    parser = Arguments(prog="practicum doctor", description=(__doc__ or "").split("\n")[0])
    parser.parse_args(arguments)
    findings = examine()
    show(findings)
    faults = sum(finding.fault for finding in findings)
    print("no fault found" if not faults else f"{faults} fault{'s' if faults > 1 else ''} found")
    return 1 if faults else 0
