"""The command ``sagan``: the table of its commands, each in a file of its own."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence

from sagan.cli.attention import attention
from sagan.cli.bench import bench
from sagan.cli.compare_metrics import compare_metrics
from sagan.cli.evaluate import evaluate
from sagan.cli.import_published import import_published
from sagan.cli.prepare import prepare
from sagan.cli.report import report
from sagan.cli.resume import resume
from sagan.cli.sample import sample
from sagan.cli.status import status
from sagan.cli.sweep import sweep
from sagan.cli.train import train
from sagan.system.console import Console, run_safely
from sagan.system.errors import UserError

COMMANDS: dict[str, Callable[[Sequence[str], Console], int]] = {
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "compare-metrics": compare_metrics,
    "sweep": sweep,
    "status": status,
    "report": report,
    "attention": attention,
    "bench": bench,
    "sample": sample,
    "prepare": prepare,
    "import": import_published,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit status: 0, 2 for what a person can mend, 128 + signal when interrupted."""
    console = Console()
    return run_safely(lambda: _run(list(sys.argv[1:] if arguments is None else arguments), console), console)


def _run(arguments: list[str], console: Console) -> int:
    name, *rest = arguments or ["help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        console.say(_overview())
        return 0
    if name in ("--version", "version"):
        from importlib.metadata import version

        console.say(version("sagan"))
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}."
        raise UserError(f"there is no command {name!r}: {hint} `sagan --help` says more")
    return COMMANDS[name](rest, console)


def _overview() -> str:
    lines = [f"  {name:15} {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    return "\n".join(
        [
            "Self-attention GANs with sparse attention.",
            "",
            "usage: sagan COMMAND ...",
            "",
            *lines,
            "",
            "A first run, on drawn faces: sagan train --preset quick",
            "More: sagan COMMAND --help",
        ]
    )
