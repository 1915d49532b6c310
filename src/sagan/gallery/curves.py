"""The records of a run as columns for plots: at most some thousand rows, with every peak of what is between them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from sagan.run.records import LookRecord, RecordReader, RollbackRecord, ScoreRecord, StoppedRecord, TrainRecord
from sagan.system.errors import UserError

MOST_ROWS = 1200
_NUMBERS = (
    *("d_loss", "g_loss", "d_loss_real", "d_real", "d_fake", "d_grad_norm", "g_grad_norm", "penalty", "lecam"),
    "images_per_second",
)


def read_curves(records: Path) -> dict[str, Any]:
    """``train``: columns by name, with ``step``, ``images`` and ``seconds``; ``scores``: by metric and card, points
    with their spread and floor; ``marks``: what the guard and rollbacks did. Damaged records are left out."""
    damaged: list[UserError] = []
    found = RecordReader(records).read_sparsely(damaged.append)
    train = [record for record in found if isinstance(record, TrainRecord)]
    return {
        "train": _columns(train),
        "scores": _scores([record for record in found if isinstance(record, ScoreRecord)], train),
        "marks": [mark for record in found if (mark := _mark(record)) is not None],
        "damaged": len(damaged),
    }


def _columns(train: list[TrainRecord]) -> dict[str, list[float | None]]:
    names = [name for name in _NUMBERS if any(getattr(record, name) is not None for record in train)]
    gates = sorted({layer for record in train for layer in record.gamma}, key=lambda name: (name[0], int(name[1:])))
    series: dict[str, list[float | None]] = {name: [getattr(record, name) for record in train] for name in names}
    series |= {f"gamma {gate}": [record.gamma.get(gate) for record in train] for gate in gates}
    rows = _chosen_rows(series, len(train))
    clock = {name: [getattr(train[row], name) for row in rows] for name in ("step", "images", "seconds")}
    return {**clock, **{name: [values[row] for row in rows] for name, values in series.items()}}


def _chosen_rows(series: dict[str, list[float | None]], count: int) -> list[int]:
    """All rows or, of many, those with the extremes of every column between evenly spaced ones."""
    if count <= MOST_ROWS:
        return list(range(count))
    buckets = max(1, MOST_ROWS // (2 * max(1, len(series))))
    edges = np.linspace(0, count, buckets + 1).astype(int)
    chosen = {0, count - 1}
    for values in series.values():
        numbers = np.array([math.nan if value is None else value for value in values])
        for start, stop in itertools.pairwise(edges):
            part = numbers[start:stop]
            if not np.isnan(part).all():
                chosen |= {int(start + np.nanargmin(part)), int(start + np.nanargmax(part))}
    return sorted(chosen)


def _scores(scores: list[ScoreRecord], train: list[TrainRecord]) -> list[dict[str, Any]]:
    """A curve for each metric and kind of card, its newest score of each step."""
    curves: dict[tuple[Any, ...], dict[str, Any]] = {}
    steps = np.array([record.step for record in train])
    for score in sorted(scores, key=lambda score: score.step):
        card = score.card
        label = score.label if card.truncation is None else f"{score.label}, truncation {card.truncation:g}"
        key = score.metric, label, card.extractor, card.samples
        curve = curves.setdefault(key, {"metric": score.metric, "label": label, "samples": card.samples, "points": {}})
        curve["floor"] = score.floor
        point = {"step": score.step, "value": score.value, "spread": score.spread or score.error}
        if len(steps):  # the clock of the nearest record
            near = train[min(int(np.searchsorted(steps, score.step)), len(train) - 1)]
            point |= {"images": near.images, "seconds": near.seconds}
        curve["points"][score.step] = point
    return [{**curve, "points": list(curve["points"].values())} for curve in curves.values()]


def _mark(record: object) -> dict[str, Any] | None:
    if isinstance(record, LookRecord) and record.verdict != "healthy":
        return {"step": record.step, "kind": "guard", "said": f"{record.verdict}: {record.reason}"}
    if isinstance(record, RollbackRecord):
        text = f"rolled back from step {record.from_step:,} to {record.step:,}: {record.reason}"
        return {"step": record.from_step, "kind": "rollback", "said": text}
    if isinstance(record, StoppedRecord):
        return {"step": record.step, "kind": "stopped", "said": f"stopped: {record.reason}"}
    return None
