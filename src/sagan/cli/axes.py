"""From the words of a command line to the values that a sweep's axes have."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from sagan.cli.flags import Flag, flags_of, groups, read
from sagan.run.config import Config
from sagan.system.errors import UserError


def read_values(arguments: Sequence[str]) -> tuple[dict[str, list[Any]], list[dict[str, Any]], list[str]]:
    """The values that the words give for settings of a run, what --leave_out leaves out, and the other words."""
    settings = flags_of(Config)
    given: dict[str, list[Any]] = {}
    conditions: list[dict[str, Any]] = []
    rest: list[str] = []
    for group in groups(arguments):
        words = [*([] if group.value is None else [group.value]), *group.words]
        if group.name == "leave_out":
            conditions.append(_read_condition(words, settings))
        elif group.name in settings and group.spelt.startswith("--"):
            given.setdefault(group.name, []).extend(_values_of(group.name, words, settings[group.name]))
        else:
            spelt = group.spelt if group.value is None else f"{group.spelt}={group.value}"
            rest += [*([spelt] if spelt else []), *group.words]
    return given, conditions, rest


def _values_of(name: str, words: Sequence[str], flag: Flag) -> list[Any]:
    """The values that words give for a setting: one for each word, or one of all for a setting that has several."""
    together = _is_several(flag.hint) or len(words) < 2
    spelt = [[f"--{name}", *words]] if together else [[f"--{name}", word] for word in words]
    return [read(Config, each, "sagan sweep")[name] for each in spelt]


def _is_several(hint: Any) -> bool:
    return any(get_origin(option) is tuple for option in (hint, *get_args(hint)))


def _read_condition(words: Sequence[str], settings: Mapping[str, Flag]) -> dict[str, Any]:
    """What ``span=0 masking=before`` means."""
    if not words or not all("=" in word for word in words):
        raise UserError(f"--leave_out must be such as span=0 masking=before, got {shlex.join(words)!r}")
    pairs = [word.split("=", 1) for word in words]
    for name, _ in pairs:
        if name not in settings:
            read(Config, [f"--{name}"], "sagan sweep")  # which says what is near
    found = {name: _values_of(name, value.split(","), settings[name]) for name, value in pairs}
    for name, values in found.items():
        if len(values) > 1:
            raise UserError(
                f"--leave_out takes one value of --{name}, got {' and '.join(map(str, values))}: give it once for each"
            )
    return {name: values[0] for name, values in found.items()}
