"""The loggers of a run: RunRecord writes the run folder, WandbRecord is Lightning's W&B logger without secrets."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import re
import shlex
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import yaml
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image

from callbacks.stopping import Stopped
from experiments.runs import YAML_LOADER, naming, point_latest, read_lines, scrub, sweep_up, write_atomically
from experiments.wandb_mode import PATIENCE, online_or_offline

STATUS_EVERY = 10.0  # seconds between two rewritings of status.json while values come in
PACKAGES = ("practicum", "torch", "lightning", "datasets", "torchmetrics", "numpy", "wandb")


class RunRecord(Logger):
    """Writes a run folder: config.yaml, metrics.jsonl (one JSON object a line, at once), media/ and status.json.

    Without secrets (`runs.scrub`), on rank zero only. A folder that already holds a run is continued: its start, its step
    and its clock stay. A finished run stays finished, whatever becomes of a later validation: one that is not `training` adds its
    values at the step at which the run stands, and leaves its state as it is.
    """

    def __init__(
        self, folder: str | Path, *, experiment: str, command: Sequence[str] = (), seed: int | None = None, training: bool = True
    ) -> None:
        super().__init__()
        self.training = training
        self.folder = Path(folder)
        self._file: TextIO | None = None
        self._declared: dict[str, Any] | None = None  # of metrics.jsonl, once it is asked for
        self._status: dict[str, Any] = {
            "experiment": experiment,
            "id": self.folder.name,
            "state": "running",
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "finished": None,
            "seconds": 0.0,
            "step": 0,
            "epoch": 0,
            "command": shlex.join(scrub(list(command))),
            "seed": seed,
        }
        status_file = self.folder / "status.json"
        if status_file.is_file():
            earlier = json.loads(status_file.read_text(encoding="utf-8"))
            kept = ("started", "seconds", "step", "epoch", "resumed", "changes", "data_fingerprint")
            self._status |= {key: earlier[key] for key in (kept if training else earlier) if key in earlier}
            if earlier.get("state") == "finished":
                self._status["state"] = "finished"
        self._status |= {"host": socket.gethostname(), "pid": os.getpid(), "versions": _versions()}
        self._clock_zero = time.monotonic() - self._status["seconds"]
        self._status_written = -math.inf

    @property
    def name(self) -> str:
        return str(self._status["experiment"])

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @property
    def root_dir(self) -> str:
        return str(self.folder)

    @property
    def log_dir(self) -> str:
        return str(self.folder)

    @property
    def experiment(self) -> RunRecord:
        return self

    @rank_zero_only
    def update(self, **fields: Any) -> None:
        """Sets fields of status.json, such as device="cpu", title="digits", parameters=123456."""
        self._status |= fields
        self._write_status()

    @rank_zero_only
    def log_config(self, config: str | Mapping[str, Any]) -> None:
        """Writes config.yaml: the resolved config, as YAML text or as a dict of plain values."""
        plain = yaml.load(config, Loader=YAML_LOADER) if isinstance(config, str) else _plain(config)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(scrub(plain), sort_keys=False, allow_unicode=True, width=120)
        write_atomically(self.folder / "config.yaml", text)
        self._write_status()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Writes the hyperparameters as config.yaml, where `log_config` has written no fuller one."""
        if not (self.folder / "config.yaml").is_file():
            self.log_config(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends one line of scalars; NaN and infinities are written as the strings that `load_runs` reads back."""
        values = {key: _json_number(float(value)) for key, value in metrics.items() if key != "epoch"}
        if "epoch" in metrics and self.training:
            self._status["epoch"] = int(metrics["epoch"])
        if values:
            self._append(step, values)

    @rank_zero_only
    def log_image(
        self,
        key: str,
        images: Sequence[Image.Image | np.ndarray],
        step: int | None = None,
        caption: Sequence[str] | str | None = None,
    ) -> None:
        """Writes images (PIL, or uint8 [H,W,C] or [H,W]) as PNG files of media/, and a line for each."""
        captions = [caption] * len(images) if caption is None or isinstance(caption, str) else list(caption)
        if len(captions) != len(images):
            raise ValueError(f"log_image {key!r}: {len(images)} images but {len(captions)} captions; give one for each")
        step = self._status["step"] if step is None else step
        (self.folder / "media").mkdir(parents=True, exist_ok=True)
        for index, (image, text) in enumerate(zip(images, captions, strict=True)):
            stem = f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', key)}_{step:08d}" + (f"_{index}" if len(images) > 1 else "")
            buffer = io.BytesIO()
            (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format="PNG")
            write_atomically(self.folder / "media" / f"{stem}.png", buffer.getvalue())
            self._append(step, {"media": key, "file": f"media/{stem}.png", "caption": text or ""})

    @rank_zero_only
    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]], step: int | None = None) -> None:
        """Appends a table: `data` holds the rows."""
        self._append(step, {"table": key, "columns": list(columns), "rows": _plain(data)})

    @rank_zero_only
    def log_about(self, key: str, about: Mapping[str, Any]) -> None:
        """Appends what the metric `key` says of itself (extractor, numbers of images, sampler, steps, ...), if that is new."""
        if self._declared is None:
            lines = read_lines(self.folder / "metrics.jsonl")
            self._declared = {line["about"]: line["declaration"] for line in lines if "about" in line}
        declaration = json.loads(json.dumps(scrub(_plain(about))))
        if self._declared.get(key) != declaration:
            self._declared[key] = declaration
            self._append(None, {"about": key, "declaration": declaration})

    def position(self) -> dict[str, Any]:
        """Where the log stands: `rewind` comes back to it."""
        if self._file is not None:
            self._file.flush()
        path = self.folder / "metrics.jsonl"
        written = path.stat().st_size if path.is_file() else 0
        seconds = time.monotonic() - self._clock_zero
        return {"bytes": written, "seconds": seconds, "step": self._status["step"], "epoch": self._status["epoch"]}

    @rank_zero_only
    def rewind(self, position: Mapping[str, Any] | None, cut: bool = True) -> None:
        """Goes back to a `position`, or to the beginning: what a resumed run will log again leaves metrics.jsonl for cut.jsonl.

        Without `cut` all lines stay: what was logged after the end of a run that is made longer.
        """
        position = position or {"bytes": 0, "seconds": 0.0, "step": 0, "epoch": 0}
        if self._file is not None:
            self._file.close()
            self._file = None
        sweep_up(self.folder)
        path = self.folder / "metrics.jsonl"
        if cut and path.is_file() and path.stat().st_size > position["bytes"]:
            with open(path, "r+b") as file, open(self.folder / "cut.jsonl", "ab") as rest:
                file.seek(position["bytes"])
                rest.write(file.read())
                rest.flush()
                os.fsync(rest.fileno())
                file.truncate(position["bytes"])
        self._declared = None
        self._clock_zero = time.monotonic() - position["seconds"]
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        resumed = [*self._status.get("resumed", []), {"at": now, "step": position["step"]}]
        self._status |= {"state": "running", "step": position["step"], "epoch": position["epoch"], "resumed": resumed}
        self._write_status()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run as finished ("success"), failed or interrupted; a finished one becomes its experiment's `latest`."""
        error = sys.exc_info()[1]  # Lightning says "failed" for Ctrl-C and SIGTERM too, while it handles them
        causes = [type(cause).__name__ for cause in _chain(error)]
        interruption = [str(cause) for cause in _chain(error) if isinstance(cause, Stopped)] or [
            name for name in causes if name in ("KeyboardInterrupt", "SIGTERMException")
        ]
        if not self.training:
            pass
        elif status in ("success", "finished"):
            self._status |= {"state": "finished", "reason": None}
        elif self._status["state"] == "finished":
            pass
        elif interruption:
            self._status |= {"state": "interrupted", "reason": interruption[0]}
        else:
            lines = str(error or "").strip().splitlines() or [""]
            self._status |= {"state": "failed", "reason": f"{type(error).__name__}: {lines[0]}" if error else None}
        if self.training:
            self._status["finished"] = datetime.now().astimezone().isoformat(timespec="seconds")
        file, self._file = self._file, None
        try:
            if file is not None:
                with naming(self.folder / "metrics.jsonl"), file:
                    os.fsync(file.fileno())
            self._write_status()
        except OSError:  # a full disk: the error that is under way, and not its echo, is what the user reads
            if error is None:
                raise
        if self._status["state"] == "finished" and self.folder.absolute().parent.name == self.name:
            point_latest(self.folder.absolute())

    def _append(self, step: int | None, values: Mapping[str, Any]) -> None:
        seconds = time.monotonic() - self._clock_zero
        if self.training and step is not None:
            self._status["step"] = int(step)
        if self._file is None:
            self._write_status()
            path = self.folder / "metrics.jsonl"
            cut_short = path.is_file() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (stays open until finalize)
            if cut_short:  # a killed run's half line must not swallow the next one
                self._file.write("\n")
        where = {"step": self._status["step"], "epoch": self._status["epoch"], "time": round(seconds, 3)}
        line = json.dumps(where | scrub(values), ensure_ascii=False, allow_nan=False)
        with naming(self.folder / "metrics.jsonl"):
            self._file.write(line + "\n")
            self._file.flush()
        if time.monotonic() - self._status_written > STATUS_EVERY:
            self._write_status()

    def _write_status(self) -> None:
        self._status["seconds"] = round(time.monotonic() - self._clock_zero, 3)
        self._status_written = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "status.json", json.dumps(scrub(_plain(self._status)), indent=1) + "\n")


class WandbRecord(WandbLogger):
    """Lightning's W&B logger into the run folder's wandb/, without secrets in config, values, console or metadata.

    One process may hold several, one after the other: `close` each before the next.
    """

    def __init__(self, folder: str | Path, *, experiment: str, project: str = "practicum", **kwargs: Any) -> None:
        import wandb

        # W&B would keep the command line, the console and the git patch as they are; the run folder has them scrubbed.
        settings = wandb.Settings(
            silent=True, console="off", x_disable_meta=True, disable_git=True, disable_code=True, save_code=False, **PATIENCE
        )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{experiment}-{folder.name}"
        super().__init__(project=project, name=name, id=folder.name, save_dir=folder, group=experiment, settings=settings, **kwargs)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it even where it is None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, begun when it is first asked for; offline where the host fails."""
        return online_or_offline(lambda: super(WandbRecord, self).experiment, self._wandb_init)

    @rank_zero_only
    def log_config(self, config: str | Mapping[str, Any]) -> None:
        """Sends the resolved config, as RunRecord writes it."""
        plain = yaml.load(config, Loader=YAML_LOADER) if isinstance(config, str) else _plain(config)
        self.experiment.config.update(scrub(plain), allow_val_change=True)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        super().log_hyperparams(scrub(_plain(vars(params) if isinstance(params, Namespace) else params)))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        super().log_metrics(scrub(metrics), step)

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        super().log_image(key, images, step, **scrub(kwargs))

    @rank_zero_only
    def log_table(self, key: str, columns: Any = None, data: Any = None, dataframe: Any = None, step: int | None = None) -> None:
        import wandb

        table = wandb.Table(columns=scrub(columns), data=scrub(data), dataframe=dataframe, allow_mixed_types=True)  # NaN, None
        self.log_metrics({key: table}, step)

    @rank_zero_only
    def log_about(self, key: str, about: Mapping[str, Any]) -> None:
        """Puts what a metric says of itself into the run's summary, under `about/KEY`."""
        self.experiment.summary.update({f"about/{key}": scrub(_plain(about))})

    @rank_zero_only
    def close(self, exit_code: int = 0) -> None:
        """Ends the W&B run, so that the process can begin another."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=exit_code)
            self._experiment = None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain(value: Any) -> Any:
    """Values that JSON and YAML hold; what is not plain becomes its text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return _json_number(float(value))
    if isinstance(value, np.integer):
        return int(value)
    return str(value)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
