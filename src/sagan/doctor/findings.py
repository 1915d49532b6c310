"""What the doctor found: sentences, how bad each is, and which images show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

Severity = Literal["stop", "warning", "note", "sound"]

SEVERITIES: dict[Severity, str] = {
    "stop": "training cannot begin, or go on",
    "warning": "training works, and the result will show it",
    "note": "worth knowing",
    "sound": "as it should be",
}

_EXITS: dict[Severity, int] = {"stop": 2, "warning": 1, "note": 0, "sound": 0}
_NAMED = 3


@dataclass(frozen=True)
class Picture:
    """A picture that shows a finding, and what it shows. ``sharp``: its pixels are shown as they are."""

    image: Image.Image
    caption: str
    sharp: bool = False


@dataclass(frozen=True, eq=False)
class Finding:
    """``kind``: its name for programs. ``count``: of how many images, groups or files it is true, and ``names``: all of
    them. ``shown``: the numbers of the images of each group that show it; ``pictures``: those that are made for it."""

    severity: Severity
    kind: str
    text: str
    remedy: str = ""
    count: int = 0
    names: tuple[str, ...] = ()
    shown: tuple[tuple[int, ...], ...] = ()
    pictures: tuple[Picture, ...] = field(default=())


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity; of one severity, those of the most images first."""
    order = list(SEVERITIES)
    return sorted(findings, key=lambda each: (order.index(each.severity), -each.count))


def exit_status(findings: Iterable[Finding]) -> int:
    """0 if nothing is wrong, 1 with warnings, 2 if training is not possible."""
    return max((_EXITS[each.severity] for each in findings), default=0)


def first_names(names: Sequence[str]) -> str:
    """The first names of several, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
