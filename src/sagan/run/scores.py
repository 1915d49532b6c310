"""The scores among a run's records: groups that may share an axis, the snapshots that are scored, the best score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sagan.run.card import Card, differences, refuse_unlike
from sagan.run.folder import Run, snapshot_step
from sagan.run.records import ScoreRecord
from sagan.system.errors import UserError
from sagan.system.files import file_sha256
from sagan.system.sentences import command, did_you_mean

METRICS = (
    *("frechet", "frechet_infinity", "kernel", "inception_score", "precision", "recall", "density", "coverage"),
    *("nearest_distance", "eye_colour_agreement", "eye_colour_chance", "eye_colour_confident", "symmetry"),
)


def read_scores(run: Run, metric: str) -> list[ScoreRecord]:
    """The scores of a run's snapshots by one metric, oldest first; without those of truncated latents."""
    return [score for score in all_scores(run, metric) if score.card.truncation is None]


def all_scores(run: Run, metric: str) -> list[ScoreRecord]:
    """The scores by one metric, oldest first, of truncated latents too."""
    return [score for score in run.records_of(ScoreRecord) if score.metric == metric]


def like_groups(scores: list[ScoreRecord]) -> list[list[ScoreRecord]]:
    """The scores in groups of comparable cards: the latest score of each step, in the order of the steps. The largest
    group comes first; of equally large ones, the one with the newest score."""
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
    """The first of the `like_groups` of a run. Raises UserError if the run has no score by this metric."""
    groups = like_groups(read_scores(run, metric))
    if not groups:
        kinds = {score.metric for score in run.records_of(ScoreRecord)}
        if metric not in METRICS:
            hint = did_you_mean(metric, METRICS)
            raise UserError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}{hint}")
        have = ", ".join(sorted(kinds)) or "none"
        raise UserError(
            f"{run.folder} has no score {metric!r} (it has: {have}); `{command('evaluate', run.folder)}` computes them"
        )
    return groups[0]


def like_pairs(one: Run, other: Run, metric: str) -> list[tuple[list[ScoreRecord], list[ScoreRecord]]]:
    """The `like_groups` of two runs that may share an axis, those with the most steps in common first.

    Raises UserError where a run has no score by this metric and, naming what differs, where no groups are alike.
    """
    largest = {str(run.folder): scores_to_compare(run, metric) for run in (one, other)}
    groups = [like_groups(read_scores(run, metric)) for run in (one, other)]
    pairs = [(mine, its) for mine in groups[0] for its in groups[1] if not differences(mine[0].card, its[0].card)]
    if not pairs:
        refuse_unlike((name, found[-1].card) for name, found in largest.items())
    pairs.sort(key=lambda pair: len({s.step for s in pair[0]} & {s.step for s in pair[1]}), reverse=True)
    return pairs


def best_score(run: Run) -> ScoreRecord:
    """The lowest Fréchet distance among a run's `scores_to_compare`. Raises UserError if there is none."""
    return min(scores_to_compare(run, "frechet"), key=lambda score: score.value)


def scored_steps(run: Run, wanted: Callable[[Card], bool], snapshots: Mapping[int, Path] | None = None) -> set[int]:
    """The steps of those snapshots, given by step (by default all of the run), that are scored.

    A snapshot is scored if its step has a Fréchet distance with a ``wanted`` card and the hash of the file as it is
    now. Scores of versions that did not record the hash count for any file of that step."""
    made = {(score.step, score.snapshot_sha256) for score in all_scores(run, "frechet") if wanted(score.card)}
    found = {snapshot_step(path): path for path in run.snapshots()} if snapshots is None else snapshots
    steps = found.keys() & {step for step, _ in made}  # so that no other file is read
    return {step for step in steps if (step, None) in made or (step, file_sha256(found[step])) in made}
