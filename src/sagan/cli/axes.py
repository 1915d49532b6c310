"""From the words of a command line to the values that a sweep's axes have."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from sagan.cli.flags import Flag, flags_of, read
from sagan.run.config import Config
from sagan.system.errors import UserError


def read_values(arguments: Sequence[str]) -> tuple[dict[str, list[Any]], list[dict[str, Any]], list[str]]:
    """The values that the words give for settings of a run, what --leave_out leaves out, and the other words."""
    settings = flags_of(Config)
    given: dict[str, list[Any]] = {}
    conditions: list[dict[str, Any]] = []
    rest: list[str] = []
    for group in _groups(arguments):
        flag, equals, value = group[0].partition("=")
        name = flag.lstrip("-").replace("-", "_")
        words = [value] * bool(equals) + group[1:]
        if not flag.startswith("--") or name not in {*settings, "leave_out"}:
            rest += group
        elif name == "leave_out":
            conditions.append(_read_condition(words, settings))
        else:
            given.setdefault(name, []).extend(_values_of(name, words, settings[name]))
    return given, conditions, rest


def _groups(arguments: Sequence[str]) -> list[list[str]]:
    """The words in groups that begin with a flag each; what stands before the first flag is a group of its own."""
    groups: list[list[str]] = []
    for word in arguments:
        is_flag = word.startswith("-") and not word[1:2].isdigit()  # -1 is a number
        if is_flag or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    return groups


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
