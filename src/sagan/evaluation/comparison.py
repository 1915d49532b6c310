"""The scores of two runs side by side."""

from __future__ import annotations

from sagan.run.card import refuse_unlike
from sagan.run.folder import Run
from sagan.run.scores import scores_to_compare


def comparison_table(one: Run, other: Run, metric: str) -> list[list[str]]:
    """A metric of two runs, step by step: of each the largest group of like scores.

    Raises UserError, naming what differs, where their cards are unlike.
    """
    scores = {str(run.folder): scores_to_compare(run, metric) for run in (one, other)}
    refuse_unlike((name, found[-1].card) for name, found in scores.items())
    columns = {name: {score.step: score.value for score in found} for name, found in scores.items()}
    rows = [[f"{scores[str(one.folder)][-1].label}, at step", *columns]]
    for step in sorted(set().union(*columns.values())):
        cells = [f"{column[step]:.4f}" if step in column else "not scored" for column in columns.values()]
        rows.append([f"{step:,}", *cells])
    return rows
