"""Frozen dataclasses and the plain values they are written as: one check of every field, whatever file it comes from.

`from_plain` reads what `to_plain` wrote. It checks that no field is missing or unknown, the type of each value, and
that numbers are finite. A dataclass checks everything else itself, in ``__post_init__``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import reprlib
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sagan.system.errors import UserError
from sagan.system.files import read_regular
from sagan.system.sentences import did_you_mean

T = TypeVar("T")

_NOT_FINITE = "NaN and infinity too"
_ALLOWED: dict[str, Callable[[Any], bool]] = {  # in words, and the check
    "0 or more": lambda number: number >= 0,
    "1 or more": lambda number: number >= 1,
    "64 hexadecimal digits": lambda text: re.fullmatch("[0-9a-f]{64}", text) is not None,
    "height x width, such as 64x64": lambda text: re.fullmatch("[1-9][0-9]{0,8}x[1-9][0-9]{0,8}", text) is not None,
}
Count = Annotated[int, "0 or more"]
Positive = Annotated[int, "1 or more"]
Amount = Annotated[float, "0 or more"]
Seconds = Amount
AnyFloat = Annotated[float, _NOT_FINITE]
Sha256 = Annotated[str, "64 hexadecimal digits"]
ImageSize = Annotated[str, "height x width, such as 64x64"]

LARGEST = 2**63 - 1  # of the whole numbers in files, as torch and the file formats require


def refuse_beyond(name: str, number: float, most: int = LARGEST) -> None:
    """Raises UserError for a number far beyond any use, whose absolute value is more than ``most``, and for NaN."""
    if not -most <= number <= most:
        raise UserError(f"`{name}` must be from -{most:,} to {most:,}, got {shorten(number)}")


_NUMBERS = {int: "a whole number", float: "a number"}


def plain(value: Any) -> Any:
    """A number of numpy's, such as ``np.int64(3)``, as Python's own, also within a tuple; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    numpy = sys.modules.get("numpy")  # without it there are no such numbers
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def make_plain(made: Any) -> None:
    """Makes the values of a frozen dataclass `plain`; for its ``__post_init__``."""
    for field in dataclasses.fields(made):
        object.__setattr__(made, field.name, plain(getattr(made, field.name)))


def suits(value: Any, hint: Any) -> bool:
    """Whether a value has the type of a field's hint. A whole number may stand for a float, a bool for no number."""
    if type(value) is hint:  # most values, so first
        return True
    if get_origin(hint) is Literal:
        return any(value is choice or (type(value) is type(choice) and value == choice) for choice in get_args(hint))
    if is_union(hint):
        return any(suits(value, option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(suits(item, get_args(hint)[0]) for item in value)
    if hint in _NUMBERS:
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def ordinary(value: object, hint: Any) -> object:
    """A value given in Python as the plain one of a field's hint: a list as a tuple, a path as text."""
    options = get_args(hint) if is_union(hint) else (hint,)
    if isinstance(value, list) and any(get_origin(option) is tuple for option in options):
        return tuple(value)
    return os.fspath(value) if isinstance(value, os.PathLike) and str in options else value


def wording(hint: Any) -> str:
    """The values that a hint allows, in words: "a whole number", "hinge or wgan-gp", "a whole number or self"."""
    if is_union(hint):
        return " or ".join(wording(option) for option in get_args(hint) if option is not types.NoneType)
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "whole numbers, or none" if get_args(hint)[0] is int else f"one or more of {wording(get_args(hint)[0])}"
    return {**_NUMBERS, bool: "true or false", Path: "a path"}.get(hint, "text")


def near_choice(value: object, hint: Any) -> str:
    """The end of a sentence that names the choice of a hint nearest to a misspelt one; "" where none is near."""
    for option in get_args(hint) if is_union(hint) else (hint,):
        if get_origin(option) is tuple:
            option = get_args(option)[0]
        if get_origin(option) is Literal and (near := did_you_mean(str(value), map(str, get_args(option)))):
            return near
    return ""


def is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


@functools.cache
def type_hints(kind: type[Any]) -> Mapping[str, Any]:
    """The types of a dataclass's fields by name. They take long to find out, so once for each class."""
    return get_type_hints(kind)


def fill(kind: type[T], values: Mapping[str, Any], base: T | None = None) -> T:
    """A dataclass, and the dataclasses in its fields, from values by field name. What ``values`` lacks is taken from
    ``base`` or, without one, is the field's default. See `ordinary`. Raises UserError, with the nearest name, for an
    unknown one."""
    known = _names(kind)  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UserError(f"there is no setting {name!r}{did_you_mean(name, known)}")
    return _fill(kind, values, base)


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields and, in place of those that are dataclasses, of theirs."""
    names: list[str] = []
    for name, hint in type_hints(kind).items():
        names += _names(hint) if dataclasses.is_dataclass(hint) else [name]  # type: ignore[arg-type]
    return tuple(names)


def _fill(kind: type[T], values: Mapping[str, Any], base: T | None) -> T:
    hints = type_hints(kind)  # type: ignore[arg-type]
    if base is not None and hints.keys().isdisjoint(values) and not any(map(dataclasses.is_dataclass, hints.values())):
        return base
    given = {}
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            given[name] = _fill(hint, values, getattr(base, name, None))  # type: ignore[arg-type]
        elif name in values:
            given[name] = ordinary(values[name], hint)
        elif base is not None:
            given[name] = getattr(base, name)
    return kind(**given)


# ---- from files


LARGEST_JSON = 2**20  # bytes: the values may take thirty times as much memory


def read_json(path: Path, most: int = LARGEST_JSON) -> object:
    """The content of a JSON file of at most so many bytes. Raises UserError if it is not JSON or larger, OSError if it
    cannot be read."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is damaged: it is not a file")
    return parse_json(read_regular(path, most), str(path), most)


def parse_json(text: bytes, where: str, most: int = LARGEST_JSON) -> object:
    """The value of a JSON text; ``where`` names the text in the UserError for one that is not JSON, or larger."""
    if len(text) > most:
        raise UserError(f"{where} is damaged: it has {len(text):,} bytes of JSON, more than {most:,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
        raise UserError(f"{where} is damaged: {reason}") from error


def from_plain(kind: type[T], given: object, where: str) -> T:
    """The dataclass that plain values (of JSON) describe, every field checked. ``where`` names their file in errors.

    A field without a value takes its default; a class method ``upgraded`` of ``kind`` may first fill in what files of
    earlier versions lack. Raises UserError, naming the file and the field, for a wrong or missing value, and for a
    field that ``kind`` lacks: a newer version wrote the file.
    """
    if not isinstance(given, dict):
        raise UserError(f"{where} is damaged: it must be a JSON object, got {shorten(given)}")
    upgrade = getattr(kind, "upgraded", dict)
    given = dict[str, object](upgrade(given))
    hints, required = _fields(kind)  # type: ignore[arg-type]
    _refuse_newer(kind, given, where)
    missing = [name for name in required if name not in given]
    if missing:
        raise UserError(f"{where} is damaged: {', '.join(missing)} missing")
    values = {name: _from_plain_value(hints[name], value, name, where) for name, value in given.items()}
    try:
        return kind(**values)
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error


def check_format(found: object, known: int, where: str) -> None:
    """Raises UserError for a file whose format number is not the one this version reads."""
    if type(found) is int and found > known:
        raise UserError(
            f"{where} was written by a newer sagan: its format is {shorten(found)}, this version reads {known}"
        )
    if type(found) is not int or found != known:
        raise UserError(
            f"{where} is damaged: its format is {shorten(found)}, this version of sagan reads format {known}"
        )


def newer(names: list[str]) -> str:
    """The end of a sentence about a file with fields, or kinds of record, of a later version."""
    return f"was written by a newer sagan: this version does not know {', '.join(names[:5])}"


def to_plain(value: Any) -> Any:
    """A dataclass as values for JSON. Fields whose value and default are None are left out."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: (getattr(value, field.name), field.default) for field in dataclasses.fields(value)}
        return {
            name: to_plain(held) for name, (held, default) in fields.items() if held is not None or default is not None
        }
    if isinstance(value, Mapping):
        return {key: to_plain(held) for key, held in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


class _Short(reprlib.Repr):
    """Looks at a few of many items, as a list may hold itself a million times over, and into nothing that it does not
    know: a tensor's text may be of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong = 4, 200, 200

    def repr_instance(self, x: Any, level: int) -> str:
        return repr(x) if isinstance(x, (bool, float, complex, types.NoneType)) else type(x).__name__.lower()


_SHORT = _Short()


def shorten(value: object) -> str:
    """A value for a sentence, cut after 60 characters; only the kind of one that is no text, number or container."""
    try:
        text = _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of too many digits, or nested too deeply
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_newer(kind: Any, given: Mapping[str, object], where: str) -> None:
    """Raises UserError for names that a dataclass, or one in its fields, does not know: before any value is checked,
    as a newer version may also allow other values."""
    hints, _ = _fields(kind)
    if unknown := sorted(map(foreign, given.keys() - hints.keys())):
        raise UserError(f"{where} {newer(unknown)}")
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint) and isinstance(within := given.get(name), dict):
            _refuse_newer(hint, within, _part(where, name))


def _part(where: str, name: str) -> str:
    return f"{where.removesuffix(',')}, {name},"


def foreign(name: object) -> str:
    """A name from a file, for a sentence: as it is if it could be one of ours, else quoted and cut."""
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= 60 else shorten(name)


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The type of every field of a dataclass, and the names of the fields without a default."""
    hints = get_type_hints(kind, include_extras=True)
    absent = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = tuple(each.name for each in fields if each.default is absent and each.default_factory is absent)
    return {each.name: hints[each.name] for each in fields}, required


def _from_plain_value(hint: Any, value: Any, name: str, where: str) -> Any:
    if hint in (object, Any):
        return value
    if hint is float and type(value) is float and math.isfinite(value):  # most values, so first
        return value
    if hint is int and type(value) is int and abs(value) <= LARGEST:
        return value
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value, _part(where, name))  # type: ignore[arg-type]
    if is_union(hint):
        return _from_plain_union(hint, value, name, where)
    origin = get_origin(hint)
    if origin is Annotated:
        return _from_plain_annotated(hint, value, name, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_from_plain_value(get_args(hint)[0], item, name, where) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(name, "a JSON object", value, where)
        kind = get_args(hint)[1]
        return {key: _from_plain_value(kind, each, f"{name}[{shorten(key)}]", where) for key, each in value.items()}
    if not suits(value, hint):
        raise _wrong(name, wording(hint), value, where)
    if isinstance(value, str) and not _is_text(value):
        raise _wrong(name, "text without NUL and lone surrogates", value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(name, "finite", value, where)
    if isinstance(value, int) and abs(value) > LARGEST:
        raise _wrong(name, "below 2**63", value, where)
    return value


def _is_text(value: str) -> bool:
    """Whether a text can be a path; bytes of one that is not UTF-8 are kept as surrogates (``surrogateescape``)."""
    try:
        return b"\0" not in value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False


def _from_plain_annotated(hint: Any, value: Any, name: str, where: str) -> Any:
    kind, allowed = get_args(hint)
    if allowed == _NOT_FINITE:
        return value if type(value) is float else float(_from_plain_value(kind, value, name, where))
    made = _from_plain_value(kind, value, name, where)
    if not _ALLOWED[allowed](made):
        raise _wrong(name, allowed, value, where)
    return made


def _from_plain_union(hint: Any, value: Any, name: str, where: str) -> Any:
    """The value by the first option that allows it."""
    options = [option for option in get_args(hint) if option is not types.NoneType]
    if value is None and types.NoneType in get_args(hint):
        return None
    if len(options) == 1:
        return _from_plain_value(options[0], value, name, where)
    for option in options:
        with contextlib.suppress(UserError):
            return _from_plain_value(option, value, name, where)
    raise _wrong(name, wording(hint), value, where)


def _wrong(name: str, allowed: str, value: object, where: str) -> UserError:
    return UserError(f"{where} is damaged: {name} must be {allowed}, got {shorten(value)}")
