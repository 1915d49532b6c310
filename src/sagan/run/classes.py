"""The classes of a run: networks know them by number, people by name."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

from sagan.system.errors import UserError

_ALL = 12  # the most classes that are all named in a sentence
_SOME = 8  # of more classes, the first ones that are


def list_classes(names: Sequence[str], numbers: Sequence[int] | None = None) -> str:
    """The classes with their numbers, such as "0 ant, 1 bat, 2 cat"; of many, the first few and the last. Names that
    are numbers are told apart from these: "0 ('2'), 1 ('10')". ``names``: of all classes by number. ``numbers``: those
    to list, by default all."""
    chosen = range(len(names)) if numbers is None else numbers
    if any(name[:1].isdecimal() for name in names):
        known = [describe_class(number, names) for number in chosen]
    else:
        known = [f"{number} {names[number]}" for number in chosen]
    return ", ".join(known) if len(known) <= _ALL else f"{', '.join(known[:_SOME])}, ... {known[-1]}"


def describe_class(number: int, names: Sequence[str]) -> str:
    """A class by number and name, such as "2 ('10')"; by its number alone if the names are unknown."""
    return f"{number} ('{names[number]}')" if names else f"{number}"


def class_number(label: str | int, names: Sequence[str], count: int) -> int:
    """The number of one of ``count`` classes, given by a text or by its number.

    A text is the name of a class or, if no class has this name, its number. ``names``: of all classes by number, empty
    if they are unknown. Raises UserError, with the names there are, for a class that does not exist.
    """
    if isinstance(label, str) and (same := _find(label, names)) is not None:
        return same
    number = int(label) if not isinstance(label, str) or label.isdecimal() else None
    if number is not None and 0 <= number < count:
        return number
    asked = repr(label) if number is None else number
    if not count:
        raise UserError(f"this generator has no classes, got label {asked}")
    known = f"they are {list_classes(names)}" if names else "their names are unknown, as an earlier version trained it"
    near = _nearest(str(label), names) if number is None else ""
    raise UserError(f"this generator has classes 0 to {count - 1}, got label {asked}: {known}{near}")


def _find(label: str, names: Sequence[str]) -> int | None:
    """The number of the class with this name, or else with one that only writes accents differently, as macOS does."""
    if label in names:
        return names.index(label)
    composed = [unicodedata.normalize("NFC", name) for name in names]
    wanted = unicodedata.normalize("NFC", label)
    return composed.index(wanted) if wanted in composed else None


def _nearest(label: str, names: Sequence[str]) -> str:
    """The end of a sentence with the name nearest to a misspelt one, in upper or lower case; "" if none is near."""
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(label.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""
