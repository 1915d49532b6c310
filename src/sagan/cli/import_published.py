"""`sagan import`: a checkpoint of the published program as a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from sagan.cli.flags import read
from sagan.cli.train import check_image_path
from sagan.run.config import Config, DataConfig, GameConfig, ModelConfig, RunConfig, Span
from sagan.system.console import Console
from sagan.system.typed import fill


@dataclass(frozen=True)
class ImportFlags:
    """Make a run from a checkpoint of the published program, {step}_G.pth, to sample from or to resume."""

    generator: Annotated[Path, Positional]
    """The file {step}_G.pth. The run can be resumed only if {step}_D.pth is beside it and the images are given."""
    run_dir: Path
    """The folder to create."""
    span: Span
    """The span it was trained with, which the file does not contain.
    0: no mask at all, as the published 'span 0' curve on CelebA.
    'self': that program's own --span 0, which masks the pixel itself. 1, 2 ...: as there."""
    masking: Literal["before", "after"] = "before"
    """'before' is what that program's code does."""
    data: DataConfig = field(default_factory=DataConfig)
    game: GameConfig = field(default_factory=GameConfig)


def import_published(words: Sequence[str], console: Console) -> int:
    """Import a checkpoint of the published SAGAN_PyTorch program."""
    given = read(ImportFlags, words, "sagan import")
    check_image_path(given)
    flags = fill(ImportFlags, given)
    model, run = ModelConfig(span=flags.span, masking=flags.masking), RunConfig(run_dir=str(flags.run_dir))
    from sagan.published.imports import import_pair

    import_pair(flags.generator, Config(flags.data, model, flags.game, run), console)
    return 0
