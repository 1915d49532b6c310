"""Parts of the sentences that a person reads: counts, commands to give next, the nearest of several names."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable

# those that move the cursor, command a terminal or turn the direction of text, and halves of characters; not the
# joiners inside emoji, nor spaces
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_SETTING = re.compile("`([a-z][a-z0-9_]*)`")


def visible(text: str) -> str:
    """A text on one line, which does nothing but stand there: control characters are written out, as in ``\\x1b``."""
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def name_settings(text: str, spell: Callable[[str], str] = lambda name: name) -> str:
    """A sentence in which the names of settings are spelt as the reader types them: a sentence marks them with
    backticks, as in "another `run_dir`"."""
    return _SETTING.sub(lambda found: spell(found[1]), text)


def as_flag(name: str) -> str:
    """A setting as `sagan` takes it: --run_dir."""
    return f"--{name}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: 1 image, 2,000 images, 2 classes."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def command(*words: object) -> str:
    """A command of `sagan` as it is typed in a shell."""
    return typed("sagan", *words)


def typed(*words: object) -> str:
    """Words as they are typed in a shell, with quotes around those that need them."""
    return shlex.join(map(str, words))


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The end of a sentence that names the nearest of several names, in any case; "" where none is near."""
    known = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), known, n=1)
    return f": did you mean {known[near[0]]}?" if near else ""


def binary(number: float) -> str:
    """Bytes in KiB, MiB or GiB."""
    for unit in ("KiB", "MiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.3g} {unit}" if number < 100 else f"{number:.0f} {unit}"
    return f"{number / 1024:.2f} GiB"
