"""The worker processes of a sweep: they import torch once, run trial after trial, and never outlive the sweep."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Self

from callbacks.stopping import Signals, Stopped
from experiments.catalogue import Mistake
from experiments.runs import scrub, write_atomically

PATIENCE = 8.0  # seconds that interrupted trials have to close their runs


class Outcome(NamedTuple):
    """How a trial ended: what went wrong in one line, or "", and its seconds without imports."""

    reason: str
    seconds: float


class Slots:
    """The worker processes: one pool for each, so that a worker that dies takes one trial with it and no other."""

    def __init__(self, num_workers: int, cores: int, folder: Path) -> None:
        self.folder = folder
        asked = os.environ.get("OMP_NUM_THREADS", "")
        self.threads = int(asked) if asked.isdigit() and int(asked) else max(1, cores // num_workers)
        self.busy: dict[Future[Outcome], ProcessPoolExecutor] = {}
        self.free = [self._pool() for _ in range(num_workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        pools = [*self.free, *self.busy.values()]
        processes = [process for pool in pools for process in list((pool._processes or {}).values())]
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        if kind is not None:
            for process in processes:
                if process.pid and process.is_alive():
                    os.kill(process.pid, signal.SIGINT)  # lets a trial write that it was interrupted
        wait(self.busy, timeout=PATIENCE)
        for process in processes:
            process.kill()  # a trial closes its files when it ends; by itself a process with torch takes 5 s to leave

    def begin(self) -> None:
        """Lets all free workers begin their imports at once."""
        for pool in self.free:
            pool.submit(int)

    def prepare(self, arguments: list[str]) -> str:
        """Trains what an experiment needs, on the worker that will run it next; returns what went wrong, or ""."""
        pool = self.free[-1]
        return self._outcome(pool.submit(run_needs, arguments, self.folder / "logs" / "needs.log"), pool).reason

    def submit(self, arguments: list[str], out: Path, log_name: str) -> Future[Outcome]:
        """Begins a trial on a free worker."""
        pool = self.free.pop()
        future = pool.submit(run_trial, arguments, out, self.folder / "logs" / log_name)
        self.busy[future] = pool
        return future

    def result(self, future: Future[Outcome]) -> Outcome:
        """How a trial ended; its worker is free again, or replaced if it died."""
        pool = self.busy.pop(future)
        self.free.append(pool)
        return self._outcome(future, pool)

    def _outcome(self, future: Future[Outcome], pool: ProcessPoolExecutor) -> Outcome:
        try:
            return future.result()
        except BrokenProcessPool:
            self.free[self.free.index(pool)] = self._pool()
            return Outcome("its worker process died (out of memory, or killed)", 0.0)

    def _pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        log = self.folder / "logs" / "workers.log"
        return ProcessPoolExecutor(1, context, initializer=begin_worker, initargs=(self.threads, log))


def begin_worker(threads: int, log: Path) -> None:
    """Sets up a worker process: its threads, its imports, and its end when the sweep's process ends, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between trials; Ctrl-C in a terminal reaches the workers too
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    with output_to(log):
        import torch

        import experiments.training  # noqa: F401 (imported here once for all trials)

        torch.set_num_threads(threads)


def end_with(parent: BaseProcess) -> None:
    """Waits for the parent's end and ends this process; it may be deep in a training step."""
    parent.join()
    os._exit(1)


def run_trial(arguments: list[str], out: Path, log: Path) -> Outcome:
    """One trial, in a worker."""

    def fit() -> None:
        from experiments.training import fit

        fit(arguments, out=out, quiet=True)

    return run_logged(fit, log)


def run_needs(arguments: list[str], log: Path) -> Outcome:
    """Trains what an experiment stands on, in a worker."""

    def fit_needs() -> None:
        from experiments.training import fit_needs

        fit_needs(arguments)

    return run_logged(fit_needs, log)


def run_logged(work: Callable[[], None], log: Path) -> Outcome:
    """Runs `work` with its output and traceback in a file, without secrets."""
    reason, began = "", time.monotonic()
    with output_to(log):
        try:
            with Signals():
                work()
        except (Exception, SystemExit, Stopped) as error:  # whatever this trial did, the next one runs
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            reason = lines[0] if isinstance(error, Mistake) else f"{type(error).__name__}: {lines[0]}"
    text = log.read_text(encoding="utf-8", errors="replace")
    if scrub(text) != text:
        write_atomically(log, scrub(text))
    return Outcome(scrub(reason), round(time.monotonic() - began, 3))


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Appends everything that this process and its children print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip(kept, (1, 2), strict=True):
            os.dup2(number, descriptor)
            os.close(number)
