"""The scores among a run's records, sorted into groups that may share an axis."""

from __future__ import annotations

from collections.abc import Callable

from sagan.run.card import differences
from sagan.run.folder import Run
from sagan.run.records import ScoreRecord
from sagan.system.errors import UserError

Report = Callable[[str], object]


def read_scores(run: Run, metric: str) -> list[ScoreRecord]:
    """The scores of a run's snapshots by one metric, oldest first."""
    return [score for score in run.records_of(ScoreRecord) if score.metric == metric]


def like_groups(scores: list[ScoreRecord]) -> list[list[ScoreRecord]]:
    """The scores in groups of like cards, of each step the latest, by step. First comes the group with the most steps,
    and of equals the one that was added to last."""
    groups: list[list[ScoreRecord]] = []
    for score in reversed(scores):
        own = next((group for group in groups if not differences(group[0].card, score.card)), None)
        if own is None:
            groups.append([score])
        else:
            own.append(score)
    latest = [list({score.step: score for score in reversed(group)}.values()) for group in groups]
    latest.sort(key=len, reverse=True)
    return [sorted(group, key=lambda score: score.step) for group in latest]


def scores_to_compare(run: Run, metric: str) -> list[ScoreRecord]:
    """The first of a run's groups of like scores. Raises UserError where the run has no such score."""
    groups = like_groups(read_scores(run, metric))
    if not groups:
        kinds = {score.metric for score in run.records_of(ScoreRecord)}
        have = ", ".join(sorted(kinds)) or "none"
        raise UserError(
            f"{run.folder} has no score {metric!r} (it has: {have}); `sagan evaluate {run.folder}` makes them"
        )
    return groups[0]
