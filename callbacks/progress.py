"""Progress of long work: a bar where stderr is a terminal, else a plain line at the start, each minute, and at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")
QUIET_SECONDS = 2.0  # without a terminal, shorter work than this is not worth its lines
BETWEEN_LINES = 60.0  # seconds


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yields `items`, showing on stderr how far it is; `total` where `len(items)` is not known."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as progress:
            yield from progress.track(items, total=total, description=what)
        return
    begin = time.monotonic()
    due = begin + QUIET_SECONDS
    for index, item in enumerate(items):
        yield item
        now = time.monotonic()
        if index + 1 != total and now > due:
            seconds = (now - begin) / (index + 1)  # an item
            share = f" ({index + 1} of {total} done, about {seconds * (total - index - 1):.0f} s left)" if total else ""
            print(f"{what} ...{share}", file=sys.stderr, flush=True)
            due = now + BETWEEN_LINES
    if time.monotonic() - begin > QUIET_SECONDS:
        print(f"{what}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
