"""The table of a sweep's runs while they are executed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import rich.console
from rich.live import Live
from rich.text import Text

from sagan.experiments.sweep import Show
from sagan.run.status import RunStatus, describe_progress, status_table
from sagan.system.console import Console

_BETWEEN_TABLES = 60.0  # seconds, where output is not a terminal


@contextlib.contextmanager
def live_table(console: Console, at_once: int) -> Iterator[Show]:
    """Gives a function to call with the runs' states: a terminal shows one table, which each call updates; elsewhere a
    table is printed every minute."""
    terminal = rich.console.Console(highlight=False)
    if console.quiet or not terminal.is_terminal:
        yield _Tables(console, at_once)
        return
    with Live(console=terminal, auto_refresh=False, transient=True) as live:

        def show(statuses: Sequence[RunStatus]) -> None:
            live.update(_drawn(statuses, at_once), refresh=True)

        yield show


def _drawn(statuses: Sequence[RunStatus], at_once: int) -> Text:
    rows = status_table(statuses)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return Text("\n".join([*lines, describe_progress(statuses, at_once)]), no_wrap=True, overflow="ellipsis")


class _Tables:
    """A table every minute, for a log file."""

    def __init__(self, console: Console, at_once: int):
        self.console, self.at_once = console, at_once
        self.last = time.monotonic()

    def __call__(self, statuses: Sequence[RunStatus]) -> None:
        now = time.monotonic()
        if now - self.last >= _BETWEEN_TABLES:
            self.last = now
            self.console.table(status_table(statuses))
            self.console.say(describe_progress(statuses, self.at_once))
