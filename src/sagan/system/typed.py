"""Values of the types that the fields of dataclasses name: whether one suits, what is allowed in words, and filling."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_NUMBERS = {int: "a whole number", float: "a number"}


def suits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field's hint names; a whole number suits a float, a bool no number."""
    if get_origin(hint) is Literal:
        return any(value is choice or (type(value) is type(choice) and value == choice) for choice in get_args(hint))
    if is_union(hint):
        return any(suits(value, option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(suits(item, get_args(hint)[0]) for item in value)
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
    return {**_NUMBERS, bool: "true or false", Path: "a path"}.get(hint, "text")


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
