"""`sagan status`: how runs and sweeps stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.system.console import Console


@dataclass(frozen=True)
class StatusFlags:
    """Show how runs stand, from their files: state, step, latest score, the guard's verdict, rollbacks, time left."""

    places: Annotated[tuple[Path, ...], Positional] = (Path("runs"),)
    """Folders of sweeps or runs, or with those in them; by default runs."""


def status(words: Sequence[str], console: Console) -> int:
    """Show how runs and sweeps stand, from their files."""
    places = parse(StatusFlags, words, "sagan status").places
    from sagan.experiments.sweep import find_watched
    from sagan.run.status import describe_progress, status_table

    for place in places:
        statuses = [watched.look() for watched in find_watched(place)]
        if len(places) > 1:
            console.say(f"{place}")
        console.table(status_table(statuses))
        for each in statuses:
            if each.reason:
                console.say(f"{each.name}: {each.reason}")
        console.say(describe_progress(statuses))
    return 0
