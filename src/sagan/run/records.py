"""A run's records: the kinds of line in records.jsonl, and their one reader and writer.

A record is one line, a JSON object whose ``kind`` names one of the classes here. Fields that an earlier version did not
write are None. Records of a newer version are distinguished from damage.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from sagan.run.card import Card
from sagan.system.errors import UserError
from sagan.system.files import LARGEST_FILE, open_regular
from sagan.system.typed import (
    Amount,
    AnyFloat,
    Count,
    Positive,
    Seconds,
    Sha256,
    from_plain,
    newer,
    parse_json,
    shorten,
    to_plain,
)

State = Literal["healthy", "D winning", "diversity falling", "diverged"]
"""The guard's verdict on a run."""


@dataclass(frozen=True, kw_only=True)
class TrainRecord:
    """Losses, mean logits and gates at a step, and the run's clock. All numbers are finite."""

    kind: ClassVar[str] = "train"

    step: Count
    images: Count
    """Real images seen by generator steps so far: step times batch size."""
    d_loss: float
    """The adversarial part of the discriminator's loss."""
    d_loss_real: float
    d_real: float
    """The mean logit of real images."""
    d_fake: float
    g_loss: float
    d_grad_norm: Amount | None = None
    """Of the discriminator's gradient, before it is limited."""
    g_grad_norm: Amount | None = None
    penalty: float | None = None
    """The last gradient penalty, weighted; None without one."""
    lecam: float | None = None
    gamma: Mapping[str, float]
    """The gate of each attention layer, by network and map: ``{"G16": 0.01, "D8": ...}``."""
    verdict: State | None = None
    """The guard's latest; None before its first check and when it is off."""
    images_per_second: Amount
    """Since the previous record."""
    seconds: Seconds
    """Of training, over all the processes that worked on the run."""

    def __post_init__(self) -> None:
        for layer in self.gamma:
            if re.fullmatch("[GD][0-9]{1,5}", layer) is None:
                raise UserError(f"gamma must be named by network and map, such as G16, got {shorten(layer)}")

    def describe(self) -> str:
        """The figures on one line."""
        gammas = " ".join(f"{layer} {value:+.3f}" for layer, value in self.gamma.items())
        return (
            f"{self.images_per_second:.0f} img/s  D {self.d_loss:.3f}  G {self.g_loss:+.3f}  "
            f"D(real) {self.d_real:+.2f}  D(fake) {self.d_fake:+.2f}"
            + (f"  gamma {gammas}" if gammas else "")
            + (f"  {self.verdict}" if self.verdict not in (None, "healthy") else "")
        )


@dataclass(frozen=True, kw_only=True)
class LookRecord:
    """The guard's measurements at a step, which `sagan.training.guard.examine` explains, and its verdict.

    The numbers may be NaN or infinite: that is what the guard looks for.
    """

    kind: ClassVar[str] = "guard"

    step: Count
    images: Count | None = None
    separation: AnyFloat
    pairs: AnyFloat | None = None
    gap: AnyFloat
    real_positive: AnyFloat | None = None
    fake_positive: AnyFloat | None = None
    pixel_spread: AnyFloat
    feature_spread: AnyFloat
    nearest: AnyFloat | None = None
    sigma: AnyFloat | None = None
    gamma: AnyFloat | None = None
    average_distance: AnyFloat | None = None
    g_grad_norm: AnyFloat | None = None
    d_grad_norm: AnyFloat | None = None
    verdict: State = "healthy"
    reason: str = ""
    collapsed: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreRecord:
    """A metric of the snapshot of a step, and the card that says how it was computed."""

    kind: ClassVar[str] = "score"

    metric: str
    label: str
    """The name of the score for a person, such as FID."""
    step: Count
    value: float
    spread: Amount | None = None
    """The standard deviation over draws; None for one draw."""
    error: Amount | None = None
    """The metric's own standard error, if it has one and there is one draw."""
    floor: float | None = None
    """The score of ``floor_samples`` real images against as many others."""
    floor_samples: Count | None = None
    seconds: Seconds | None = None
    """The time that scoring took, for all metrics together."""
    snapshot_sha256: Sha256 | None = None
    card: Card


@dataclass(frozen=True, kw_only=True)
class RollbackRecord:
    """A return to an earlier state, and the factors that learning rates and penalties were multiplied by."""

    kind: ClassVar[str] = "rollback"

    step: Count
    """Where the run went back to."""
    from_step: Count
    attempt: Positive
    """The number of rollbacks so far, this one included."""
    verdict: State
    reason: str
    remedy: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.step > self.from_step:
            raise UserError(f"step must be at most from_step, {self.from_step:,}, got {self.step:,}")
        check_factors("remedy", self.remedy, 1)


FACTORS = ("g_lr", "d_lr", "penalties")
"""What rollbacks multiply: both learning rates, which fall, and the weight of gradient penalties, which grows."""


def check_factors(name: str, factors: Mapping[str, float], rollbacks: int) -> None:
    """Raises UserError for factors, called ``name``, that this many rollbacks do not come to: they lower rates, or
    leave them, and each at most doubles the penalties."""
    for key, factor in factors.items():
        if key not in FACTORS:
            raise UserError(f"{name} must be of {', '.join(FACTORS)}, got {shorten(key)}")
        if key == "penalties" and not (factor >= 1 and math.log2(factor) <= rollbacks):
            raise UserError(f"{name} of penalties must be from 1 to 2^{rollbacks}, got {shorten(factor)}")
        if key != "penalties" and not 0 < factor <= 1:
            raise UserError(f"{name} of {key} must be more than 0 and at most 1, got {shorten(factor)}")


@dataclass(frozen=True, kw_only=True)
class StoppedRecord:
    """The end of a run that was stopped because it collapsed."""

    kind: ClassVar[str] = "stopped"

    step: Count
    verdict: State
    reason: str


Record = TrainRecord | LookRecord | ScoreRecord | RollbackRecord | StoppedRecord

KINDS: dict[str, type[Record]] = {each.kind: each for each in get_args(Record)}


# ---- lines


def to_line(record: Record) -> bytes:
    """The line of a record."""
    return json.dumps({"kind": record.kind, **to_plain(record)}).encode() + b"\n"


def from_line(line: bytes, where: str) -> Record:
    """The inverse of `to_line`; ``where`` names the file and the line.

    Raises UserError for a line that is damaged, and for a record of a newer version.
    """
    values = parse_json(line, where, _LONGEST)
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise UserError(f"{where} is damaged: it is not a record")
    kind = values.pop("kind")
    if kind not in KINDS:
        raise UserError(f"{where} {newer([f'records of the kind {shorten(kind)}'])}")
    return from_plain(KINDS[kind], values, where)


_LONGEST = 2**16  # bytes of a line
_MOST_DAMAGED = 1000  # lines of a file that is still one of records

Damage = Callable[[UserError], None]


_TAIL = 128  # bytes by which a file is known again


class RecordReader:
    """Reads a file of records: at the first call all of them, later those added since the last call.

    An incomplete last line, as of a process that was killed or is still writing, is left for later. When the file was
    rewritten, as after a rollback, reading starts over and ``restarted`` is true: it is another file, or what
    was read last is no longer there, as a new file may have the number of a removed one.
    """

    def __init__(self, path: Path):
        self.path = path
        self.restarted = True
        self._start_over(0)

    def _start_over(self, inode: int) -> None:
        self._inode, self._offset, self._lines, self._last = inode, 0, 0, b""

    def read(self, on_damage: Damage | None = None) -> list[Record]:
        """The records since the last call; none if there is no file.

        ``on_damage`` is called with the error of each line that cannot be read; without it, or when there are many,
        the error is raised.
        """
        return [record for _, record in self.read_with_lines(on_damage)]

    def read_sparsely(self, on_damage: Damage | None = None) -> list[Record]:
        """Like `read`, but of many records at once, as of a long run at the first call, only all scores, rollbacks and
        stops, the last records, and `SPARSE` of the others, evenly spaced: a million records take half a second."""
        return [record for _, record in self.read_with_lines(on_damage, sparsely=True)]

    def read_with_lines(
        self, on_damage: Damage | None = None, *, sparsely: bool = False
    ) -> Iterator[tuple[bytes, Record]]:
        """The same, each with its line, newline included."""
        damaged = 0
        for line in self.read_lines(sparsely=sparsely):
            self._lines += 1
            try:
                yield line, from_line(line, f"{self.path}, line {self._lines},")
            except UserError as error:
                damaged += 1
                if on_damage is None or damaged > _MOST_DAMAGED:
                    self._start_over(0)  # so that the next call finds the damage too
                    raise
                on_damage(error)

    def read_lines(self, *, sparsely: bool = False) -> Iterable[bytes]:
        """The same as lines, newlines included, which nothing has checked."""
        added = self._added()
        return _sparse(added) if sparsely and len(added) > _MANY else io.BytesIO(added)

    def has_many(self) -> bool:
        """Whether so many records were added that reading all of them takes seconds."""
        try:
            return self.path.stat().st_size - self._offset > _MANY
        except OSError:
            return False

    def _added(self) -> bytes:
        """The complete lines that were added."""
        if self.path.exists() and not self.path.is_file():
            raise UserError(f"{self.path} is damaged: it is not a file")
        try:
            with open_regular(self.path) as file:
                state = os.fstat(file.fileno())  # of the open file: another may take its name meanwhile
                inode = state.st_ino
                file.seek(self._offset - len(self._last))
                self.restarted = inode != self._inode or file.read(len(self._last)) != self._last
                if self.restarted:
                    self._start_over(inode)
                    file.seek(0)
                unread = max(0, state.st_size - file.tell())
                if unread > LARGEST_FILE:
                    raise UserError(f"{self.path} is damaged: it has {state.st_size:,} bytes, more than any run writes")
                added = file.read(unread)
        except FileNotFoundError:
            self.restarted = True
            self._start_over(0)
            return b""
        complete = added[: added.rfind(b"\n") + 1]
        self._offset += len(complete)
        self._last = (self._last + complete[-_TAIL:])[-_TAIL:]
        return complete


SPARSE = 1500
_MANY = 2**22  # bytes, some 10,000 records
_ENDS = 64  # of the last lines, all
_RARE = re.compile(rb'\n\{"kind": "(?!train"|guard")')  # begins with plain bytes: 14 times as fast as with ^


def _sparse(lines: bytes) -> list[bytes]:
    """Some of many lines, see `RecordReader.read_sparsely`, in their order."""
    found: dict[int, bytes] = {}

    def add(at: int) -> int:
        """Adds the line that holds a byte; returns where it begins."""
        start, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at) + 1
        found[start] = lines[start:end]
        return start

    for match in _RARE.finditer(lines):
        add(match.start() + 1)
    for number in range(SPARSE):
        add(number * len(lines) // SPARSE)
    at = len(lines)
    for _ in range(_ENDS):
        at = add(at - 1)
    return [found[start] for start in sorted(found)]
