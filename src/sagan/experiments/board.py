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
from sagan.system.console import Console, aligned

_BETWEEN_TABLES = 60.0  # seconds, where output is not a terminal


@contextlib.contextmanager
def live_table(console: Console, at_once: int) -> Iterator[Show]:
    """Gives a function to call with the runs' states: a terminal shows one table, which each call updates; elsewhere a
    table is printed every minute."""
    terminal = rich.console.Console(highlight=False)
    if console.quiet or not terminal.is_terminal:
        yield _tables(console, at_once)
        return
    with Live(console=terminal, auto_refresh=False, transient=True) as live:
        yield lambda statuses: live.update(_drawn(statuses, at_once), refresh=True)


def _drawn(statuses: Sequence[RunStatus], at_once: int) -> Text:
    lines = aligned(status_table(statuses))
    return Text("\n".join([*lines, describe_progress(statuses, at_once)]), no_wrap=True, overflow="ellipsis")


def _tables(console: Console, at_once: int) -> Show:
    """Prints a table every minute, for a log file."""
    last = time.monotonic()

    def show(statuses: Sequence[RunStatus]) -> None:
        nonlocal last
        if time.monotonic() - last >= _BETWEEN_TABLES:
            last = time.monotonic()
            console.table(status_table(statuses))
            console.say(describe_progress(statuses, at_once))

    return show
