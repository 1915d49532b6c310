"""The command that goes on with a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from sagan.cli.flags import asks_help, flags_of, optional_flags, read, show_help
from sagan.cli.train import without_effect
from sagan.run.config import (
    Config,
    DataConfig,
    ModelConfig,
    RunConfig,
    names_of,
    override,
)
from sagan.system.console import Console

_OWN_SETTINGS = dict.fromkeys(flags_of(Config), "a run goes on with its own settings")


_HELP = "Go on with a run from its last checkpoint, to the very bits it would have reached without the stop."


def resume_flags() -> type[Any]:
    """What `sagan resume` takes: what may change, and a few settings for checking only: a run keeps its own."""
    chosen = names_of("free", "place") - {"run_dir", "dataset"} | {"span", "imsize", "seed"}
    sections = (RunConfig, DataConfig, ModelConfig)
    return optional_flags(
        "ResumeFlags", sections, chosen, {"run": Annotated[Path, Positional, arg(help="The run's folder.")]}
    )


def resume(arguments: Sequence[str], console: Console) -> int:
    """Go on with a run that was stopped; needs only its folder."""
    if asks_help(arguments):
        show_help(resume_flags(), "sagan resume", _HELP)
        return 0
    changes = read(resume_flags(), arguments, "sagan resume", _OWN_SETTINGS)
    folder = changes.pop("run")
    from sagan.evaluation.while_training import scoring
    from sagan.run.folder import Run
    from sagan.training.start import resume_run

    changes = {name: value for name, value in changes.items() if value is not None}
    config = override(Run.open(folder).config(), changes)
    for sentence in without_effect(changes, config):
        console.warn(sentence)
    return resume_run(folder, changes, console, scoring(config, console))
