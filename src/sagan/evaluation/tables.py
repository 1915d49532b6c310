"""Scores as tables for a terminal: rows of cells, the first of them headings."""

from __future__ import annotations

from collections.abc import Iterable

from sagan.evaluation.scoring import Score
from sagan.run.card import Card, differences
from sagan.run.folder import Run
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


def comparison_table(one: Run, other: Run, metric: str) -> list[list[str]]:
    """A metric of two runs, step by step: of their like groups of scores, those with the most steps in common.

    Raises UserError, naming what differs, where no scores of the two runs are comparable.
    """
    return comparison_tables(one, other, metric)[0]


def comparison_tables(one: Run, other: Run, metric: str) -> list[list[list[str]]]:
    """A `comparison_table` for each pair of like groups of scores. Errors as there."""
    tables = []
    for groups in like_pairs(one, other, metric):
        columns = [{score.step: score.value for score in group} for group in groups]
        rows = [[f"{groups[0][-1].label}, at step", str(one.folder), str(other.folder)]]
        for step in sorted(set().union(*columns)):
            cells = [f"{column[step]:.4f}" if step in column else "not scored" for column in columns]
            rows.append([f"{step:,}", *cells])
        tables.append(rows)
    return tables


def describe_groups(one: Run, other: Run, metric: str) -> list[str]:
    """What tells each pair of like groups after the first from it, then the scores that only one run has."""
    pairs = like_pairs(one, other, metric)
    card = pairs[0][0][0].card
    sentences = [f"scores with {_unlike(pair[0][0].card, card)}:" for pair in pairs[1:]]
    for run, mine in ((one, 0), (other, 1)):
        shown = [pair[mine] for pair in pairs]
        for group in like_groups(read_scores(run, metric)):
            if group not in shown:
                sentences.append(
                    f"left out, as only {run.folder} has such: {plural(len(group), 'score')} with "
                    f"{_unlike(group[0].card, card)}"
                )
    return sentences


def _unlike(card: Card, other: Card) -> str:
    return "; ".join(f"{name} {its}, not {theirs}" for name, (its, theirs) in differences(card, other).items())
