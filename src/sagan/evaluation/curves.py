"""Draws the scores of a run over its steps."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from sagan.run.card import differences
from sagan.run.folder import Run
from sagan.run.records import ScoreRecord
from sagan.run.scores import like_groups, read_scores
from sagan.system.files import write_whole


@dataclass(frozen=True)
class Curves:
    """The files drawn, and a sentence for each group of scores that is not on the first figure."""

    paths: list[Path]
    left_out: list[str]


def draw_curves(run: Run, folder: Path, metric: str = "frechet") -> Curves:
    """Draws a metric over the steps of a run, as PNG and SVG.

    Scores with unlike cards never share an axis: the largest group of like ones is drawn as ``METRIC.png``, every
    other group of two points or more as ``METRIC-2.png``, ``METRIC-3.png`` ...; the first figure names what it leaves
    out, and why.
    """
    groups = like_groups(read_scores(run, metric))
    if not groups:
        return Curves([], [])
    paths, left_out = [], []
    for number, group in enumerate(groups[1:], 2):
        name = f"{metric}-{number}" if len(group) > 1 else None
        left_out.append(_difference(groups[0], group, name))
        if name:
            paths += _draw(group, [], folder, name)
    return Curves([*_draw(groups[0], left_out, folder, metric), *paths], left_out)


def _difference(shown: list[ScoreRecord], group: list[ScoreRecord], name: str | None) -> str:
    steps = "1 score" if len(group) == 1 else f"{len(group)} scores"
    unlike = differences(group[0].card, shown[0].card)
    shown_first = {name: unlike[name] for name in ("extractor", "samples", "reference") if name in unlike} or unlike
    listed = "; ".join(f"{field} {_short(theirs)}, not {_short(ours)}" for field, (theirs, ours) in shown_first.items())
    where = f"in {name}.png" if name else f"of step {group[0].step:,}"
    return f"not in this curve: {steps} {where} ({listed})"


def _short(value: object) -> str:
    """A value of a card in a caption: a number with commas, a hash by its beginning."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return re.sub(r"[0-9a-f]{24,}", lambda found: f"{found[0][:8]}...", text)


def _draw(group: list[ScoreRecord], notes: list[str], folder: Path, name: str) -> list[Path]:
    from matplotlib.figure import Figure  # takes half a second, and only figures need it

    card, newest = group[-1].card, group[-1]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    steps, values = [score.step for score in group], [score.value for score in group]
    spreads = [score.spread or 0 for score in group]
    label = f"{card.samples:,} samples a point"
    axes.errorbar(steps, values, spreads, marker="o", color="black", capsize=3, label=label)
    if newest.floor is not None:
        count = newest.floor_samples
        floor = f"half of the real images against the other half ({count:,} vs {count:,})"
        axes.axhline(newest.floor, linestyle="--", color="0.5", label=floor)
    axes.set_xlabel("generator steps")
    if notes:
        figure.supxlabel("\n".join(line for note in notes for line in textwrap.wrap(note, 110)), fontsize=7)
    axes.set_ylabel(newest.label)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{card.samples:,} samples against {card.reference_count:,} images, {card.extractor}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    paths = [folder / f"{name}.{ending}" for ending in ("png", "svg")]
    for path in paths:
        write_whole(path, lambda file, path=path: figure.savefig(file, format=path.suffix[1:], dpi=150))  # type: ignore[misc]
    return paths
