"""`sagan sweep`: many runs; `sagan status`: the state of runs and sweeps."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from sagan.cli.flags import Flag, flags_of, group, item_hint, parse, read, read_value
from sagan.run.config import Config
from sagan.run.presets import PRESETS, check_preset
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.sentences import command, plural
from sagan.system.typed import fill, refuse_beyond

if TYPE_CHECKING:
    from sagan.experiments.sweep import Sweep
    from sagan.run.plan import PlannedRun

_MOST = 100_000  # runs at a time, hours, GPUs of a job
_FAILED = 1  # the exit status where a run is not done

_ELSEWHERE = {
    "parallel_runs": "use --jobs",
    "cluster_gpus_per_run": "use --gpus_per_run",
    "run_dir": "the runs are in --sweep_dir",
    "total_steps": "use --total_step",
}


@dataclass(frozen=True)
class SweepFlags:
    """Train a run for every combination of several values of any settings, all in one folder.
    A setting of one value takes several: --span 0 1 2. For a setting that is itself a list, give the flag once for
    each list: --g_attention 8 16 --g_attention 16 32.
    Runs of one seed have the same initial weights, latents and order of images, whatever their span, masking, loss or
    learning rates, so that they can be compared in pairs.
      sagan sweep --preset quick --span 0 1 2 3 4 --seed 0 1 2 --sweep_dir runs/spans
      sagan sweep --sweep_dir runs/spans
      sagan sweep --sweep_dir runs/spans --seed 0 1 2 3 4

    The second command continues the sweep: it skips finished runs, resumes stopped ones and retries failed ones.
    The third adds values to an axis; give the earlier values too. All other settings stay as planned."""

    sweep_dir: Path
    """The folder of the sweep: its plan, runs/ and logs/."""
    config: Config = field(default_factory=Config)
    preset: str = "best"
    """The settings to start from: best, published, paper, quick or small."""
    leave_out: tuple[str, ...] = ()
    """A combination to leave out, such as span=0 masking=before. Give the flag once for each combination."""
    jobs: int = 1
    """Runs at a time. Each is a process with its share of the processor's cores; on one GPU they share the GPU."""
    score: bool = True
    """Score every snapshot of a run when it is trained, with --eval_num images and --extractor."""
    dry_run: bool = False
    """Do not train: show the plan, its cost and, from a few steps on noise, how long it takes."""
    print_commands: bool = False
    """Do not train: write the plan and print the remaining commands of each run, as a line for a shell."""
    cluster: Literal["local", "slurm"] | None = None
    """Submit the runs to SLURM as jobs, through submitit (pip install 'sagan-attention[cluster]').
    With --jobs, at most that many run at a time. local: as processes on this machine, to try it out."""
    cluster_partition: str | None = None
    """SLURM's partition."""
    cluster_hours: float = 24.0
    """Hours of a job. A run that needs more is submitted again and resumed."""
    gpus_per_run: int = 1
    """GPUs of a run. With several it has a process on each and, in a new sweep, as many --shards. 0: for jobs of a
    cluster without GPUs."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"`jobs` must be 1 or more, got {self.jobs}")
        for name in ("jobs", "cluster_hours", "gpus_per_run"):
            refuse_beyond(name, getattr(self, name), _MOST)
        if not self.cluster_hours > 0:
            raise UserError(f"`cluster_hours` must be more than 0, got {self.cluster_hours}")
        if self.gpus_per_run < 0:
            raise UserError(f"`gpus_per_run` must be 0 or more, got {self.gpus_per_run}")


def sweep_defaults() -> SweepFlags:
    import tyro

    return SweepFlags(tyro.MISSING, PRESETS[SweepFlags.preset])  # MISSING: a value is required


def sweep(words: Sequence[str], console: Console) -> int:
    """Train many runs: every combination of several values, over seeds."""
    axes, left_out, rest = read_axes(words)
    given = read(SweepFlags, rest, "sagan sweep", _ELSEWHERE)
    flags = fill(SweepFlags, given)
    _check_together(flags, given)
    from sagan.experiments.checks import check_images, check_runs, extractor_name, prepare_images, refuse_stranger
    from sagan.experiments.sweep import plan_sweep

    base = PRESETS[flags.preset] if "preset" in given else None
    if axes.get("start_from", [None]) != [None]:
        base = _with_start(PRESETS[flags.preset], axes["start_from"])
    whole = command("sweep", *(word for word in words if word not in ("--dry_run", "--print_commands")))
    if flags.gpus_per_run > 1 and not (flags.sweep_dir / "plan.json").is_file():
        axes.setdefault("shards", [flags.gpus_per_run])
    begun = plan_sweep(flags.sweep_dir, axes, left_out, base, whole)
    refuse_stranger(begun.plan, begun.folder, axes)
    check_runs(begun.plan, begun.folder, flags.gpus_per_run)
    extractor = extractor_name(begun.plan) if flags.score else None
    todo = [run for run in begun.plan.runs() if begun.is_left(run, extractor)]
    if not flags.print_commands:  # they may be for another machine
        check_images(map(begun.config, todo))
    if flags.dry_run:
        return _say_cost(begun, flags.jobs, console)
    begun.write()
    if flags.print_commands:
        for run in begun.plan.runs():
            if commands := begun.commands(run, extractor):
                console.say(" && ".join(command(*each) for _, each in commands))
        return 0
    prepare_images(map(begun.config, todo), begun.folder, console)
    if flags.cluster is not None:
        return _submit(begun, todo, extractor, flags, flags.jobs if "jobs" in given else None, console)
    return _carry_out(begun, todo, extractor, flags, console)


def _with_start(base: Config, places: Sequence[str]) -> Config:
    """The settings of runs that all start from the trained networks at one place."""
    from sagan.training.start_from import with_networks_of

    if len(places) > 1:
        raise UserError(f"--start_from must be one place for all runs of a sweep, got {' and '.join(map(str, places))}")
    return with_networks_of(base, places[0])


def _check_together(flags: SweepFlags, given: Mapping[str, Any]) -> None:
    """Raises UserError for flags of which one would have no effect."""
    what = [f"--{name}" for name in ("dry_run", "print_commands", "cluster") if getattr(flags, name)]
    if len(what) > 1:
        raise UserError(f"give one of {' and '.join(what)}")
    for name in ("cluster_partition", "cluster_hours"):
        if name in given and flags.cluster is None:
            raise UserError(f"--{name} needs --cluster slurm")
    check_preset(flags.preset)


def _say_cost(begun: Sweep, jobs: int, console: Console) -> int:
    """Says which runs there are, which steps each still needs, and what they cost."""
    from sagan.bench.forecast import PlannedCost, describe_runs
    from sagan.run.plan import describe_plan
    from sagan.run.status import status_table

    runs = begun.plan.runs()
    console.say(describe_plan(begun.plan))
    statuses = [begun.watch(run).look() for run in runs]
    console.table([row[:3] for row in status_table(statuses)])
    left = [(each.total or 0) - each.step for each in statuses]
    planned = [PlannedCost(run.name, begun.config(run), steps) for run, steps in zip(runs, left, strict=True)]
    for line in describe_runs(planned, jobs):
        console.say(line)
    return 0


def _submit(
    begun: Sweep,
    todo: Sequence[PlannedRun],
    extractor: str | None,
    flags: SweepFlags,
    at_once: int | None,
    console: Console,
) -> int:
    from sagan.experiments.cluster import Cluster, submit

    assert flags.cluster is not None
    cluster = Cluster(flags.cluster, flags.cluster_partition, flags.cluster_hours, flags.gpus_per_run)
    jobs = submit(begun, todo, extractor, cluster, at_once) if todo else []
    numbers = f": {', '.join(job.job_id for job in jobs)}" if jobs else ""
    console.say(f"{len(jobs)} of {plural(len(begun.plan.runs()), 'run')} submitted{numbers}")
    console.say(f"{command('status', flags.sweep_dir)} shows their state")
    return 0


def _carry_out(
    begun: Sweep, todo: Sequence[PlannedRun], extractor: str | None, flags: SweepFlags, console: Console
) -> int:
    from sagan.experiments.board import live_table
    from sagan.experiments.sweep import Runner, carry_out, threads_each
    from sagan.run.status import describe_progress, status_table

    runs = begun.plan.runs()
    console.say(f"sweep folder: {begun.folder}, {plural(len(runs), 'run')}, {len(todo)} of them not done")
    runner = Runner(begun, extractor, threads_each(flags.jobs), gpus=flags.gpus_per_run)
    with live_table(console, flags.jobs) as show:
        stopped = carry_out(runner, todo, flags.jobs, show)
    statuses = [begun.watch(run, scored=extractor is not None).look() for run in runs]
    console.table(status_table(statuses))
    console.say(describe_progress(statuses))
    for run, each in zip(runs, statuses, strict=True):
        if each.state == "failed":
            console.warn(f"{each.name} failed: {each.reason} (log: {begun.log_file(run)})")
        elif each.state == "running":
            console.warn(f"{each.name} is being trained by another process, so it was skipped")
    jobs = ["--jobs", str(flags.jobs)] if flags.jobs > 1 else []
    score = [] if flags.score else ["--score", "false"]
    again = command("sweep", "--sweep_dir", flags.sweep_dir, *jobs, *score)
    if stopped is not None:
        name = signal.Signals(stopped).name
        console.say(f"stopped by {name}; what was trained is saved; to continue: {again}")
        return 128 + stopped
    states = {each.state for each in statuses}
    done = [run for run, each in zip(runs, statuses, strict=True) if each.state == "done"]
    unscored = [run.name for run in done if begun.is_left(run, extractor)]
    if "failed" in states:
        console.say(f"to retry the failed runs: {again}")
    elif "cut" in states:
        console.say(f"to resume the stopped runs: {again}")
    elif unscored:
        console.say(f"trained, but not scored to the end: {', '.join(unscored)}; to continue: {again}")
    else:
        if extractor is not None:
            console.say(f"what the scores show: {command('report', flags.sweep_dir)}")
        else:
            console.say(f"to score the runs: {command('sweep', '--sweep_dir', flags.sweep_dir, *jobs)}")
        return 0
    return _FAILED


# ---- the values of axes


def read_axes(words: Sequence[str]) -> tuple[dict[str, list[Any]], list[dict[str, Any]], list[str]]:
    """The values given for settings of a run, the combinations given by --leave_out, and the other words."""
    settings = flags_of(Config)
    given: dict[str, list[Any]] = {}
    conditions: list[dict[str, Any]] = []
    rest: list[str] = []
    for each in group(words):
        if each.flag.startswith("--") and each.name in settings:
            given.setdefault(each.name, []).extend(_values_of(each.name, each.values, settings))
        elif each.flag.startswith("--") and each.name == "leave_out":
            conditions.append(_read_condition(each.values, settings))
        else:
            rest += each.words
    return given, conditions, rest


def _values_of(name: str, words: Sequence[str], settings: Mapping[str, Flag]) -> list[Any]:
    """The values that words give for a setting: one for each word, or one of all words where the setting is a list."""
    together = item_hint(settings[name].hint) is not None or len(words) < 2
    return [read_value(name, each, settings) for each in ([words] if together else [[word] for word in words])]


def _read_condition(words: Sequence[str], settings: Mapping[str, Flag]) -> dict[str, Any]:
    """The values in ``span=0 masking=before``."""
    if not words or not all("=" in word for word in words):
        raise UserError(f"--leave_out must be such as span=0 masking=before, got {shlex.join(words)!r}")
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in settings:
            read(Config, [f"--{name}"], "sagan sweep")  # raises, with the nearest flag
        values = _values_of(name, value.split(","), settings)
        if len(values) > 1:
            raise UserError(
                f"--leave_out takes one value of --{name}, got {' and '.join(map(str, values))}: give it once for each"
            )
        found[name] = values[0]
    return found


# ---- sagan status


@dataclass(frozen=True)
class StatusFlags:
    """Show the state of runs, from their files: step, latest score, the guard's verdict, rollbacks and time left."""

    places: Annotated[tuple[Path, ...], Positional] = (Path("runs"),)
    """Folders of sweeps or runs, or folders that contain them."""


def status(words: Sequence[str], console: Console) -> int:
    """Show the state of runs and sweeps."""
    places = parse(StatusFlags, words, "sagan status").places
    if places == StatusFlags.places and not places[0].exists():  # main.py puts runs elsewhere
        places = tuple(sorted({path.parents[1] for path in Path().glob("sparse_models_*/*/config.json")})) or places
    from sagan.experiments.sweep import find_watched
    from sagan.run.status import describe_progress, status_table

    for place in places:
        statuses = [watched.look() for watched in find_watched(place)]
        if len(places) > 1:
            console.say(f"{place}")
        console.table(status_table(statuses))
        for each in statuses:
            if each.reason:
                console.say(f"{each.name}: {each.reason}")
        console.say(describe_progress(statuses))
    return 0
