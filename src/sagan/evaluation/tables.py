"""Scores as tables for a terminal: rows of cells, the first of them headings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sagan.evaluation.scoring import Score
from sagan.run.card import Card, differences
from sagan.run.folder import Run
from sagan.run.records import ScoreRecord
from sagan.run.scores import like_groups, like_pairs, read_scores
from sagan.system.sentences import plural


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


@dataclass(frozen=True)
class Comparison:
    """The scores of two runs by one metric, side by side, where their cards are alike."""

    tables: dict[str, list[list[str]]]
    """Step by step, by what tells their cards from those of the first, whose words are "". The first has the most steps
    in common."""
    left_out: list[str]
    """Sentences that name the scores that only one run has."""


def compare(one: Run, other: Run, metric: str) -> Comparison:
    """Compares two runs. Raises UserError, naming what differs, where no scores of the two are comparable."""
    pairs = like_pairs(one, other, metric)
    card = pairs[0][0][0].card
    tables = {}
    for pair in pairs:
        unlike = _unlike(pair[0][0].card, card)
        tables[f"scores with {unlike}:" if unlike else ""] = _side_by_side((one, other), pair)
    left_out = [
        f"left out, as only {run.folder} has such: {plural(len(group), 'score')} with {_unlike(group[0].card, card)}"
        for number, run in enumerate((one, other))
        for group in like_groups(read_scores(run, metric))
        if group not in [pair[number] for pair in pairs]
    ]
    return Comparison(tables, left_out)


def _side_by_side(runs: tuple[Run, Run], groups: tuple[list[ScoreRecord], list[ScoreRecord]]) -> list[list[str]]:
    columns = [{score.step: score.value for score in group} for group in groups]
    rows = [[f"{groups[0][-1].label}, at step", *(str(run.folder) for run in runs)]]
    for step in sorted(set().union(*columns)):
        rows.append([f"{step:,}", *(f"{column[step]:.4f}" if step in column else "not scored" for column in columns)])
    return rows


def _unlike(card: Card, other: Card) -> str:
    return "; ".join(f"{name} {its}, not {theirs}" for name, (its, theirs) in differences(card, other).items())
