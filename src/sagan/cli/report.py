"""`sagan report`: a page on a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.system.console import Console
from sagan.system.files import refuse_links_out, refuse_unwritable


@dataclass(frozen=True)
class ReportFlags:
    """Report on a sweep, finished or not: curves of every seed, differences from span 0 with intervals corrected for
    their number, times to a threshold, samples of the same latents, collapses, and commands that reproduce it all.
    Refuses, with the reason, where the runs' scores are not comparable."""

    sweep: Annotated[Path, Positional]
    """The sweep's folder."""
    out: Path | None = None
    """The folder to write into: new, empty, or of an earlier report. By default SWEEP/report.
    It gets a self-contained report.html, the same as report.md, figures as PNG and SVG, and tables as CSV."""
    metric: str = "frechet"
    """The metric to compare: frechet, kernel, precision, eye_colour_agreement or any other that was scored."""
    threshold: float | None = None
    """Also count the steps and hours until a score reaches this. By default 30 for FID, and none for other metrics."""
    step: int | None = None
    """Compare at this step. By default the last one or, while runs are in progress, the last that most have reached."""
    published: bool = False
    """Draw the published FIDs behind the curves. For a sweep on CelebA or LSUN at 64x64, scored by Inception."""


def report(words: Sequence[str], console: Console) -> int:
    """Write a report on a sweep: curves, intervals, times and samples on one page."""
    flags = parse(ReportFlags, words, "sagan report")
    from sagan.experiments.report import refuse_foreign_folder, write_report
    from sagan.experiments.results import NAMES

    out = flags.sweep / "report" if flags.out is None else flags.out
    refuse_foreign_folder(out)
    refuse_unwritable(out, "--out")
    refuse_links_out(flags.sweep if flags.out is None else out, levels=2)
    page, findings = write_report(
        flags.sweep, out, flags.metric, flags.threshold, flags.step, published=flags.published, warn=console.warn
    )
    console.say(f"by {NAMES.get(flags.metric, flags.metric)}:")
    for sentence in findings:
        console.say(sentence)
    console.say(f"report: {page}")
    return 0
