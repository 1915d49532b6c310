"""The records of a run as columns for plots: at most some thousand rows, with every peak of what is between them."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sagan.run.records import LookRecord, RecordReader, RollbackRecord, ScoreRecord, StoppedRecord, from_line
from sagan.system.errors import UserError

MOST_ROWS = 1200
_AT_ONCE = 2000  # lines
_MOST_KEPT = 50_000  # rows in memory, before those that no plot needs go
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
        """``train``: columns by name, with ``step``, ``images`` and ``seconds``; ``scores``: by metric and card, points
        with their spread and floor; ``marks``: what the guard and rollbacks did; ``damaged``: how many records cannot
        be read and are left out; ``whole``: whether all records were read. Reading a million takes seconds: unless
        ``whole``, an even sample of so many is read where they are new."""
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


class _Gathered:
    """What plots need of the records so far."""

    def __init__(self) -> None:
        self.train: Columns = {name: np.empty(0) for name in _CLOCK}
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
        before = len(self.train["step"])
        none = {name for name, numbers in added.items() if np.isnan(numbers).all()} - self.train.keys()
        for name in (self.train.keys() | added.keys()) - none:
            old, new = self.train.get(name), added.get(name)
            parts = np.full(before, math.nan) if old is None else old, np.full(count, math.nan) if new is None else new
            self.train[name] = np.concatenate(parts)
        if before + count >= _MOST_KEPT:
            rows = _chosen_rows(self.train, _MOST_KEPT // 4)
            self.train = {name: numbers[rows] for name, numbers in self.train.items()}

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
        rows = _chosen_rows(self.train, MOST_ROWS)
        gates = sorted((name for name in self.train if name.startswith("gamma ")), key=_gate_order)
        names = [name for name in (*_CLOCK, *_NUMBERS, *gates) if name in self.train]
        train = {name: [_plain(value) for value in self.train[name][rows].tolist()] for name in names}
        scores = _scores(self.scores, self.train)
        return {"train": train, "scores": scores, "marks": list(self.marks), "damaged": self.damaged}


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


def _plain(value: float) -> int | float | None:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def _gate_order(name: str) -> tuple[str, int]:
    """Of "gamma G16", by network and map."""
    return name[6:7], int(name[7:]) if name[7:].isdecimal() else 0


def _chosen_rows(columns: Columns, most: int) -> npt.NDArray[np.int64]:
    """All rows or, of many, those with the extremes of every column between evenly spaced ones."""
    count = len(columns["step"])
    if count <= most:
        return np.arange(count)
    series = [values for name, values in columns.items() if name not in _CLOCK]
    buckets = max(1, most // (2 * max(1, len(series))))
    width = -(-count // buckets)
    starts = np.arange(0, count, width)
    chosen = {count - 1, *starts.tolist()}
    for numbers in series:
        padded = np.full(len(starts) * width, math.nan)
        padded[:count] = numbers
        for empty, extreme in ((math.inf, np.argmin), (-math.inf, np.argmax)):
            parts = np.where(np.isnan(padded), empty, padded).reshape(len(starts), width)
            found = starts + extreme(parts, axis=1)
            chosen.update(found[found < count].tolist())
    return np.array(sorted(chosen))


def _scores(scores: list[ScoreRecord], train: Columns) -> list[dict[str, Any]]:
    """A curve for each metric and kind of card, its newest score of each step."""
    curves: dict[tuple[Any, ...], dict[str, Any]] = {}
    for score in sorted(scores, key=lambda score: score.step):
        card = score.card
        label = score.label if card.truncation is None else f"{score.label}, truncation {card.truncation:g}"
        key = score.metric, label, card.extractor, card.samples
        curve = curves.setdefault(key, {"metric": score.metric, "label": label, "samples": card.samples, "points": {}})
        curve["floor"] = score.floor
        point = {"step": score.step, "value": score.value, "spread": score.spread or score.error}
        if len(train["step"]):
            point |= {name: float(np.interp(score.step, train["step"], train[name])) for name in ("images", "seconds")}
        curve["points"][score.step] = point
    return [{**curve, "points": list(curve["points"].values())} for curve in curves.values()]
