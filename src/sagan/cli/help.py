"""What ``--help`` prints: the flags that matter on one screen and, with ``--help all``, each with its whole text."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
import shutil
import textwrap
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from sagan.cli.flags import convert, field_texts, item_hint
from sagan.run.plan import spell
from sagan.system.console import reader_may_leave
from sagan.system.sentences import plural
from sagan.system.typed import is_union, suits

_WIDEST = 100  # columns
_LEFT = 26  # columns of the flags' names
_SCREEN = 23  # lines, and one for what is typed next


@dataclasses.dataclass(frozen=True)
class _Shown:
    """A flag, or a place without one, as the short help shows it."""

    name: str
    spelt: str
    text: str
    default: Any


def short_help(shown: Any, command: str, first: Sequence[str]) -> list[str]:
    """The lines of a command's short help, for a screen of 24: its docstring and, of its flags, ``first`` in this
    order, or all where that is empty. ``shown``: as of `show_help`."""
    width = min(_WIDEST, shutil.get_terminal_size().columns) - 1
    flags = {each.name: each for each in _flags(shown)}
    places = [each for each in flags.values() if not each.spelt.startswith("--")]
    chosen = [*places, *(flags[name] for name in first or flags if flags[name] not in places)]
    usage = " ".join(["usage:", command, *(each.spelt for each in places), "[--flag value ...]"])
    about = (shown if isinstance(shown, type) else type(shown)).__doc__ or ""
    above, entries = [usage, "", *_first_lines(about, width), ""], [_entry(each, width, 2) for each in chosen]
    for number, flag in reversed(list(enumerate(chosen))):
        if len(above) + sum(map(len, entries)) + 2 > _SCREEN:
            entries[number] = _entry(flag, width, 1)
    more = len(flags) - len(chosen)
    rest = f", and {plural(more, 'more flag')}" if more else ""
    below = f"[default]   {command} --help all: more about each{rest}"
    return [*above, *itertools.chain(*entries), "", below]


def _flags(shown: Any) -> list[_Shown]:
    """The flags of a dataclass, or of an instance whose values are the defaults."""
    kind = shown if isinstance(shown, type) else type(shown)
    texts, hints, found = field_texts(kind), get_type_hints(kind, include_extras=True), list[_Shown]()
    from tyro.conf import Positional

    for field in dataclasses.fields(kind):
        hint, notes = hints[field.name], list[Any]()
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
        default = field.default if isinstance(shown, type) else vars(shown)[field.name]
        if dataclasses.is_dataclass(hint):
            found += _flags(default if dataclasses.is_dataclass(default) else hint)
            continue
        values = metavar(hint) if len(metavar(hint)) < _LEFT else "NAME"
        spelt = field.name.upper() if Positional in notes else f"--{field.name} {values}"
        found.append(_Shown(field.name, spelt, texts.get(field.name, ""), default))
    return found


def _first_lines(text: str, width: int) -> list[str]:
    """The first paragraph of a docstring, cut to two lines, and the commands after it, which are indented."""
    lines = [line.removeprefix("    ") for line in text.strip().splitlines()]
    commands = [number for number, line in enumerate(lines) if line.startswith(" ")] or [len(lines)]
    about = textwrap.wrap(" ".join(lines[: commands[0]]), width, max_lines=2, placeholder=" ...")
    return [*about, *itertools.takewhile(lambda line: line.startswith(" "), lines[commands[0] :])]


def _entry(flag: _Shown, width: int, most: int) -> list[str]:
    """A flag with the first sentence of its text, cut to so many lines, and its default."""
    words = re.split(r"\.(?:\s|$)|;\s", " ".join(flag.text.split()), maxsplit=1)[0].split(" ")
    usual, default = flag.default, ""
    if isinstance(usual, bool | int | float | str | Path) and usual is not False and usual != "":
        default = f" [{' '.join(spell(usual))}]"
    first = f"  {flag.spelt}".ljust(_LEFT - 1) + " "
    wrap = functools.partial(textwrap.wrap, width=width, initial_indent=first, subsequent_indent=" " * _LEFT)
    lines = wrap(" ".join(words) + default)
    while len(lines) > most and words:
        words.pop()
        lines = wrap(" ".join([*words, "..."]) + default)
    return lines or [first.rstrip()]


def show_help(shown: Any, command: str) -> None:
    """Prints a command's docstring and its flags, each with its field's docstring and its default. ``shown``: a
    dataclass, or an instance whose values are the defaults."""
    import tyro

    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_help_spec)
    options = {} if isinstance(shown, type) else {"default": shown}
    with reader_may_leave(), contextlib.suppress(SystemExit):
        tyro.cli(
            shown if isinstance(shown, type) else type(shown),
            prog=command,
            args=["--help"],
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff, tyro.conf.PositionalMetavarFromFieldName),
            use_underscores=True,
            registry=registry,
            **options,
        )


def _help_spec(info: Any) -> Any:
    """How the help draws a plain type: ``INT``, ``{hinge,wgan-gp}``, ``INT|self`` ..."""
    from tyro.constructors import PrimitiveConstructorSpec

    hint = info.type
    if dataclasses.is_dataclass(hint):
        return None
    return PrimitiveConstructorSpec(
        nargs="*" if item_hint(hint) else 1,
        metavar=metavar(hint),
        instance_from_str=lambda words: convert(words, hint),
        is_instance=lambda value: suits(value, hint),
        str_from_instance=lambda value: ["unset"] if value is None else spell(value),
    )


def metavar(hint: Any) -> str:
    if is_union(hint):
        return "|".join(metavar(option) for option in get_args(hint) if option is not types.NoneType)
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return choices[0] if len(choices) == 1 else f"{{{','.join(choices)}}}"
    if get_origin(hint) is tuple:
        return f"{metavar(get_args(hint)[0])} ..."
    return {int: "INT", float: "FLOAT", bool: "{true,false}", Path: "PATH"}.get(hint, "TEXT")
