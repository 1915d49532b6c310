"""The records of a run as columns for plots: at most a thousand points, of a long run means with their extremes."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sagan.run.records import LookRecord, RecordReader, RollbackRecord, ScoreRecord, StoppedRecord, from_line
from sagan.system.errors import UserError

MOST_POINTS = 1200
_AT_ONCE = 2000  # lines
_MOST_KEPT = 2**15  # points in memory; of more, neighbours become one
_CLOCK = ("step", "images", "seconds")
_NUMBERS = (
    *("d_loss", "g_loss", "d_loss_real", "d_real", "d_fake", "d_grad_norm", "g_grad_norm", "penalty", "lecam"),
    "images_per_second",
)
_TRAIN = b'{"kind": "train", '

Columns = dict[str, npt.NDArray[np.float64]]


class Curves:
    """The curves of a run, which follow its records; several threads may ask."""

    def __init__(self, records: Path):
        self._records, self._reader = records, RecordReader(records)
        self._gathered = _Gathered()
        self._lock = threading.Lock()

    def read(self, *, whole: bool = True) -> dict[str, Any]:
        """``train``: columns by name, with ``step``, ``images`` and ``seconds``; of a long run the means of ``each``
        records, of which ``low`` and ``high`` have the extremes and the clock is that of the last. ``scores``: by
        metric and card, points with their spread and floor; ``marks``: what the guard and rollbacks did; ``damaged``:
        how many records cannot be read and are left out; ``whole``: whether all records were read. Reading a million
        takes seconds: unless ``whole``, an even sample of so many is read where they are new."""
        if not whole and self._reader.has_many():
            sample = _Gathered()
            sample.take(RecordReader(self._records).read_lines(sparsely=True))
            return sample.plots() | {"whole": False}
        with self._lock:
            lines = self._reader.read_lines()
            if self._reader.restarted:
                self._gathered = _Gathered()
            self._gathered.take(lines)
            return self._gathered.plots() | {"whole": True}


@dataclass(frozen=True)
class _Column:
    """Numbers, each the total of ``count`` ones that are no NaN, with the least and the largest of them."""

    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, numbers: npt.NDArray[np.float64]) -> _Column:
        return cls(np.nan_to_num(numbers), (~np.isnan(numbers)).astype(np.int64), numbers, numbers)

    @classmethod
    def empty(cls, length: int) -> _Column:
        return cls.of(np.full(length, math.nan))

    def __len__(self) -> int:
        return len(self.total)

    def means(self) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return self.total / self.count

    def part(self, which: slice) -> _Column:
        return _Column(self.total[which], self.count[which], self.low[which], self.high[which])

    def followed_by(self, other: _Column) -> _Column:
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return _Column(*(np.concatenate(pair) for pair in pairs))

    def joined(self, size: int) -> _Column:
        """``size`` neighbours become one; fewer at the end."""
        if size == 1 or not len(self):
            return self
        starts = np.arange(0, len(self), size)
        ways = (np.add, np.add, np.fmin, np.fmax)
        return _Column(*(way.reduceat(each, starts) for way, each in zip(ways, self._arrays(), strict=True)))

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.total, self.count, self.low, self.high


class _Gathered:
    """What plots need of the records so far."""

    def __init__(self) -> None:
        self.size = 1
        """The records of each point in ``points``; ``rest`` has the fewer ones that follow, a point each."""
        self.points = {name: _Column.empty(0) for name in _CLOCK}
        self.rest = dict(self.points)
        self.scores: list[ScoreRecord] = []
        self.marks: list[dict[str, Any]] = []
        self.verdict = "healthy"
        self.damaged = 0

    def take(self, lines: Iterable[bytes]) -> None:
        train: list[bytes] = []
        for line in lines:
            if not line.startswith(_TRAIN):
                self._take_other(line)
                continue
            train.append(line)
            if len(train) == _AT_ONCE:
                self._take_rows(train)
                train = []
        self._take_rows(train)

    def _take_rows(self, lines: list[bytes]) -> None:
        """Adds the rows of training records. They are read many at a time, which is several times as fast."""
        if not lines:
            return
        try:
            rows = json.loads(b"[%b]" % b",".join(lines))
            if len(rows) != len(lines):
                raise ValueError
            gates = {gate for row in rows for gate in row["gamma"]}
            if len(gates) > _MOST_GATES:
                raise ValueError
            added = {name: _column([row.get(name) for row in rows]) for name in (*_CLOCK, *_NUMBERS)}
            added |= {f"gamma {gate}": _column([row["gamma"].get(gate) for row in rows]) for gate in gates}
            if any(np.isnan(added[name]).any() for name in _CLOCK):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            if len(lines) == 1:
                self.damaged += 1
            else:  # those that are not damaged
                self._take_rows(lines[: len(lines) // 2])
                self._take_rows(lines[len(lines) // 2 :])
            return
        self._append(added, len(lines))

    def _append(self, added: Columns, count: int) -> None:
        none = {name for name, numbers in added.items() if np.isnan(numbers).all()}
        points, rest = len(self.points["step"]), len(self.rest["step"])
        for name in (self.points.keys() | added.keys()) - (none - self.points.keys()):
            new = _Column.of(added[name]) if name in added else _Column.empty(count)
            new = self.rest.get(name, _Column.empty(rest)).followed_by(new)
            full = len(new) // self.size * self.size
            self.rest[name] = new.part(slice(full, None))
            known = self.points.get(name, _Column.empty(points))
            self.points[name] = known.followed_by(new.part(slice(full)).joined(self.size))
        while len(self.points["step"]) >= _MOST_KEPT and len(self.points["step"]) % 2 == 0:
            self.points = {name: column.joined(2) for name, column in self.points.items()}
            self.size *= 2

    def _take_other(self, line: bytes) -> None:
        try:
            record = from_line(line, "a record")
        except UserError:
            self.damaged += 1
            return
        if isinstance(record, ScoreRecord):
            self.scores.append(record)
        elif isinstance(record, LookRecord):
            if record.verdict not in ("healthy", self.verdict):  # the first of several looks with this verdict
                self._mark(record.step, "guard", f"{record.verdict}: {record.reason}")
            self.verdict = record.verdict
        elif isinstance(record, RollbackRecord):
            text = f"rolled back from step {record.from_step:,} to {record.step:,}: {record.reason}"
            self._mark(record.from_step, "rollback", text)
        elif isinstance(record, StoppedRecord):
            self._mark(record.step, "stopped", f"stopped: {record.reason}")

    def _mark(self, step: int, kind: str, said: str) -> None:
        self.marks.append({"step": step, "kind": kind, "said": said})

    def plots(self) -> dict[str, Any]:
        columns = {name: each.followed_by(self.rest[name].joined(self.size)) for name, each in self.points.items()}
        size = max(1, -(-len(columns["step"]) // MOST_POINTS))
        columns = {name: column.joined(size) for name, column in columns.items()}
        gates = sorted((name for name in columns if name.startswith("gamma ")), key=_gate_order)
        names = [name for name in (*_NUMBERS, *gates) if name in columns]
        clock = {name: columns[name].high for name in _CLOCK}
        each = int(max(columns["step"].count, default=1))
        found: dict[str, Any] = {
            "train": _plain(clock | {name: columns[name].means() for name in names}),
            "each": each,
            "scores": _scores(self.scores, clock),
            "marks": list(self.marks),
            "damaged": self.damaged,
        }
        if each > 1:
            found["low"] = _plain({name: columns[name].low for name in names})
            found["high"] = _plain({name: columns[name].high for name in names})
        return found


_MOST_GATES = 64  # layers of a network, and of what is no record


def _column(values: list[Any]) -> npt.NDArray[np.float64]:
    """Numbers, NaN for none and for infinite ones. Raises ValueError or TypeError for what is no number."""
    numbers = np.array(values)
    if (
        numbers.ndim != 1
        or numbers.dtype.kind not in "ifO"
        or (numbers.dtype == object and {*map(type, values)} - {int, float, type(None)})
    ):
        raise TypeError
    numbers = numbers.astype(np.float64)
    numbers[~np.isfinite(numbers)] = math.nan
    return numbers


def _plain(columns: Columns) -> dict[str, list[int | float | None]]:
    return {name: [_plain_number(value) for value in numbers.tolist()] for name, numbers in columns.items()}


def _plain_number(value: float) -> int | float | None:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def _gate_order(name: str) -> tuple[str, int]:
    """Of "gamma G16", by network and map."""
    return name[6:7], int(name[7:]) if name[7:].isdecimal() else 0


def _scores(scores: list[ScoreRecord], train: Columns) -> list[dict[str, Any]]:
    """A curve for each metric and kind of card, its newest score of each step."""
    curves: dict[tuple[Any, ...], dict[str, Any]] = {}
    for score in sorted(scores, key=lambda score: score.step):
        card = score.card
        label = score.label if card.truncation is None else f"{score.label}, truncation {card.truncation:g}"
        key = score.metric, label, card.extractor, card.samples
        about = {"metric": score.metric, "label": label, "samples": card.samples, "extractor": card.extractor}
        curve = curves.setdefault(key, {**about, "points": {}})
        curve["floor"] = score.floor
        point = {"step": score.step, "value": score.value, "spread": score.spread or score.error}
        if len(train["step"]):
            point |= {name: float(np.interp(score.step, train["step"], train[name])) for name in ("images", "seconds")}
        curve["points"][score.step] = point
    return [{**curve, "points": list(curve["points"].values())} for curve in curves.values()]
