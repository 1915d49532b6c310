"""Reads the words of a command line into the fields of a dataclass, with one sentence for any mistake.

A dataclass may contain others; their fields' bare names are the flags. `tyro` draws the help from the same fields.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import re
import textwrap
import types
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypeVar, get_args, get_origin, get_type_hints

from sagan.system.errors import UserError
from sagan.system.files import expand
from sagan.system.typed import fill, is_union, near_choice, wording

T = TypeVar("T")

_TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


# ---- values


def truth(text: str) -> bool:
    """True or false from true, yes, on, 1, or false, no, off, 0, in any case. Raises UserError for anything else."""
    if text.lower() not in _TRUTH:
        raise UserError(f"must be true or false, got {text!r}")
    return _TRUTH[text.lower()]


def convert(words: Sequence[str], hint: Any) -> Any:
    """The value of the type ``hint`` that words spell. Raises UserError, saying what is allowed.

    ``none`` spells None where the hint allows that, and an empty tuple where it is a tuple.
    """
    item = item_hint(hint)
    if item is Path:
        return tuple(map(expand, words))  # a path may contain commas, or be called none
    if item and len(words) == 1 and (choice := _choice_beside(words[0], item, hint)):
        return choice
    if item and not (len(words) == 1 and words[0].lower() == "none"):
        return tuple(convert([part], item) for word in words for part in word.split(",") if part)
    if item:
        return ()
    options = get_args(hint) if is_union(hint) else (hint,)
    for option in sorted(options, key=lambda option: option is not types.NoneType):  # first, as "none" is also a text
        for value in _readings(words[0], option):
            return value
    raise UserError(f"must be {wording(hint)}, got {words[0]!r}{near_choice(words[0], hint)}")


def _choice_beside(text: str, item: Any, hint: Any) -> Any:
    """The choice that a text spells where a hint allows one in place of a tuple of items that are no such choice."""
    if any(_readings(text, option) for option in get_args(item) or (item,)):
        return None
    choices = [option for option in get_args(hint) if get_origin(option) is Literal]
    return next((value for option in choices for value in _readings(text, option)), None)


def _readings(text: str, hint: Any) -> list[Any]:
    """The value that a text spells for a plain hint, in a list; an empty list where it spells none."""
    if hint is types.NoneType:
        return [None] if text.lower() == "none" else []
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if str(choice) == text]
    if hint is Path:
        return [expand(text)]
    try:
        return [{bool: truth, int: _whole}.get(hint, hint)(text)]
    except ValueError:
        return []


def _whole(text: str) -> int:
    """A whole number, which may be spelt 1e5 or 5.0."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text} is not whole")
    return int(number)


def item_hint(hint: Any) -> Any:
    """The type of the items where a hint is a tuple, else None."""
    for option in get_args(hint) if is_union(hint) else (hint,):
        if get_origin(option) is tuple:
            return get_args(option)[0]
    return None


# ---- words


@dataclasses.dataclass(frozen=True)
class Group:
    """A flag and the words after it, up to the next flag. Words before any flag are a group too."""

    flag: str
    """The flag as it was typed, such as ``--batch-size``; "" for the words before any."""
    values: list[str]
    joined: bool = False
    """Whether the first value was joined to the flag by ``=``."""

    @property
    def name(self) -> str:
        """The name of the field, such as ``batch_size``."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def words(self) -> list[str]:
        """The words that the group was made from."""
        if self.joined:
            return [f"{self.flag}={self.values[0]}", *self.values[1:]]
        return [self.flag] * bool(self.flag) + self.values


def group(words: Sequence[str]) -> list[Group]:
    """The words of a command line in groups."""
    found = [Group("", [])]
    for word in words:
        if re.match(r"--?[A-Za-z]", word):  # -1 is a number
            flag, equals, value = word.partition("=")
            found.append(Group(flag, [value] * bool(equals), bool(equals)))
        else:
            found[-1].values.append(word)
    return found if found[0].values else found[1:]


def class_as_label(words: Sequence[str]) -> list[str]:
    """Words in which ``--class`` is spelt ``--label``, the field of both: a field cannot have a keyword's name. Raises
    UserError where both are given."""
    spelt = [re.sub("=.*", "", word, flags=re.DOTALL) for word in words]
    if "--class" in spelt and "--label" in spelt:
        raise UserError("--class and --label are the same flag: give one of them")
    pairs = zip(words, spelt, strict=True)
    return ["--label" + word.removeprefix("--class") if flag == "--class" else word for word, flag in pairs]


# ---- fields


@dataclasses.dataclass(frozen=True)
class Flag:
    """A field that the command line can set."""

    hint: Any
    positional: bool
    required: bool


def flags_of(kind: Any) -> dict[str, Flag]:
    """The flags of a dataclass and of those inside it, by their bare names.

    A field annotated with tyro's ``Positional`` is given without a flag.
    """
    from tyro.conf import Positional

    found: dict[str, Flag] = {}
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, notes = hints[field.name], list[Any]()
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
        if dataclasses.is_dataclass(hint):
            found |= flags_of(hint)
        else:
            absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            found[field.name] = Flag(hint, Positional in notes, absent)
    return found


def read(
    kind: Any,
    words: Sequence[str],
    command: str,
    elsewhere: Mapping[str, str] | None = None,
    wider: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings that the words of a command line give, by the bare names of their fields.

    ``--batch_size 8``, ``--batch-size 8`` and ``--batch_size=8`` are the same; a bool flag without a value is true.
    ``elsewhere``: answers to names that are not flags here, but that a person may try. ``wider``: types that this
    command accepts for some fields instead of their own. Raises UserError with one sentence.
    """
    flags = flags_of(kind)
    flags |= {name: dataclasses.replace(flags[name], hint=hint) for name, hint in (wider or {}).items()}
    places = deque(name for name, flag in flags.items() if flag.positional)
    given: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for each in group(words):
        positional = each.values
        if each.flag:
            name = each.name
            if name not in flags or flags[name].positional or not each.flag.startswith("--"):
                raise UserError(_no_such_flag(each.flag, flags, command, elsewhere or {}))
            if name in values:
                raise UserError(f"--{name} is given twice")
            own, positional = _divide(each, flags[name].hint, bool(places))
            values[name] = read_value(name, own, flags)
        for word in positional:
            if not places:
                raise UserError(f"`{command}` has no place for {word!r}; `{command} --help` shows what it takes")
            name = places[0] if item_hint(flags[places[0]].hint) else places.popleft()
            given[name] = [*given.get(name, []), word]
            values[name] = read_value(name, given[name], flags)
    missing = [_label(name, flags) for name, flag in flags.items() if flag.required and name not in values]
    if missing:
        raise UserError(f"`{command}` needs {' and '.join(missing)}; `{command} --help` explains")
    return values


def parse(kind: type[T], words: Sequence[str], command: str) -> T:
    """The flags of a command, from its words. Errors as `read`."""
    return fill(kind, read(kind, words, command))


def _divide(given: Group, hint: Any, places: bool) -> tuple[list[str], list[str]]:
    """The values of a group that belong to its flag, and the positional ones. ``places``: whether these are allowed."""
    count = len(given.values) if item_hint(hint) and not given.joined else 1
    switch = hint is bool or bool in get_args(hint)
    if switch and places and not given.joined and given.values and given.values[0].lower() not in _TRUTH:
        count = 0
    return given.values[:count], given.values[count:]


def read_value(name: str, words: Sequence[str], flags: Mapping[str, Flag]) -> Any:
    """The value that words give to a flag. Raises UserError, naming the flag, where they give none."""
    hint = flags[name].hint
    if not words and (hint is bool or bool in get_args(hint)):
        return True
    if not words or words == [""]:
        allowed = wording(hint)
        raise UserError(f"{_label(name, flags)} needs a value{'' if allowed == 'text' else f': {allowed}'}")
    try:
        return convert(words, hint)
    except UserError as error:
        raise UserError(f"{_label(name, flags)} {error}") from None


def _label(name: str, flags: Mapping[str, Flag]) -> str:
    return name.upper() if flags[name].positional else f"--{name}"


def _no_such_flag(spelt: str, flags: Mapping[str, Flag], command: str, elsewhere: Mapping[str, str]) -> str:
    name = spelt.lstrip("-").replace("-", "_")
    if name in elsewhere:
        return f"`{command}` has no flag {spelt}: {elsewhere[name]}"
    near = did_you_mean(name, [flag for flag in flags if not flags[flag].positional])
    return f"there is no flag {spelt}{near or '.'} `{command} --help all` shows them all"


def did_you_mean(name: str, flags: Sequence[str]) -> str:
    """The flags nearest to a misspelt one, as the end of a sentence; "" where none is near."""
    near = [flag for flag in flags if len(name) > 2 and flag.startswith(name)]
    near = near or difflib.get_close_matches(name, flags, n=3, cutoff=0.6)
    if near and difflib.SequenceMatcher(None, name, near[0]).ratio() >= 0.75:
        near = near[:1]
    return f": did you mean {' or '.join(f'--{flag}' for flag in near)}?" if near else ""


# ---- flags that follow from settings


def optional_flags(
    name: str,
    text: str,
    kinds: Sequence[type[Any]],
    chosen: Iterable[str],
    first: Mapping[str, tuple[Any, str]],
    more: Mapping[str, str],
) -> type[Any]:
    """A dataclass with the fields ``first``, each a type and a help text, and the ``chosen`` fields of other
    dataclasses, with their help texts and None as their default. ``text``: its docstring. ``more``: what the help says
    besides about some fields."""
    explanations = {field: explained for field, (_, explained) in first.items()}
    made: list[Any] = [(field, _annotated(hint, explained)) for field, (hint, explained) in first.items()]
    for kind in kinds:
        texts, hints = field_texts(kind), get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name in chosen:
                hint: Any = Optional[hints[field.name]]  # noqa: UP045 - made from a value
                explained = texts.get(field.name, "") + more.get(field.name, "")
                made.append((field.name, _annotated(hint, explained), dataclasses.field(default=None)))
                explanations[field.name] = explained
    return dataclasses.make_dataclass(name, made, namespace={"__doc__": text, "TEXTS": explanations}, frozen=True)


def _annotated(hint: Any, explained: str) -> Any:
    from tyro.conf import arg

    return Annotated.__class_getitem__((hint, arg(help=explained)))  # type: ignore[attr-defined]


def field_texts(kind: type[Any]) -> dict[str, str]:
    """The docstring under each field of a dataclass, from its source or, of `optional_flags`, as they were made."""
    if "TEXTS" in vars(kind):
        made: dict[str, str] = vars(kind)["TEXTS"]
        return made
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, text in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = re.sub(r"(?<![.:])\n", " ", inspect.cleandoc(str(text.value.value)))
    return texts
