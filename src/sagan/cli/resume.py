"""`sagan resume`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from sagan.cli.flags import flags_of, optional_flags, read
from sagan.cli.settings import without_effect
from sagan.run.config import Config, DataConfig, ModelConfig, RunConfig, names_of, override
from sagan.system.console import Console

_TEXT = "Go on with a run from its last checkpoint, to the very bits it would have reached without the stop."
_OWN_SETTINGS = dict.fromkeys(flags_of(Config), "a run goes on with its own settings")


def resume_flags() -> type[Any]:
    """What `sagan resume` takes: what may change, and a few settings for checking only: a run keeps its own."""
    chosen = names_of("free", "place") - {"run_dir", "dataset"} | {"span", "imsize", "seed"}
    sections = (RunConfig, DataConfig, ModelConfig)
    run = Annotated[Path, Positional, arg(help="The run's folder.")]
    return optional_flags("ResumeFlags", _TEXT, sections, chosen, {"run": run})


def resume(words: Sequence[str], console: Console) -> int:
    """Go on with a run that was stopped; needs only its folder."""
    given = read(resume_flags(), words, "sagan resume", _OWN_SETTINGS)
    folder = given.pop("run")
    from sagan.evaluation.while_training import score_while_training
    from sagan.run.folder import Run
    from sagan.training.start import resume_run

    changes = {name: value for name, value in given.items() if value is not None}
    config = override(Run.open(folder).config(), changes)
    for sentence in without_effect(changes, config):
        console.warn(sentence)
    return resume_run(folder, changes, console, score_while_training(config, console))
