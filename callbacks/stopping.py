"""Signals that ask a process to stop become one exception, which waits while what must not be cut in two is going on."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Stopped(BaseException):
    """A signal has asked this process to stop; `exit_code` is the shell's, 128 + its number (143, 130, 129)."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class Signals:
    """Within `with signals:`, SIGTERM, SIGINT and SIGHUP raise `Stopped`: at once, or as long as `deferred`, when `check` is called.

    In a thread other than the main one, where Python lets nobody handle signals, it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        while self._former:
            signal.signal(*self._former.popitem())

    def install(self) -> None:
        """Takes the signals (again: Lightning puts a handler of its own for SIGTERM into place when a fit begins)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in STOPPING:
            former = signal.signal(signum, self._handle)
            self._former.setdefault(signum, former)

    def check(self) -> None:
        """Raises `Stopped` if a signal has come."""
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        if not self.deferred:
            self.check()
