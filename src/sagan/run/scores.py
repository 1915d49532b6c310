"""The scores among a run's records, sorted into groups that may share an axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sagan.run.card import Card, differences
from sagan.run.folder import Run
from sagan.system.errors import UserError

Report = Callable[[str], object]


@dataclass(frozen=True)
class Scored:
    """One record of a score of a snapshot, and its card."""

    record: dict[str, Any]
    card: Card

    @property
    def step(self) -> int:
        return int(self.record["step"])


def read_scores(run: Run, metric: str, warn: Report = lambda sentence: None) -> list[Scored]:
    """A run's scores of a metric, oldest first.

    Those whose card was written by another version, and says too little or too much to be compared with, are left out:
    ``warn`` gets one sentence for all of them.
    """
    found, unreadable = [], []
    for record in run.records():
        if record.get("kind") != "score" or record.get("metric") != metric or record.get("step") is None:
            continue
        try:
            found.append(Scored(record, Card.from_dict(record["card"])))
        except (ValueError, KeyError, TypeError) as error:
            unreadable.append(error)
    if unreadable:
        scores = "1 score" if len(unreadable) == 1 else f"{len(unreadable)} scores"
        warn(f"{scores} in {run.records_file} are of another version of this program and left out: {unreadable[0]}")
    return found


def like_groups(scores: list[Scored]) -> list[list[Scored]]:
    """The scores in groups of like cards, of each step the latest, by step. First comes the group with the most steps,
    and of equals the one that was added to last."""
    groups: list[list[Scored]] = []
    for score in reversed(scores):
        own = next((group for group in groups if not differences(group[0].card, score.card)), None)
        if own is None:
            groups.append([score])
        else:
            own.append(score)
    latest = [list({score.step: score for score in reversed(group)}.values()) for group in groups]
    latest.sort(key=len, reverse=True)
    return [sorted(group, key=lambda score: score.step) for group in latest]


def scores_to_compare(run: Run, metric: str) -> list[Scored]:
    """The first of a run's groups of like scores. Raises UserError where the run has no such score."""
    groups = like_groups(read_scores(run, metric))
    if not groups:
        kinds = {r["metric"] for r in run.records() if r.get("kind") == "score" and r.get("step") is not None}
        have = ", ".join(sorted(kinds)) or "none"
        raise UserError(
            f"{run.folder} has no score {metric!r} (it has: {have}); `sagan evaluate {run.folder}` makes them"
        )
    return groups[0]
