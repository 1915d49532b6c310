"""The results of a sweep so far, read from its folder: the runs of its plan, and their scores."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagan.experiments.sweep import Sweep, evaluate_words
from sagan.run.card import Card, differences, refuse_unlike
from sagan.run.config import Config, DataConfig, RunConfig, names_of, override, settings, without_places
from sagan.run.folder import Run, snapshot_step
from sagan.run.plan import PATHS, PlannedRun, spell, train_words
from sagan.run.records import LookRecord, Record, RollbackRecord, ScoreRecord, StoppedRecord, TrainRecord
from sagan.run.scores import like_groups, read_scores
from sagan.run.status import State
from sagan.system.callbacks import Say
from sagan.system.errors import UserError
from sagan.system.paths import last_name, without_paths
from sagan.system.sentences import command, did_you_mean, plural, visible
from sagan.training.recovery import describe_remedy

BETTER = {
    **dict.fromkeys(("frechet", "frechet_infinity", "kernel"), "lower"),
    **dict.fromkeys(("inception_score", "precision", "recall", "density", "coverage"), "higher"),
    **dict.fromkeys(("eye_colour_agreement", "eye_colour_confident"), "higher"),
}
"""Which scores of a metric are better; of other metrics, neither are."""
NAMES = {"frechet": "Fréchet distance", "kernel": "kernel distance"}
"""What a person calls a metric, where that is not its name here."""


@dataclass(frozen=True)
class Arm:
    """The settings that runs of several seeds share, by axis."""

    settings: tuple[tuple[str, Any], ...]

    @property
    def label(self) -> str:
        """Such as "span 3" or "span 3, masking before"."""
        shown = ((name, last_name(value) if name in PATHS and value else spelt(value)) for name, value in self.settings)
        return visible(", ".join(f"{name} {value}" for name, value in shown)) or "every run"


@dataclass(frozen=True)
class RunResult:
    """A planned run and its results. ``run`` is None where it has not begun."""

    name: str
    arm: Arm
    command: str
    """It repeats the run and its scores in another folder; the images are named by the last part of their path."""
    config: Config
    run: Run | None
    state: State
    reason: str
    """Why it failed, if it did."""

    @property
    def seed(self) -> int:
        return self.config.run.seed

    @functools.cached_property
    def records(self) -> list[Record]:
        return self.run.records() if self.run else []

    def rolled_back_before(self, step: int) -> bool:
        """Whether the guard rolled the run back to before a step."""
        return any(isinstance(record, RollbackRecord) and record.step < step for record in self.records)

    @property
    def checks(self) -> int:
        """How often the guard checked the run."""
        return sum(isinstance(record, LookRecord) for record in self.records)

    @property
    def step(self) -> int:
        """The last recorded step."""
        return max((record.step for record in self.records if isinstance(record, TrainRecord)), default=0)

    @property
    def settled(self) -> bool:
        """Whether its training has ended: it is at its last step, or has failed."""
        return self.state == "failed" or self.step >= self.config.run.total_step

    def seconds_at(self, step: int) -> float | None:
        """Seconds of training until a step, including what was rolled back; None for a step not recorded yet."""
        clock = [(each.step, each.seconds) for each in self.records if isinstance(each, TrainRecord)]
        if not clock or step > clock[-1][0]:
            return None
        steps, seconds = zip((0, 0.0), *clock, strict=True)
        return float(np.interp(step, steps, seconds))

    @property
    def samples(self) -> Path:
        """The folder of its grids of samples."""
        folder = self.config.run.sample_dir
        within = self.run.folder / "samples" if self.run else Path()
        return Path(folder) if folder else within


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
        """The arm that the others are compared with: the first one of span 0, else the first of all."""
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
    """Comparable scores of several runs: by the run's name, the latest score of each step, in order of steps."""

    scores: dict[str, list[ScoreRecord]]

    @property
    def card(self) -> Card:
        return self.newest.card

    @property
    def newest(self) -> ScoreRecord:
        return next(iter(self.scores.values()))[-1]

    @property
    def label(self) -> str:
        """The name of the score, such as FID."""
        return visible(self.newest.label)

    @property
    def count(self) -> int:
        return sum(map(len, self.scores.values()))

    def steps(self) -> list[int]:
        """The steps at which any run was scored."""
        return sorted({score.step for scores in self.scores.values() for score in scores})

    def values(self, result: RunResult) -> dict[int, float]:
        """A run's scores by step."""
        return {score.step: score.value for score in self.scores.get(result.name, [])}

    def at(self, results: Results, arm: Arm, step: int) -> dict[int, float]:
        """An arm's scores at a step, by seed."""
        found = {result.seed: self.values(result).get(step) for result in results.of(arm)}
        return {seed: value for seed, value in found.items() if value is not None}


# ---- reading


def read_results(folder: Path) -> Results:
    """The results in a sweep's folder.

    Raises UserError for another folder, for a damaged plan, and for a run that is not the one planned.
    """
    sweep = Sweep.open(folder)
    axes = sweep.plan.axes
    varied = [axis for axis, values in axes.items() if axis != "seed" and len(values) > 1] or ["span"]
    return Results(sweep, [_run_result(sweep, planned, varied) for planned in sweep.plan.runs()])


def _shortest(words: list[str]) -> list[str]:
    """The words of a command without flags whose values are the defaults."""
    usual = {"--device": RunConfig.device, "--prepared": DataConfig.prepared}
    return [
        word
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False)
        if (word not in usual or after != usual[word]) and (before not in usual or word != usual[before])
    ]


def _run_result(sweep: Sweep, planned: PlannedRun, varied: list[str]) -> RunResult:
    config = sweep.config(planned)
    arm = Arm(tuple((axis, planned.overrides[axis]) for axis in varied))
    again = Path("again") / planned.name
    shared = override(without_places(config), {"run_dir": str(again)})
    repeat = train_words(shared, planned.overrides), _shortest(evaluate_words(shared, again))
    repeated = " && ".join(command(*words) for words in repeat)
    status = sweep.watch(planned).look()
    places = [Path(place) for place in (config.data.data, config.data.prepared) if place and Path(place).is_absolute()]
    reason = without_paths(status.reason, [sweep.folder, *places])
    run = Run(sweep.run_folder(planned))
    if not run.config_file.is_file():
        return RunResult(planned.name, arm, repeated, config, None, status.state, reason)
    own = run.config()
    _refuse_other(run, own, config)
    return RunResult(planned.name, arm, repeated, own, run, status.state, reason)


def _refuse_other(run: Run, own: Config, planned: Config) -> None:
    mine, wanted = settings(own), settings(planned)
    unlike = [name for name in sorted(names_of("computed")) if mine[name] != wanted[name] and wanted[name] != "auto"]
    if unlike:
        listed = "; ".join(f"{name} {spelt(mine[name])} (not {spelt(wanted[name])})" for name in unlike)
        raise UserError(f"{run.folder} is not the run that the plan names: it was trained with {listed}")


def spelt(value: Any) -> str:
    """A setting as a person would write it."""
    return " ".join(spell(value))


# ---- comparable scores


def shared_groups(results: Results, metric: str, warn: Say = lambda sentence: None) -> list[Group]:
    """The groups of like scores that every scored run has, the largest first; none where no run is scored.

    ``warn`` gets a sentence for the scores in every other group. Raises UserError, naming what differs, where there is
    no such group, and where runs have scores but none of this metric.
    """
    found = {result.name: read_scores(result.run, metric) for result in results.runs if result.run}
    scored = {name: like_groups(scores) for name, scores in found.items() if scores}
    if not scored:
        _refuse_unknown(results, metric)
        return []
    groups: list[Group] = []
    for name, own in scored.items():
        for scores in own:
            like = next((group for group in groups if not differences(group.card, scores[-1].card)), None)
            if like is None:
                groups.append(Group({name: scores}))
            else:
                like.scores[name] = scores
    shared = [group for group in groups if len(group.scores) == len(scored)]
    if not shared:
        refuse_unlike((name, own[0][-1].card) for name, own in scored.items())
    shared.sort(key=lambda group: group.count, reverse=True)
    for group in groups:
        if group not in shared:
            warn(_left_out(group, shared[0]))
    return shared


def _left_out(group: Group, shown: Group) -> str:
    unlike = differences(group.card, shown.card)
    listed = "; ".join(f"{field} {theirs}, not {ours}" for field, (theirs, ours) in unlike.items())
    return f"left out, as not every scored run has such: {plural(group.count, 'score')} ({listed})"


def _refuse_unknown(results: Results, metric: str) -> None:
    have = {record.metric for result in results.runs for record in result.records if isinstance(record, ScoreRecord)}
    if have:
        raise UserError(
            f"no run in {results.sweep.folder} has a score {metric!r} (there are: {', '.join(sorted(have))})"
            f"{did_you_mean(metric, have)}"
        )


def comparison_step(results: Results, group: Group) -> int:
    """The step at which arms are compared, chosen by which scores exist and not by their values.

    The last planned one where no run is still to reach it. Otherwise, and where nothing can be compared there, the
    latest of the steps at which most runs can be compared with the baseline of their seed.
    """
    pairs = {step: _pairs(results, group, step) for step in group.steps()}
    if all(result.settled for result in results.runs) and pairs.get(results.last_step):
        return results.last_step
    return max(pairs, key=lambda step: (pairs[step], step))


def _pairs(results: Results, group: Group, step: int) -> int:
    """The number of runs that can be compared with a run of the baseline at a step."""
    base = group.at(results, results.baseline, step)
    others = [arm for arm in results.arms if arm != results.baseline]
    return sum(len(base.keys() & group.at(results, arm, step).keys()) for arm in others)


# ---- events, and what is missing


@dataclass(frozen=True)
class Event:
    """Consecutive checks at which the guard found a run unhealthy, or a rollback, or a stop."""

    run: str
    first: int
    last: int
    verdict: str
    reason: str
    action: str


def events(result: RunResult) -> list[Event]:
    """What the guard found in a run, in the order of its records."""
    found: list[Event] = []
    goes_on = False  # whether the check before was unhealthy
    for record in result.records:
        if isinstance(record, LookRecord) and record.verdict == "healthy":
            goes_on = False
            continue
        if isinstance(record, RollbackRecord):
            step, action = record.from_step, f"back to step {record.step:,}, on with {describe_remedy(record.remedy)}"
        elif isinstance(record, StoppedRecord):
            step, action = record.step, "the run was stopped"
        elif isinstance(record, LookRecord):
            step, action = record.step, ""
        else:
            continue
        first = step
        if goes_on and isinstance(record, LookRecord) and found[-1].verdict == record.verdict:
            first = found.pop().first
        found.append(Event(result.name, first, step, record.verdict, without_paths(record.reason), action))
        goes_on = isinstance(record, LookRecord)
    return found


def missing(results: Results, groups: list[Group]) -> list[str]:
    """A sentence for each thing that a finished and scored sweep has and this one lacks."""
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
    unscored = [step for step in map(snapshot_step, result.run.snapshots()) if step not in scored]
    if unscored:
        steps = ", ".join(f"{step:,}" for step in unscored[:6]) + (" ..." if len(unscored) > 6 else "")
        yield f"{result.name} has snapshots without such a score: of step {steps}"
