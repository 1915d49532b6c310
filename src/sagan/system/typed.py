"""Frozen dataclasses and the plain values they are written as: one check of every field, whatever file it comes from.

`from_plain` reads what `to_plain` wrote. It checks that no field is missing or unknown, the type of each value, and
that numbers are finite; what else must hold is said by the dataclass itself in ``__post_init__``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from sagan.system.errors import UserError

T = TypeVar("T")
AnyFloat = NewType("AnyFloat", float)  # a number that may be NaN or infinite

LARGEST = 2**63  # whole numbers from files are smaller: torch and the file formats hold no others

_NUMBERS = {int: "a whole number", float: "a number"}


def suits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field's hint names; a whole number suits a float, a bool no number."""
    if get_origin(hint) is Literal:
        return any(value is choice or (type(value) is type(choice) and value == choice) for choice in get_args(hint))
    if is_union(hint):
        return any(suits(value, option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(suits(item, get_args(hint)[0]) for item in value)
    if hint is AnyFloat:
        hint = float
    if hint in _NUMBERS:
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def wording(hint: Any) -> str:
    """What a hint allows, for a sentence: "a whole number", "hinge or wgan-gp", "a whole number or self"."""
    if is_union(hint):
        return " or ".join(wording(option) for option in get_args(hint) if option is not types.NoneType)
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "whole numbers, or none" if get_args(hint)[0] is int else f"one or more of {wording(get_args(hint)[0])}"
    return {**_NUMBERS, AnyFloat: "a number", bool: "true or false", Path: "a path"}.get(hint, "text")


def is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def fill(kind: type[T], values: Mapping[str, Any], base: T | None = None) -> T:
    """A dataclass, with those inside it, from values by their bare names; what is not given is as in ``base``."""
    hints = get_type_hints(kind)
    given = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint: Any = hints[field.name]
        if dataclasses.is_dataclass(hint):
            given[field.name] = fill(hints[field.name], values, getattr(base, field.name, None))
        elif field.name in values:
            given[field.name] = values[field.name]
        elif base is not None:
            given[field.name] = getattr(base, field.name)
    return kind(**given)


# ---- from files


def read_json(path: Path) -> object:
    """What a JSON file holds. Raises UserError for anything else, OSError where it cannot be read."""
    return parse_json(_bytes_of(path), str(path))


def _bytes_of(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is damaged: it is not a file")
    return path.read_bytes()


def parse_json(text: bytes, where: str) -> object:
    """What a JSON text holds; ``where`` names it in the UserError for anything else."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
        raise UserError(f"{where} is damaged: {reason}") from error
    return value


def from_plain(kind: type[T], given: object, where: str) -> T:
    """The dataclass that plain values (of JSON) describe, every field checked. ``where`` names their file in errors.

    Fields without a value take their default; a class method ``upgraded`` of ``kind`` may first fill in what files of
    earlier versions lack. Raises UserError, saying which field of which file is wrong, or that the
    file was written by a newer version where it has fields that ``kind`` lacks.
    """
    if not isinstance(given, dict):
        raise UserError(f"{where} is damaged: it must be a JSON object, got {shorten(given)}")
    upgrade = getattr(kind, "upgraded", dict)  # what an earlier version did not write
    given = dict[str, object](upgrade(given))
    readers, required = _readers(kind)  # type: ignore[arg-type]
    unknown = sorted(str(name) for name in given.keys() - readers.keys())
    if unknown:
        raise UserError(f"{where} {newer(unknown)}")
    missing = [name for name in required if name not in given]
    if missing:
        raise UserError(f"{where} is damaged: {', '.join(missing)} missing")
    values = {}
    for name, value in given.items():
        hint = readers[name]
        values[name] = _from_plain_value(hint, value, name, where)
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error


def check_format(found: object, known: int, where: str) -> None:
    """Raises UserError for a file whose format number is not the one this version reads."""
    if isinstance(found, int) and not isinstance(found, bool) and found > known:
        raise UserError(
            f"{where} was written by a newer sagan: its format is {shorten(found)}, this version reads {known}"
        )
    if found != known or isinstance(found, bool):
        raise UserError(
            f"{where} is damaged: its format is {shorten(found)}, this version of sagan reads format {known}"
        )


def newer(names: list[str]) -> str:
    """The end of a sentence about a file that has fields, or kinds of record, that this version does not know."""
    return f"was written by a newer sagan: this version does not know {', '.join(names[:5])}"


def to_plain(value: Any) -> Any:
    """A dataclass as JSON-ready values; fields of None that have that default are left out."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: (getattr(value, field.name), field.default) for field in dataclasses.fields(value)}
        return {
            name: to_plain(held) for name, (held, default) in fields.items() if held is not None or default is not None
        }
    if isinstance(value, Mapping):
        return {key: to_plain(held) for key, held in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


def shorten(value: object) -> str:
    """A value for a sentence, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of too many digits, or nested too deeply
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


@functools.cache
def _readers(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The type of every field of a dataclass, and the names of those without a default."""
    hints = get_type_hints(kind)
    absent = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = tuple(each.name for each in fields if each.default is absent and each.default_factory is absent)
    return {each.name: hints[each.name] for each in fields}, required


def _from_plain_value(hint: Any, value: Any, name: str, where: str) -> Any:
    if hint in (object, Any):
        return value
    if hint is float and type(value) is float and math.isfinite(value):  # most values, and the sooner the better
        return value
    if (hint is int and type(value) is int and abs(value) < LARGEST) or (hint is str and type(value) is str):
        return value
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, f"{where.removesuffix(',')}, {name},")  # type: ignore[arg-type]
    origin = get_origin(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_from_plain_value(get_args(hint)[0], item, name, where) for item in value)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if isinstance(value, dict):
            return {
                key: _from_plain_value(get_args(hint)[1], each, f"{name}[{key!r}]", where)
                for key, each in value.items()
            }
        raise UserError(f"{where} is damaged: {name} must be a JSON object, got {shorten(value)}")
    if is_union(hint):
        return _from_plain_union(hint, value, name, where)
    if hint is AnyFloat and type(value) is float:
        return value
    if not suits(value, hint):
        raise UserError(f"{where} is damaged: {name} must be {wording(hint)}, got {shorten(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is damaged: {name} must be finite, got {value}")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST:
        raise UserError(f"{where} is damaged: {name} must be below 2**63, got {shorten(value)}")
    return float(value) if hint is AnyFloat else value


def _from_plain_union(hint: Any, value: Any, name: str, where: str) -> Any:
    """The value by the first option that takes it."""
    options = get_args(hint)
    if value is None and types.NoneType in options:
        return None
    some = [option for option in options if option is not types.NoneType]
    for option in some[:-1]:
        try:
            return _from_plain_value(option, value, name, where)
        except UserError:
            continue
    try:
        return _from_plain_value(some[-1], value, name, where)
    except UserError as error:
        if len(some) == 1:
            raise
        raise UserError(f"{where} is damaged: {name} must be {wording(hint)}, got {shorten(value)}") from error
