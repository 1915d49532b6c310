"""The command that trains many runs."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sagan.cli.axes import read_values
from sagan.cli.flags import asks_help, read, show_help
from sagan.run.config import Config, override
from sagan.run.presets import PRESETS, check_preset
from sagan.system.console import Console, duration
from sagan.system.errors import UserError
from sagan.system.typed import fill

if TYPE_CHECKING:
    from sagan.experiments.sweep import Sweep
    from sagan.run.plan import Plan, PlannedRun

_FAILED = 1  # the exit status where a run failed

_HELP = """Train a run for every combination of several values of any settings, into one folder.
Numbers and words take several values: --span 0 1 2. The words of a setting that is itself several values belong
together, and the flag is given again for another: --g_attention 8 16 --g_attention 16 32.
Runs of one seed have the same first weights, z and order of images, whatever their span, masking, loss or rates are, so
that they can be compared in pairs.
  sagan sweep --preset quick --span 0 1 2 3 4 --seed 0 1 2 --sweep_dir runs/spans
  sagan sweep --sweep_dir runs/spans
  sagan sweep --sweep_dir runs/spans --seed 0 1 2 3 4

The second goes on with what is there: what is done is skipped, what was cut is resumed, what failed is tried again. The
third adds values to an axis, the former ones among them; everything else stays as it was planned."""

_ELSEWHERE = {
    "parallel_runs": "here it is --jobs",
    "run_dir": "the runs lie in --sweep_dir",
    "total_steps": "here it is --total_step",
}


@dataclass(frozen=True)
class SweepFlags:
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


def sweep(arguments: Sequence[str], console: Console) -> int:
    """Train many runs: every combination of several values, over seeds."""
    if asks_help(arguments):
        import tyro

        # a dataclass with a value that is still to be given, as tyro has it
        shown = SweepFlags(tyro.MISSING, PRESETS[SweepFlags.preset])
        show_help(SweepFlags, "sagan sweep", _HELP, shown)
        return 0
    given, left_out, rest = read_values(arguments)
    values = read(SweepFlags, rest, "sagan sweep", _ELSEWHERE)
    flags = fill(SweepFlags, values)
    _check_together(flags, values)
    begun = _begin(flags, given, left_out, "preset" in values, _typed(arguments))
    _check_runs(begun.plan)
    if flags.dry_run:
        return _say_cost(begun, flags.jobs, console)
    extractor = _extractor_name(begun.plan) if flags.score else None
    begun.write()
    if flags.print_commands:
        return _print_commands(begun, extractor, console)
    todo = [run for run in begun.plan.runs() if _is_left(begun, run, extractor)]
    _prepare_images(begun, todo, console)
    if flags.cluster is not None:
        return _submit(begun, todo, extractor, flags, "jobs" in values, console)
    return _carry_out(begun, todo, extractor, flags, console)


# ---- the plan


def _check_together(flags: SweepFlags, values: Mapping[str, Any]) -> None:
    """Raises UserError for flags of which one would be without effect."""
    what = [name for name in ("dry_run", "print_commands", "cluster") if getattr(flags, name)]
    if len(what) > 1:
        raise UserError(f"give one of {' and '.join(f'--{name}' for name in what)}")
    for name in ("cluster_partition", "cluster_hours", "cluster_gpus_per_run"):
        if name in values and flags.cluster is None:
            raise UserError(f"--{name} needs --cluster slurm")
    check_preset(flags.preset)


def _begin(
    flags: SweepFlags,
    given: Mapping[str, list[Any]],
    left_out: Sequence[dict[str, Any]],
    with_preset: bool,
    command: str,
) -> Sweep:
    """The sweep that is meant: the one in the folder, where nothing else is said of it."""
    from sagan.experiments.sweep import Sweep
    from sagan.run.plan import make_plan

    if not given and not left_out and not with_preset:
        if not (flags.sweep_dir / "plan.json").is_file():
            raise UserError(
                f"{flags.sweep_dir} holds no sweep to go on with: give the values of a new one, such as "
                "--span 0 1 2 --seed 0 1 2"
            )
        return Sweep.open(flags.sweep_dir)
    if (flags.sweep_dir / "plan.json").is_file() and not with_preset:
        plan = Sweep.open(flags.sweep_dir).plan
        return Sweep.begin(
            flags.sweep_dir, make_plan(plan.base, {**plan.axes, **given}, left_out or plan.left_out, command)
        )
    if "image_path" in given and "dataset" not in given:
        raise UserError("--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it")
    return Sweep.begin(flags.sweep_dir, make_plan(PRESETS[flags.preset], given, left_out, command))


def _check_runs(plan: Plan) -> None:
    """Raises UserError for a run that could not begin: networks that cannot be built, a device that is not there."""
    import torch

    from sagan.run.build import build_discriminator, build_generator
    from sagan.system.devices import choose_device

    configs = {override(plan.config(run, Path()), {"seed": 0}) for run in plan.runs()}
    for config in configs:
        model = config.model if config.model.num_classes != "auto" else override(config, {"num_classes": 1}).model
        with torch.device("meta"):  # shapes alone
            build_generator(model)
            build_discriminator(model)
        choose_device(config.run.device)


def _extractor_name(plan: Plan) -> str:
    """The name on the cards of what will score. Raises UserError, before hours of training, where it cannot."""
    from sagan.evaluation.extractors.table import load_extractor
    from sagan.evaluation.while_training import refuse_few

    names = set()
    for extractor, samples in {(config.run.extractor, config.run.eval_num) for config in _configs(plan)}:
        refuse_few("eval_num", samples)
        names.add(load_extractor(extractor).name)
    if len(names) > 1:
        raise UserError(f"the runs would be scored by {' and '.join(sorted(names))}, which cannot be compared")
    return names.pop()


def _typed(arguments: Sequence[str]) -> str:
    """What was typed, as the command that carries it out."""
    words = [word for word in arguments if word not in ("--dry_run", "--print_commands")]
    return shlex.join(["sagan", "sweep", *words])


def _is_left(begun: Sweep, run: PlannedRun, extractor: str | None) -> bool:
    """Whether there is something left to do for a run, or it is not known because its files are damaged: then it fails
    by itself when it is played. What had failed and is done by now, has failed no longer."""
    try:
        left = bool(begun.commands(run, extractor))
    except UserError:
        return True
    if not left:
        begun.failure_file(run).unlink(missing_ok=True)
    return left


def _configs(plan: Plan) -> list[Config]:
    return [plan.config(run, Path()) for run in plan.runs()]


def _prepare_images(begun: Sweep, todo: Sequence[PlannedRun], console: Console) -> None:
    """Decodes the images now, once for all the runs that have them."""
    from sagan.data import prepared_store

    for data, size in dict.fromkeys((c.data, c.model.imsize) for c in map(begun.config, todo)):
        prepared_store(data, size, console)


# ---- what is done with it


def _say_cost(begun: Sweep, jobs: int, console: Console) -> int:
    """Says which runs there are, what is left of each, and what that costs."""
    from sagan.bench.cost import binary, count_cost, describe_cost, run_bytes
    from sagan.bench.pace import measured_pace
    from sagan.run.build import describe_attention
    from sagan.run.status import status_table
    from sagan.system.devices import choose_device
    from sagan.training.session import settle

    runs = begun.plan.runs()
    console.say(_describe(begun.plan))
    statuses = [begun.watch(run).look() for run in runs]
    console.table([row[:3] for row in status_table(statuses)])
    alike: dict[Any, list[int]] = {}  # numbers of runs of one cost
    counted: dict[Config, Any] = {}
    configs = [
        override(settle(config, choose_device(config.run.device)), {"seed": 0, "run_dir": None})
        for config in map(begun.config, runs)
    ]
    for number, config in enumerate(configs):
        if config.model.num_classes == "auto":
            raise UserError("--num_classes must be a number here: how many there are is found out from the images")
        if config not in counted:
            counted[config] = (count_cost(config, choose_device(config.run.device)), config.game.batch_size)
        alike.setdefault(counted[config], []).append(number)
    seconds = [0.0] * len(runs)
    for numbers in alike.values():
        config = configs[numbers[0]]
        device = choose_device(config.run.device)
        others = f" (the same for {len(numbers) - 1} more)" if len(numbers) > 1 else ""
        console.say(f"{runs[numbers[0]].name}{others}:")
        for line in describe_cost(config, device):
            if line not in describe_attention(config.model):  # which runs of one cost need not share
                console.say(f"  {line}")
        pace = measured_pace(config, device)
        console.say(f"  {pace.describe()}")
        for number in numbers:
            left = (statuses[number].total or 0) - statuses[number].step
            seconds[number] = left * pace.seconds_per_step
    for lines in dict.fromkeys(tuple(describe_attention(config.model)) for config in configs):
        console.say("\n".join(lines))
    console.say(f"all: about {duration(sum(seconds))} one run at a time, without samples, checkpoints and scores")
    if jobs > 1:
        console.say(f"with --jobs {jobs}: {duration(max(sum(seconds) / jobs, *seconds))} at the very best")
    console.say(f"disk: {binary(sum(map(run_bytes, configs)))} for all runs")
    return 0


def _describe(plan: Plan) -> str:
    from sagan.run.plan import spell

    axes = ", ".join(f"{name} {' | '.join(' '.join(spell(v)) for v in values)}" for name, values in plan.axes.items())
    count = len(plan.runs())
    left_out = " (some combinations are left out)" if plan.left_out else ""
    return f"{count} run{'s' * (count != 1)}: {axes}{left_out}"


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
    from sagan.experiments.sweep import Player, carry_out
    from sagan.run.status import describe_progress, status_table

    runs = begun.plan.runs()
    console.say(f"sweep folder: {begun.folder}, {len(runs)} runs, {len(todo)} of them with something left to do")
    threads = max(1, _cores() // flags.jobs) if flags.jobs > 1 else None
    player = Player(begun, extractor, threads)
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
    unscored = [run.name for run in done if _is_left(begun, run, extractor)]
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


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
