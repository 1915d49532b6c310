"""`sagan report`: a page on a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.system.console import Console
from sagan.system.errors import UserError


@dataclass(frozen=True)
class ReportFlags:
    """Report on a sweep, finished or not: curves with every seed, arms against span 0 with intervals that allow for how
    many there are, times to a threshold, samples of the same z, collapses, and how to make it all again.
    Refused, with the reason, where runs were scored in unlike ways."""

    sweep: Annotated[Path, Positional]
    """The sweep's folder."""
    out: Path | None = None
    """The folder to write into, new, empty or of an earlier report: report.html, which needs nothing beside it, the
    same as report.md, figures as PNG and SVG, and CSV. By default SWEEP/report."""
    metric: str = "frechet"
    """What arms are compared by: frechet, kernel, precision, eye_colour_agreement or another that was scored."""
    threshold: float | None = None
    """The score to which steps and hours are counted. By default 30 for the FID of papers, else there is none."""
    step: int | None = None
    """Compare arms at this step. By default at the last one, or, while runs are under way, at the last that most have
    reached."""
    published: bool = False
    """Lay the published FIDs under the curves: of a sweep on CelebA or LSUN at 64x64, scored by Inception."""


def report(words: Sequence[str], console: Console) -> int:
    """Report on a sweep: curves, intervals, times, samples, as one page."""
    flags = parse(ReportFlags, words, "sagan report")
    from sagan.experiments.report import write_report

    out = flags.sweep / "report" if flags.out is None else flags.out
    if out.exists() and not (out / "report.html").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder and no report's: give another --out")
    page, findings = write_report(
        flags.sweep, out, flags.metric, flags.threshold, flags.step, published=flags.published, warn=console.warn
    )
    console.say(f"by {flags.metric}:")
    for sentence in findings:
        console.say(sentence)
    console.say(f"report: {page}")
    return 0
