"""What a sweep has brought so far, read from its folder: the runs of its plan, and their scores."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagan.experiments.sweep import Sweep, evaluate_words
from sagan.run.card import Card, differences, refuse_unlike
from sagan.run.config import Config, names_of, override, settings
from sagan.run.folder import Run
from sagan.run.plan import PlannedRun, spell, train_words
from sagan.run.records import LookRecord, Record, RollbackRecord, ScoreRecord, StoppedRecord, TrainRecord
from sagan.run.scores import like_groups, read_scores
from sagan.run.status import State
from sagan.system.callbacks import Say
from sagan.system.errors import UserError
from sagan.training.recovery import describe_remedy

BETTER = {
    **dict.fromkeys(("frechet", "frechet_infinity", "kernel"), "lower"),
    **dict.fromkeys(("inception_score", "precision", "recall", "density", "coverage"), "higher"),
    **dict.fromkeys(("eye_colour_agreement", "eye_colour_confident"), "higher"),
}
"""Which way a metric is better; of the others neither is."""


@dataclass(frozen=True)
class Arm:
    """What is compared: settings that runs of several seeds share, by axis."""

    settings: tuple[tuple[str, Any], ...]

    @property
    def label(self) -> str:
        """Such as "span 3" or "span 3, masking before"."""
        return ", ".join(f"{name} {spelt(value)}" for name, value in self.settings) or "every run"


@dataclass(frozen=True)
class RunResult:
    """One planned run, and what there is of it. ``run`` is None where it has not begun."""

    name: str
    arm: Arm
    command: str
    """What trains and scores it again, into another folder."""
    config: Config
    run: Run | None
    state: State
    reason: str
    """Why it failed, where it did."""

    @property
    def seed(self) -> int:
        return self.config.run.seed

    @functools.cached_property
    def records(self) -> list[Record]:
        """The run's records; none where it has not begun."""
        return self.run.records() if self.run else []

    def rolled_back_before(self, step: int) -> bool:
        """Whether the guard took the run back to before a step."""
        return any(isinstance(record, RollbackRecord) and record.step < step for record in self.records)

    @property
    def looks(self) -> int:
        """How often the guard looked at the run."""
        return sum(isinstance(record, LookRecord) for record in self.records)

    @property
    def step(self) -> int:
        """The last step that is recorded."""
        return max((record.step for record in self.records if isinstance(record, TrainRecord)), default=0)

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come of its training: it is at its last step, or failed."""
        return self.state == "failed" or self.step >= self.config.run.total_step

    def seconds_at(self, step: int) -> float | None:
        """Seconds of training until a step, what was rolled back included; None for a step not recorded yet."""
        clock = [(each.step, each.seconds) for each in self.records if isinstance(each, TrainRecord)]
        if not clock or step > clock[-1][0]:
            return None
        steps, seconds = zip((0, 0.0), *clock, strict=True)
        return float(np.interp(step, steps, seconds))

    def sample_grid(self, step: int) -> Path:
        """Where the run's grid of samples of a step is, if it is anywhere."""
        folder = self.config.run.sample_dir
        within = self.run.folder / "samples" if self.run else Path()
        return (Path(folder) if folder else within) / f"{step}_fake.png"


@dataclass(frozen=True)
class Results:
    """A sweep and its planned runs, in the plan's order."""

    sweep: Sweep
    runs: list[RunResult]

    @property
    def arms(self) -> list[Arm]:
        """The arms, in the plan's order."""
        return list(dict.fromkeys(result.arm for result in self.runs))

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with: the first one of span 0, or the first of all."""
        plain = [arm for arm in self.arms if dict(arm.settings).get("span") == 0]
        return (plain or self.arms)[0]

    @property
    def seeds(self) -> list[int]:
        return sorted({result.seed for result in self.runs})

    @property
    def last_step(self) -> int:
        """The last step that is planned for every run."""
        return min(result.config.run.total_step for result in self.runs)

    def of(self, arm: Arm) -> list[RunResult]:
        """The runs of an arm, by seed."""
        return sorted((result for result in self.runs if result.arm == arm), key=lambda result: result.seed)


@dataclass(frozen=True)
class Group:
    """Scores of several runs that may share an axis: of each run, by its name, the latest of each step, by step."""

    scores: dict[str, list[ScoreRecord]]

    @property
    def card(self) -> Card:
        return self.newest.card

    @property
    def newest(self) -> ScoreRecord:
        return next(iter(self.scores.values()))[-1]

    @property
    def label(self) -> str:
        """What the score is called, such as FID."""
        return self.newest.label

    @property
    def count(self) -> int:
        return sum(map(len, self.scores.values()))

    def steps(self) -> list[int]:
        """All steps at which any run was scored."""
        return sorted({score.step for scores in self.scores.values() for score in scores})

    def values(self, result: RunResult) -> dict[int, float]:
        """A run's scores by step."""
        return {score.step: score.value for score in self.scores.get(result.name, [])}

    def at(self, results: Results, arm: Arm, step: int) -> dict[int, float]:
        """An arm's scores of a step, by seed."""
        found = {result.seed: self.values(result).get(step) for result in results.of(arm)}
        return {seed: value for seed, value in found.items() if value is not None}


# ---- reading


def read_results(folder: Path) -> Results:
    """What a sweep's folder holds.

    Raises UserError where it is none, where its plan is damaged, and for a run that is not the one planned.
    """
    sweep = Sweep.open(folder)
    axes = sweep.plan.axes
    varied = [axis for axis, values in axes.items() if axis != "seed" and len(values) > 1] or ["span"]
    return Results(sweep, [_run_result(sweep, planned, varied) for planned in sweep.plan.runs()])


def _run_result(sweep: Sweep, planned: PlannedRun, varied: list[str]) -> RunResult:
    config = sweep.config(planned)
    arm = Arm(tuple((axis, planned.overrides[axis]) for axis in varied))
    again = Path("again") / planned.name
    words = train_words(override(config, {"run_dir": str(again)}), planned.overrides), evaluate_words(config, again)
    command = " && ".join(shlex.join(["sagan", *each]) for each in words)
    state = sweep.watch(planned).look()
    run = Run(sweep.run_folder(planned))
    if not run.config_file.is_file():
        return RunResult(planned.name, arm, command, config, None, state.state, state.reason)
    own = run.config()
    _refuse_other(run, own, config)
    return RunResult(planned.name, arm, command, own, run, state.state, state.reason)


def _refuse_other(run: Run, own: Config, planned: Config) -> None:
    mine, wanted = settings(own), settings(planned)
    unlike = [name for name in sorted(names_of("computed")) if mine[name] != wanted[name] and wanted[name] != "auto"]
    if unlike:
        listed = "; ".join(f"{name} {spelt(mine[name])} (not {spelt(wanted[name])})" for name in unlike)
        raise UserError(f"{run.folder} is not the run that the plan names: it was trained with {listed}")


def spelt(value: Any) -> str:
    """A setting as a person would write it."""
    return " ".join(spell(value))


# ---- scores that may share an axis


def shared_groups(results: Results, metric: str, warn: Say = lambda sentence: None) -> list[Group]:
    """The groups of like scores in which every scored run has a part, the largest first; none where no run is scored.

    ``warn`` gets a sentence about scores that are in none of them. Raises
    UserError, naming what differs, where runs have been scored in unlike ways only, and where they have scores but
    none of this metric.
    """
    found = {result.name: read_scores(result.run, metric) for result in results.runs if result.run}
    scored = {name: like_groups(scores) for name, scores in found.items() if scores}
    if not scored:
        _refuse_unknown(results, metric)
        return []
    groups: list[dict[str, list[ScoreRecord]]] = []
    for name, group in _each(scored):
        own = next((each for each in groups if not differences(_card(each), group[-1].card)), None)
        if own is None:
            groups.append({name: group})
        else:
            own[name] = group
    shared = [Group(group) for group in groups if len(group) == len(scored)]
    if not shared:
        refuse_unlike((name, own[0][-1].card) for name, own in scored.items())
    shared.sort(key=lambda group: group.count, reverse=True)
    for other in groups:
        if len(other) < len(scored):
            warn(_left_out(other, shared[0]))
    return shared


def _card(group: dict[str, list[ScoreRecord]]) -> Card:
    return next(iter(group.values()))[-1].card


def _left_out(group: dict[str, list[ScoreRecord]], shown: Group) -> str:
    unlike = differences(_card(group), shown.card)
    listed = "; ".join(f"{field} {theirs}, not {ours}" for field, (theirs, ours) in unlike.items())
    count = sum(map(len, group.values()))
    scores = "1 score" if count == 1 else f"{count} scores"
    return f"left out, as not every scored run has such: {scores} ({listed})"


def _each(scored: dict[str, list[list[ScoreRecord]]]) -> Iterator[tuple[str, list[ScoreRecord]]]:
    return ((name, group) for name, groups in scored.items() for group in groups)


def _refuse_unknown(results: Results, metric: str) -> None:
    records = itertools.chain.from_iterable(result.records for result in results.runs)
    have = {record.metric for record in records if isinstance(record, ScoreRecord)}
    if have and metric not in have:
        raise UserError(
            f"no run in {results.sweep.folder} has a score {metric!r} (there are: {', '.join(sorted(have))})"
        )


def comparison_step(results: Results, group: Group) -> int:
    """The step at which arms are compared, chosen by what there is and not by what came out.

    The last planned one where no run is still to reach it; else, and where nothing can be compared there, the latest of
    those at which most runs can be compared with the baseline of their seed.
    """
    pairs = {step: _pairs(results, group, step) for step in group.steps()}
    if all(result.settled for result in results.runs) and pairs.get(results.last_step):
        return results.last_step
    return max(pairs, key=lambda step: (pairs[step], step))


def _pairs(results: Results, group: Group, step: int) -> int:
    """Runs that can be compared with a run of the baseline at a step."""
    base = group.at(results, results.baseline, step)
    others = [arm for arm in results.arms if arm != results.baseline]
    return sum(len(base.keys() & group.at(results, arm, step).keys()) for arm in others)


# ---- what happened, and what is missing


@dataclass(frozen=True)
class Event:
    """A stretch of a run that the guard did not find healthy, or a rollback."""

    run: str
    first: int
    last: int
    verdict: str
    reason: str
    remedy: str = ""


def events(result: RunResult) -> list[Event]:
    """What the guard noticed in a run, in the order of its records."""
    found: list[Event] = []
    healthy = True  # the look before
    for record in result.records:
        if isinstance(record, RollbackRecord):
            remedy = f"back to step {record.step:,}, on with {describe_remedy(record.remedy)}"
            last = record.from_step
            found.append(Event(result.name, last, last, record.verdict, record.reason, remedy))
            healthy = True
        elif isinstance(record, StoppedRecord):
            found.append(
                Event(result.name, record.step, record.step, record.verdict, record.reason, "the run was stopped")
            )
            healthy = True
        elif isinstance(record, LookRecord) and record.verdict == "healthy":
            healthy = True
        elif isinstance(record, LookRecord):
            event = Event(result.name, record.step, record.step, record.verdict, record.reason)
            if not healthy and found[-1].verdict == event.verdict:
                event = dataclasses.replace(event, first=found.pop().first)
            found.append(event)
            healthy = False
    return found


def missing(results: Results, groups: list[Group]) -> list[str]:
    """A sentence for each thing that a finished, scored sweep would have and this one has not; none where it is so."""
    return [sentence for result in results.runs for sentence in _missing(result, groups)]


def _missing(result: RunResult, groups: list[Group]) -> Iterator[str]:
    if result.run is None:
        yield f"{result.name} has not begun" + (f": {result.reason}" if result.reason else "")
        return
    total = result.config.run.total_step
    if result.state == "failed":
        yield f"{result.name} failed at step {result.step:,} of {total:,}: {result.reason}"
    elif result.step < total:
        yield f"{result.name} is at step {result.step:,} of {total:,} ({result.state})"
    scored = groups[0].values(result) if groups else {}
    unscored = [step for step in (int(path.stem) for path in result.run.snapshots()) if step not in scored]
    if unscored:
        steps = ", ".join(f"{step:,}" for step in unscored[:6]) + (" ..." if len(unscored) > 6 else "")
        yield f"{result.name} has snapshots without such a score: of step {steps}"
