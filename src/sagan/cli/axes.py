"""From the words of a command line to the values that a sweep's axes have."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sagan.cli.flags import Flag, flags_of, group, item_hint, read, read_value
from sagan.run.config import Config
from sagan.system.errors import UserError


def read_values(words: Sequence[str]) -> tuple[dict[str, list[Any]], list[dict[str, Any]], list[str]]:
    """The values that the words give for settings of a run, what --leave_out leaves out, and the other words."""
    settings = flags_of(Config)
    given: dict[str, list[Any]] = {}
    conditions: list[dict[str, Any]] = []
    rest: list[str] = []
    for each in group(words):
        if each.flag.startswith("--") and each.name in settings:
            given.setdefault(each.name, []).extend(_values_of(each.name, each.values, settings))
        elif each.flag.startswith("--") and each.name == "leave_out":
            conditions.append(_read_condition(each.values, settings))
        else:
            rest += each.words
    return given, conditions, rest


def _values_of(name: str, words: Sequence[str], settings: Mapping[str, Flag]) -> list[Any]:
    """The values that words give for a setting: one for each word, or one of all for a setting that has several."""
    together = item_hint(settings[name].hint) is not None or len(words) < 2
    return [read_value(name, each, settings) for each in ([words] if together else [[word] for word in words])]


def _read_condition(words: Sequence[str], settings: Mapping[str, Flag]) -> dict[str, Any]:
    """What ``span=0 masking=before`` means."""
    if not words or not all("=" in word for word in words):
        raise UserError(f"--leave_out must be such as span=0 masking=before, got {shlex.join(words)!r}")
    pairs = [word.split("=", 1) for word in words]
    for name, _ in pairs:
        if name not in settings:
            read(Config, [f"--{name}"], "sagan sweep")  # which says what is near
    found = {name: _values_of(name, value.split(","), settings) for name, value in pairs}
    for name, values in found.items():
        if len(values) > 1:
            raise UserError(
                f"--leave_out takes one value of --{name}, got {' and '.join(map(str, values))}: give it once for each"
            )
    return {name: values[0] for name, values in found.items()}
