"""The scores of one snapshot as records for the run's file, and as a table for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from sagan.evaluation.scoring import Score
from sagan.run.card import Card
from sagan.run.records import ScoreRecord


def score_records(
    scores: Iterable[Score],
    card: Card,
    step: int,
    *,
    snapshot_sha256: str,
    seconds: float,
) -> list[ScoreRecord]:
    """One record for each metric of a snapshot, with the card of a score that uses all images. In each record's card
    are the numbers of images that its metric used.

    ``seconds``: the time that all metrics took together.
    """
    return [
        ScoreRecord(
            metric=score.metric,
            label=score.label,
            step=step,
            value=score.value,
            spread=score.spread,
            error=score.error,
            floor=score.floor,
            floor_samples=score.floor_samples,
            seconds=seconds,
            snapshot_sha256=snapshot_sha256,
            card=dataclasses.replace(
                card,
                samples=score.samples,
                reference_samples=score.reference_samples,
                reference_split=reference_split(score.reference_samples, card.reference_count),
            ),
        )
        for score in scores
    ]


def reference_split(used: int, count: int) -> str:
    """For the card: which of the reference's images a metric used."""
    return "all" if used == count else "random part" if used else "none"


def score_table(scores: Iterable[Score]) -> list[list[str]]:
    """Rows for a terminal, the first of them headings: metric, value with spread or error, score of real images."""

    def number(value: float) -> str:
        if abs(value) >= 0.1 or value == 0:
            return f"{value:.3f}"
        return f"{value:.2e}" if abs(value) < 1e-4 else f"{value:.5f}"

    scores = list(scores)
    halves = scores[0].floor_samples
    half = f" ({halves:,} vs {halves:,})" if halves is not None else ""
    rows = [["metric", "value", f"real halves against each other{half}"]]
    for score in scores:
        value = number(score.value)
        if score.spread is not None:
            value += f" ± {number(score.spread)} over draws"
        elif score.error is not None:
            value += f" ± {number(score.error)}"
        floor = "" if score.floor is None else number(score.floor)
        if floor and score.floor_samples != halves:
            floor += f" ({score.floor_samples:,} real images)"
        rows.append([score.label, value, floor])
    return rows
