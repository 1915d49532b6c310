"""What the processes that carry out one command compare before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sagan.run.card import versions
from sagan.run.config import names_of
from sagan.system.world import World

_PLACES = names_of("place") | {"data", "run", "target", "out", "reference", "weights"}


def compare_flags(world: World, command: str, flags: Mapping[str, object]) -> None:
    """Raises UserError, in every process, where one carries out another command or has another value of a flag.

    ``flags``: all of the command, with their defaults. Places may have other names on other machines, and are left out,
    but it must be the same kind of output that is written: the last name of ``out`` is compared.
    """
    compared = {name: value for name, value in flags.items() if name not in _PLACES}
    out = flags.get("out")
    named = {"out": out.name} if isinstance(out, Path) else {}
    world.compare({"command": command, **named, **compared, **(versions() if world.size > 1 else {})})
