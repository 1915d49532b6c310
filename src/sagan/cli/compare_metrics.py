"""`sagan compare-metrics`: two runs' scores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.system.console import Console


@dataclass(frozen=True)
class CompareFlags:
    """Put the scores of two runs side by side; refused, with the reason, where their cards differ."""

    run: Annotated[Path, Positional]
    """A run's folder."""
    other: Annotated[Path, Positional]
    """Another's."""
    metric: str = "frechet"
    """frechet, frechet_infinity, kernel, inception_score, precision, recall, density, coverage or nearest_distance."""


def compare_metrics(words: Sequence[str], console: Console) -> int:
    """Put two runs' scores side by side, if they may be compared."""
    flags = parse(CompareFlags, words, "sagan compare-metrics")
    from sagan.evaluation.tables import comparison_table
    from sagan.run.folder import Run

    console.table(comparison_table(Run.open(flags.run), Run.open(flags.other), flags.metric))
    return 0
