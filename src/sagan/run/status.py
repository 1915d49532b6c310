"""The status of runs, from their files: it does not matter which process trains them, or where."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sagan.run.folder import Run
from sagan.run.records import LookRecord, RecordReader, RollbackRecord, ScoreRecord, StoppedRecord, TrainRecord
from sagan.run.scores import like_groups
from sagan.system.console import duration
from sagan.system.errors import UserError
from sagan.system.files import is_held, read_regular

State = Literal["waiting", "running", "scoring", "done", "failed", "cut"]

STATES: dict[State, str] = {
    "waiting": "not started",
    "running": "a process trains it",
    "scoring": "trained, and its snapshots are being scored",
    "done": "trained to its last step",
    "failed": "ended by an error",
    "cut": "stopped before its last step, and can be resumed",
}

_WORDS: dict[State, str] = {"cut": "stopped"}  # where a person reads another one

_LARGEST_FAILURE = 2**16  # bytes
_PACE = 20  # records over which the pace is measured


@dataclass(frozen=True)
class RunStatus:
    """The status of one run."""

    name: str
    state: State
    step: int
    total: int | None
    score: ScoreRecord | None = None
    """The latest Fréchet distance."""
    verdict: str = ""
    """The guard's, as of the last record."""
    rollbacks: int = 0
    seconds_per_step: float | None = None
    reason: str = ""
    """Why it failed, or what is wrong with its files."""
    unscored: int = 0
    """Snapshots, made or planned, that are still to be scored."""
    seconds_per_score: float | None = None
    """For each of these; None if none has been scored yet."""
    planned: bool = True
    """Whether a sweep trains it, also where nothing does so now."""
    best: ScoreRecord | None = None
    """The lowest Fréchet distance among those that may be compared."""
    images_per_second: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the last step, and for the scores, at the run's own pace; None if that is unknown. Scores are left
        out before the first one."""
        return self.seconds_at(self.seconds_per_step, self.seconds_per_score)

    def seconds_at(self, per_step: float | None, per_score: float | None) -> float | None:
        """The same at another pace."""
        if per_step is None or self.total is None:
            return None
        seconds = max(0, self.total - self.step) * per_step + self.unscored * (per_score or 0)
        return seconds if 0 <= seconds < math.inf else None  # of records with an impossible clock


class Watched:
    """A run's folder whose status is asked for repeatedly: each time only new records are read.

    ``total``: its last step, for a run without a config. ``failure``: the file with the reason for a failure, if any.
    ``planned_scores``: of a config, how many snapshots are to be scored.
    """

    damage: str  # what is wrong with its files

    def __init__(
        self,
        folder: Path,
        name: str = "",
        total: int | None = None,
        failure: Path | None = None,
        planned_scores: int = 0,
    ):
        self.run, self.name, self.failure = Run(folder), name or folder.name, failure
        self.planned, self.planned_scores = total, planned_scores
        self.saved: tuple[tuple[int, int], int] = (0, 0), 0  # size and time of the last checkpoint, and its step
        self.reader = RecordReader(self.run.records_file)
        self._forget()

    def look(self, state: State | None = None) -> RunStatus:
        """The run's status; ``state`` overrides what follows from the files."""
        self._read_records()
        begun = self.run.config_file.is_file()
        total = self._total() if begun else self.planned
        state = state or self._state(begun)
        step = self.marks[-1][0] if self.marks else 0
        return RunStatus(
            self.name,
            state,
            max(step, self._saved_step()) if state == "cut" else step,
            total,
            score=self.scores[-1] if self.scores else None,
            best=self._best(),
            images_per_second=self.speed,
            verdict=self.verdict,
            rollbacks=self.rollbacks,
            seconds_per_step=self._pace(),
            reason=self.damage or self._failure() or self.stopped,
            unscored=max(0, self.planned_scores - len(self.scored)),
            seconds_per_score=sum(self.scored.values()) / len(self.scored) if self.scored else None,
            planned=self.planned is not None,
        )

    def _saved_step(self) -> int:
        """The step of the last checkpoint, which a run that was stopped wrote after its last record; 0 without one."""
        try:
            found = self.run.checkpoint_file.stat()
        except OSError:
            return 0
        if self.saved[0] != (found.st_size, found.st_mtime_ns):
            from sagan.run.weights import saved_step  # here, as it imports torch

            step = saved_step(self.run.checkpoint_file)
            self.saved = (found.st_size, found.st_mtime_ns), step or 0
        return self.saved[1]

    def is_trained(self) -> bool:
        """Whether the run has reached its last step, so that its last snapshot exists."""
        total = self._total() if self.run.config_file.is_file() else None
        return total is not None and self.run.snapshot_file(total).is_file()

    def _state(self, begun: bool) -> State:
        if begun and is_held(self.run.folder / "running.lock"):
            return "running"
        if self._failure() or self.stopped:
            return "failed"
        if not begun:
            return "waiting"
        return "done" if self.is_trained() else "cut"

    def _failure(self) -> str:
        with contextlib.suppress(FileNotFoundError, UserError):
            if self.failure is not None:
                return read_regular(self.failure, _LARGEST_FAILURE).decode(errors="replace").strip()
        return ""

    def _total(self) -> int | None:
        """The last step of the run's own config, which `sagan resume --total_step` may have changed."""
        try:
            return self.run.config().run.total_step
        except UserError as error:
            self.damage = self.damage or str(error)
            return self.planned

    def _forget(self) -> None:
        self.scores: list[ScoreRecord] = []  # Fréchet distances
        self.speed: float | None = None  # images per second
        self.scored: dict[int, float] = {}  # by step, the seconds that its scores took
        self.marks: deque[tuple[int, float]] = deque(maxlen=_PACE)  # (step, seconds)
        self.verdict = ""
        self.damage = ""
        self.stopped = ""  # why the guard stopped it
        self.rollbacks = 0

    def _read_records(self) -> None:
        """Reads the records that were added; all of them if the file was rewritten, as after a rollback."""
        damaged: list[UserError] = []
        added = self.reader.read_sparsely(damaged.append)
        if self.reader.restarted:
            self._forget()
        for record in added:
            if isinstance(record, TrainRecord | LookRecord):
                self.verdict = record.verdict or ""
            if isinstance(record, StoppedRecord):
                self.stopped = record.reason
            elif isinstance(record, TrainRecord):
                self.stopped = ""  # it was resumed
                self.marks.append((record.step, record.seconds))
                self.speed = record.images_per_second
            elif isinstance(record, RollbackRecord):
                self.rollbacks += 1
            elif isinstance(record, ScoreRecord) and record.metric == "frechet" and record.card.truncation is None:
                self.scores.append(record)
                self.scored[record.step] = record.seconds or 0
        if damaged:
            self.damage = str(damaged[0])

    def _best(self) -> ScoreRecord | None:
        groups = like_groups(self.scores)
        return min(groups[0], key=lambda score: score.value) if groups else None

    def _pace(self) -> float | None:
        """Seconds per step, by the last records."""
        if not self.marks:
            return None
        (first, earlier), (last, later) = self.marks[0], self.marks[-1]
        return (later - earlier) / (last - first) if last > first else later / max(last, 1)


# ---- words


def status_table(statuses: Sequence[RunStatus]) -> list[list[str]]:
    """Rows for a terminal: headings, then one for each run."""
    labels = {status.score.label for status in statuses if status.score}
    label = labels.pop() if len(labels) == 1 else "score"
    heading = label.partition(" (")[0]  # without the extractor: a terminal is narrow
    rows = [["run", "state", "step", heading, "verdict", "rollbacks", "left"]]
    for status in statuses:
        total = "" if status.total is None else f"/{status.total:,}"
        score = ""
        if status.score:
            named = f" {status.score.label}" if label == "score" else ""
            score = f"{status.score.value:.3f}{named} at {status.score.step:,}"
        left = status.seconds_left if status.state in ("running", "scoring", "cut") else None
        rows.append(
            [
                status.name,
                _WORDS.get(status.state, status.state),
                f"{status.step:,}{total}",
                score,
                status.verdict,
                str(status.rollbacks or ""),
                "" if left is None else duration(left),
            ]
        )
    return rows


def describe_progress(statuses: Sequence[RunStatus], at_once: int | None = None) -> str:
    """One sentence for all runs: "3 done, 2 running, 10 waiting; about 1:20:00 left".

    ``at_once``: the number of runs trained at a time; by default the number running now. The time is that of the runs
    which a process trains or, for a sweep, will train. It is left out if no run has a pace yet; it says so if it
    excludes scoring, because nothing has been scored yet.
    """
    counts = {state: sum(status.state == state for status in statuses) for state in STATES}
    sentence = ", ".join(f"{count} {_WORDS.get(state, state)}" for state, count in counts.items() if count) or "no runs"
    paces = [status.seconds_per_step for status in statuses if status.seconds_per_step is not None]
    score_paces = [status.seconds_per_score for status in statuses if status.seconds_per_score is not None]
    at_once = at_once or counts["running"] + counts["scoring"]
    to_go = [
        status
        for status in statuses
        if status.state in ("running", "scoring") or (status.planned and status.state in ("waiting", "cut"))
    ]
    if not paces or not at_once or not to_go:
        return sentence
    usual = sum(paces) / len(paces)
    per_score = sum(score_paces) / len(score_paces) if score_paces else None
    each = [
        status.seconds_at(
            usual if status.seconds_per_step is None else status.seconds_per_step,
            per_score if status.seconds_per_score is None else status.seconds_per_score,
        )
        or 0.0
        for status in to_go
    ]
    unknown = per_score is None and any(status.unscored for status in to_go)
    left = f"about {duration(max(sum(each) / at_once, *each, 0))} left"
    return f"{sentence}; {left}" + (", besides scoring, of which the pace is not known yet" if unknown else "")
