"""The command ``sagan``: the table of its commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sagan import __version__
from sagan.cli.attention import AttentionFlags, attention
from sagan.cli.bench import BenchFlags, bench
from sagan.cli.directions import DirectionsFlags, directions
from sagan.cli.doctor import DoctorFlags, doctor
from sagan.cli.evaluate import CompareFlags, EvaluateFlags, compare_metrics, evaluate
from sagan.cli.export import ExportFlags, export
from sagan.cli.help import short_help, show_help
from sagan.cli.import_published import ImportFlags, import_published
from sagan.cli.prepare import PrepareFlags, prepare
from sagan.cli.project import ProjectFlags, project
from sagan.cli.report import ReportFlags, report
from sagan.cli.sample import SampleFlags, sample
from sagan.cli.serve import ServeFlags, serve
from sagan.cli.sweep import StatusFlags, status, sweep, sweep_defaults
from sagan.cli.together import compare_flags
from sagan.cli.train import resume, resume_flags, train, train_defaults
from sagan.cli.walk import FilmFlags, WalkFlags, film, walk
from sagan.system.console import Console, run_safely
from sagan.system.errors import UserError
from sagan.system.sentences import did_you_mean
from sagan.system.world import joined


class Command(NamedTuple):
    """A command of `sagan`, called with the words after its name. The overview shows its docstring's first line."""

    run: Callable[[Sequence[str], Console], int]
    shown: Callable[[Sequence[str]], Any]
    """What its help shows: a dataclass of flags, or an instance whose values are shown as defaults."""
    together: bool = False
    """Whether several processes work on it together; any other is left to the first of them."""
    first: tuple[str, ...] = ()
    """The flags that its short help shows; all where there are none."""


_TRAIN = ("data", "preset", "imsize", "span", "total_step", "batch_size", "run_dir", "eval_every", "dry_run")
_RESUME = ("total_step", "eval_every", "snapshot_every", "guard", "data", "prepared", "device", "gpus")
_EVALUATE = ("reference", "num", "repeats", "extractor", "step", "best", "truncation", "device")
_SWEEP = ("preset", "data", "span", "seed", "imsize", "total_step", "jobs", "score", "dry_run")
_IMPORT = ("run_dir", "data", "dataset", "image_path", "span", "masking", "batch_size", "adv_loss")

_DOCTOR = ("place", "against", "imsize", "out", "json", "quick", "crop", "device")

COMMANDS = {
    "train": Command(train, train_defaults, together=True, first=_TRAIN),
    "resume": Command(resume, lambda words: resume_flags(), together=True, first=_RESUME),
    "evaluate": Command(evaluate, lambda words: EvaluateFlags, together=True, first=_EVALUATE),
    "compare-metrics": Command(compare_metrics, lambda words: CompareFlags),
    "sweep": Command(sweep, lambda words: sweep_defaults(), first=_SWEEP),
    "status": Command(status, lambda words: StatusFlags),
    "report": Command(report, lambda words: ReportFlags),
    "attention": Command(attention, lambda words: AttentionFlags),
    "serve": Command(serve, lambda words: ServeFlags),
    "doctor": Command(doctor, lambda words: DoctorFlags, first=_DOCTOR),
    "bench": Command(bench, lambda words: BenchFlags),
    "sample": Command(sample, lambda words: SampleFlags, together=True),
    "walk": Command(walk, lambda words: WalkFlags),
    "film": Command(film, lambda words: FilmFlags),
    "directions": Command(directions, lambda words: DirectionsFlags),
    "project": Command(project, lambda words: ProjectFlags),
    "export": Command(export, lambda words: ExportFlags),
    "prepare": Command(prepare, lambda words: PrepareFlags),
    "import": Command(import_published, lambda words: ImportFlags, first=_IMPORT),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit status: 0, 2 for a user's mistake, 128 + signal when interrupted."""
    console = Console(command=True)
    return run_safely(lambda: _run(list(sys.argv[1:] if arguments is None else arguments), console), console)


def _run(arguments: list[str], console: Console) -> int:
    name, *rest = arguments or ["help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help", *rest[1:]]
    if name not in COMMANDS or "-h" in rest or "--help" in rest:
        with joined() as world:  # of several processes each must be told the same
            compare_flags(world, "help", {"words": " ".join(arguments)})
        return _help(name, rest, console) if world.leads else 0
    command = COMMANDS[name]
    if command.together:
        return command.run(rest, console)
    with joined() as world:
        compare_flags(world, name, {})
    return command.run(rest, console) if world.leads else 0


def _help(name: str, rest: Sequence[str], console: Console) -> int:
    """What is printed, and done, where no command is carried out."""
    if name in ("-h", "--help", "help"):
        for line in _overview():
            console.say(line)
        return 0
    if name in ("--version", "version"):
        console.say(__version__)
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f": there are {', '.join(COMMANDS)}."
        raise UserError(f"there is no command {name!r}{hint} `sagan --help` says more")
    command = COMMANDS[name]
    if "all" in rest:
        show_help(command.shown(rest), f"sagan {name}")
    else:
        for line in short_help(command.shown(rest), f"sagan {name}", command.first):
            console.say(line)
    return 0


def _overview() -> list[str]:
    lines = [f"  {name:15} {(command.run.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    first = ["Self-attention GANs with sparse attention.", "", "usage: sagan COMMAND ...", ""]
    last = ["", "A first run, on drawn faces: sagan train --preset quick", "More: sagan COMMAND --help"]
    return [*first, *lines, *last]
