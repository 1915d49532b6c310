"""`sagan sweep`: many runs."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sagan.cli.axes import read_values
from sagan.cli.flags import read
from sagan.run.config import Config
from sagan.run.presets import PRESETS, check_preset
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.typed import fill

if TYPE_CHECKING:
    from sagan.experiments.sweep import Sweep
    from sagan.run.plan import PlannedRun

_FAILED = 1  # the exit status where a run failed

_ELSEWHERE = {
    "parallel_runs": "here it is --jobs",
    "run_dir": "the runs lie in --sweep_dir",
    "total_steps": "here it is --total_step",
}


@dataclass(frozen=True)
class SweepFlags:
    """Train a run for every combination of several values of any settings, into one folder.
    Numbers and words take several values: --span 0 1 2. The words of a setting that is itself several values belong
    together, and the flag is given again for another: --g_attention 8 16 --g_attention 16 32.
    Runs of one seed have the same first weights, z and order of images, whatever their span, masking, loss or rates
    are, so that they can be compared in pairs.
      sagan sweep --preset quick --span 0 1 2 3 4 --seed 0 1 2 --sweep_dir runs/spans
      sagan sweep --sweep_dir runs/spans
      sagan sweep --sweep_dir runs/spans --seed 0 1 2 3 4

    The second goes on with what is there: what is done is skipped, what was cut is resumed, what failed is tried again.
    The third adds values to an axis, the former ones among them; everything else stays as it was planned."""

    sweep_dir: Path
    """The folder of the sweep: its plan, runs/ and logs/."""
    config: Config = field(default_factory=Config)
    preset: str = "best"
    """The settings to start from."""
    leave_out: tuple[str, ...] = ()
    """A combination that shall be no run, such as span=0 masking=before; given again for another."""
    jobs: int = 1
    """Runs at a time, each a process with its share of the processor's cores; on one GPU they share the card."""
    score: bool = True
    """Score every run's snapshots when it is trained, with --eval_num images and --extractor."""
    dry_run: bool = False
    """Train nothing: show the plan, what it costs and how long it takes by a few steps on noise."""
    print_commands: bool = False
    """Train nothing: write the plan, and print for each run what is left to do as one line for a shell or a
    scheduler."""
    cluster: Literal["local", "slurm"] | None = None
    """Hand the runs to SLURM as jobs, through submitit (pip install 'sagan[cluster]'), --jobs at a time if that is
    given. local: submitit's own processes on this machine, to try it out."""
    cluster_partition: str | None = None
    """SLURM's partition."""
    cluster_hours: float = 24.0
    """Hours for a job; a run that needs more is queued again and goes on."""
    cluster_gpus_per_run: int = 1
    """GPUs for a job."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"jobs must be 1 or more, got {self.jobs}")
        if not self.cluster_hours > 0:
            raise UserError(f"cluster_hours must be more than 0, got {self.cluster_hours}")
        if self.cluster_gpus_per_run < 0:
            raise UserError(f"cluster_gpus_per_run must be 0 or more, got {self.cluster_gpus_per_run}")


def sweep_defaults() -> SweepFlags:
    """The flags as they are where none is given."""
    import tyro

    return SweepFlags(tyro.MISSING, PRESETS[SweepFlags.preset])  # tyro's word for a value that must be given


def sweep(words: Sequence[str], console: Console) -> int:
    """Train many runs: every combination of several values, over seeds."""
    axes, left_out, rest = read_values(words)
    given = read(SweepFlags, rest, "sagan sweep", _ELSEWHERE)
    flags = fill(SweepFlags, given)
    _check_together(flags, given)
    from sagan.experiments.checks import check_runs, extractor_name, prepare_images
    from sagan.experiments.sweep import plan_sweep

    base = PRESETS[flags.preset] if "preset" in given else None
    begun = plan_sweep(flags.sweep_dir, axes, left_out, base, _typed(words))
    check_runs(begun.plan)
    if flags.dry_run:
        return _say_cost(begun, flags.jobs, console)
    extractor = extractor_name(begun.plan) if flags.score else None
    begun.write()
    if flags.print_commands:
        return _print_commands(begun, extractor, console)
    todo = [run for run in begun.plan.runs() if begun.is_left(run, extractor)]
    prepare_images(map(begun.config, todo), console)
    if flags.cluster is not None:
        return _submit(begun, todo, extractor, flags, "jobs" in given, console)
    return _carry_out(begun, todo, extractor, flags, console)


def _check_together(flags: SweepFlags, given: Mapping[str, Any]) -> None:
    """Raises UserError for flags of which one would be without effect."""
    what = [name for name in ("dry_run", "print_commands", "cluster") if getattr(flags, name)]
    if len(what) > 1:
        raise UserError(f"give one of {' and '.join(f'--{name}' for name in what)}")
    for name in ("cluster_partition", "cluster_hours", "cluster_gpus_per_run"):
        if name in given and flags.cluster is None:
            raise UserError(f"--{name} needs --cluster slurm")
    check_preset(flags.preset)


def _typed(words: Sequence[str]) -> str:
    """What was typed, as the command that carries it out."""
    return shlex.join(["sagan", "sweep", *(word for word in words if word not in ("--dry_run", "--print_commands"))])


def _say_cost(begun: Sweep, jobs: int, console: Console) -> int:
    """Says which runs there are, what is left of each, and what that costs."""
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


def _print_commands(begun: Sweep, extractor: str | None, console: Console) -> int:
    for run in begun.plan.runs():
        commands = [shlex.join(["sagan", *words]) for _, words in begun.commands(run, extractor)]
        if commands:
            console.say(" && ".join(commands))
    return 0


def _submit(
    begun: Sweep,
    todo: Sequence[PlannedRun],
    extractor: str | None,
    flags: SweepFlags,
    limited: bool,
    console: Console,
) -> int:
    from sagan.experiments.cluster import Cluster, submit

    assert flags.cluster is not None
    cluster = Cluster(flags.cluster, flags.cluster_partition, flags.cluster_hours, flags.cluster_gpus_per_run)
    jobs = submit(begun, todo, extractor, cluster, flags.jobs if limited else None) if todo else []
    numbers = f": {', '.join(job.job_id for job in jobs)}" if jobs else ""
    console.say(f"{len(jobs)} of {len(begun.plan.runs())} runs handed over{numbers}")
    console.say(f"sagan status {flags.sweep_dir} shows how they stand")
    return 0


def _carry_out(
    begun: Sweep, todo: Sequence[PlannedRun], extractor: str | None, flags: SweepFlags, console: Console
) -> int:
    from sagan.experiments.board import live_table
    from sagan.experiments.sweep import Player, carry_out, threads_each
    from sagan.run.status import describe_progress, status_table

    runs = begun.plan.runs()
    console.say(f"sweep folder: {begun.folder}, {len(runs)} runs, {len(todo)} of them with something left to do")
    player = Player(begun, extractor, threads_each(flags.jobs))
    with live_table(console, flags.jobs) as show:
        stopped = carry_out(player, todo, flags.jobs, show)
    statuses = [begun.watch(run).look() for run in runs]
    console.table(status_table(statuses))
    console.say(describe_progress(statuses))
    for run, each in zip(runs, statuses, strict=True):
        if each.state == "failed":
            console.warn(f"{each.name} failed: {each.reason} (log: {begun.log_file(run)})")
        elif each.state == "running":
            console.warn(f"{each.name} is being trained by another process, and was left to that")
    again = shlex.join(_going_on(flags))
    if stopped is not None:
        console.say(f"stopped by {signal.Signals(stopped).name}, what was trained is saved; go on with: {again}")
        return 128 + stopped
    if any(each.state == "failed" for each in statuses):
        console.say(f"to try what failed again: {again}")
        return _FAILED
    if any(each.state == "cut" for each in statuses):
        console.say(f"to go on with what was cut: {again}")
        return _FAILED
    done = [run for run, each in zip(runs, statuses, strict=True) if each.state == "done"]
    unscored = [run.name for run in done if begun.is_left(run, extractor)]
    if unscored:
        console.say(f"trained, but not scored to the end: {', '.join(unscored)}; to go on: {again}")
        return _FAILED
    return 0


def _going_on(flags: SweepFlags) -> list[str]:
    jobs = ["--jobs", str(flags.jobs)] if flags.jobs > 1 else []
    return [
        "sagan",
        "sweep",
        "--sweep_dir",
        str(flags.sweep_dir),
        *jobs,
        *([] if flags.score else ["--score", "false"]),
    ]
