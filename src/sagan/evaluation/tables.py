"""Scores as tables for a terminal: rows of cells, the first of them headings."""

from __future__ import annotations

from collections.abc import Iterable

from sagan.evaluation.scoring import Score
from sagan.run.card import refuse_unlike
from sagan.run.folder import Run
from sagan.run.scores import scores_to_compare


def score_table(scores: Iterable[Score]) -> list[list[str]]:
    """A row for each metric: its value, with spread or error, and the score of real images."""
    scores = list(scores)
    halves = scores[0].floor_samples
    half = f" ({halves:,} vs {halves:,})" if halves is not None else ""
    rows = [["metric", "value", f"real halves against each other{half}"]]
    for score in scores:
        value = _number(score.value)
        if score.spread is not None:
            value += f" ± {_number(score.spread)} over draws"
        elif score.error is not None:
            value += f" ± {_number(score.error)}"
        floor = "" if score.floor is None else _number(score.floor)
        if floor and score.floor_samples != halves:
            floor += f" ({score.floor_samples:,} real images)"
        rows.append([score.label, value, floor])
    return rows


def _number(value: float) -> str:
    if abs(value) >= 0.1 or value == 0:
        return f"{value:.3f}"
    return f"{value:.2e}" if abs(value) < 1e-4 else f"{value:.5f}"


def comparison_table(one: Run, other: Run, metric: str) -> list[list[str]]:
    """A metric of two runs, step by step: of each run, the largest group of comparable scores.

    Raises UserError, naming what differs, where the cards of the two runs differ.
    """
    scores = {str(run.folder): scores_to_compare(run, metric) for run in (one, other)}
    refuse_unlike((name, found[-1].card) for name, found in scores.items())
    columns = {name: {score.step: score.value for score in found} for name, found in scores.items()}
    rows = [[f"{scores[str(one.folder)][-1].label}, at step", *columns]]
    for step in sorted(set().union(*columns.values())):
        cells = [f"{column[step]:.4f}" if step in column else "not scored" for column in columns.values()]
        rows.append([f"{step:,}", *cells])
    return rows
