"""The command that shows how runs stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import asks_help, read, show_help
from sagan.system.console import Console
from sagan.system.typed import fill


@dataclass(frozen=True)
class StatusFlags:
    """Show how runs stand, from their files: state, step, latest score, the guard's verdict, rollbacks, time left."""

    places: Annotated[tuple[str, ...], Positional] = ("runs",)
    """Folders of sweeps or runs, or with those in them; by default runs."""


def status(arguments: Sequence[str], console: Console) -> int:
    """Show how runs and sweeps stand, from their files."""
    if asks_help(arguments):
        show_help(StatusFlags, "sagan status")
        return 0
    from sagan.experiments.sweep import find_watched
    from sagan.run.status import describe_progress, status_table

    flags = fill(StatusFlags, read(StatusFlags, arguments, "sagan status"))
    for place in map(Path, flags.places):
        statuses = [watched.look() for watched in find_watched(place)]
        if len(flags.places) > 1:
            console.say(f"{place}")
        console.table(status_table(statuses))
        for each in statuses:
            if each.reason:
                console.say(f"{each.name}: {each.reason}")
        console.say(describe_progress(statuses))
    return 0
