"""Draws the scores of a run over its steps."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sagan.data.sources.own import SOFTWARE
from sagan.run.card import Card, differences
from sagan.run.folder import Run
from sagan.run.records import ScoreRecord
from sagan.run.scores import all_scores, like_groups, read_scores
from sagan.system.figures import from_zero, literal_text
from sagan.system.files import write_whole
from sagan.system.sentences import plural, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_curves(run: Run, folder: Path, new: Sequence[ScoreRecord] = ()) -> list[str]:
    """Draws the Fréchet distance over the steps of a run, as PNG and SVG, and gives a sentence for each group of scores
    that is not in the first figure. ``new``: scores that will be the run's next records.

    Scores with different cards never share an axis: the largest group of comparable ones is drawn as ``frechet.png``,
    every other group of two points or more as ``frechet-2.png``, ``frechet-3.png`` ...; the first figure says what it
    leaves out, and why.
    """
    fresh = (score for score in new if score.metric == "frechet" and score.card.truncation is None)
    groups = like_groups([*read_scores(run, "frechet"), *fresh])
    if not groups:
        return []
    left_out = []
    for number, group in enumerate(groups[1:], 2):
        name = f"frechet-{number}" if len(group) > 1 else None
        left_out.append(_difference(groups[0], group, name))
        if name:
            _draw(group, [], folder, name)
    _draw(groups[0], left_out, folder, "frechet")
    return left_out


def _difference(shown: list[ScoreRecord], group: list[ScoreRecord], name: str | None) -> str:
    unlike = differences(group[0].card, shown[0].card)
    main = {name: unlike[name] for name in ("extractor", "samples", "reference") if name in unlike} or unlike
    listed = "; ".join(f"{field} {_short(theirs)}, not {_short(ours)}" for field, (theirs, ours) in main.items())
    where = f"in {name}.png" if name else f"of step {group[0].step:,}"
    return visible(f"not in this curve: {plural(len(group), 'score')} {where} ({listed})")


def _short(value: object) -> str:
    """A value of a card in a caption: a number with commas, a hash by its beginning."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return re.sub(r"[0-9a-f]{24,}", lambda found: f"{found[0][:8]}...", text)


@literal_text()
def _draw(group: list[ScoreRecord], notes: list[str], folder: Path, name: str) -> None:
    from matplotlib.figure import Figure  # takes half a second, and only figures need it
    from matplotlib.ticker import MaxNLocator

    card, newest = group[-1].card, group[-1]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    steps, values = [score.step for score in group], [score.value for score in group]
    spreads = [score.spread or 0 for score in group]
    label = f"{plural(card.samples, 'sample')} a point"
    axes.errorbar(steps, values, spreads, marker="o", color="black", capsize=3, label=label)
    if newest.floor is not None:
        count = newest.floor_samples
        floor = f"half of the real images against the other half ({count:,} vs {count:,})"
        axes.axhline(newest.floor, linestyle="--", color="0.5", label=floor)
    axes.set_xlabel("generator steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if notes:
        figure.supxlabel("\n".join(line for note in notes for line in textwrap.wrap(note, 110)), fontsize=7)
    axes.set_ylabel(visible(newest.label))
    from_zero(axes)
    title = f"{card.samples:,} samples against {card.reference_count:,} images, {visible(card.extractor)}"
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, folder, name)


@literal_text()
def draw_truncation(run: Run, folder: Path, step: int, card: Card) -> Path:
    """Draws the Fréchet distance and the recall of a step over the truncation of its latents, from the scores whose
    cards otherwise share an axis with ``card``; returns the PNG, beside which is an SVG."""
    from matplotlib.figure import Figure  # takes half a second, and only figures need it

    figure = Figure(figsize=(6.4, 6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, metric in zip(panels, ("frechet", "recall"), strict=True):
        alike = {
            score.card.truncation: score
            for score in all_scores(run, metric)
            if score.step == step and not differences(replace(score.card, truncation=None), _of_metric(card, score))
        }
        values = sorted(value for value in alike if value is not None)
        spreads = [alike[value].spread or 0 for value in values]
        axes.errorbar(values, [alike[value].value for value in values], spreads, marker="o", color="black", capsize=3)
        if (untruncated := alike.get(None)) is not None:
            axes.axhline(untruncated.value, linestyle="--", color="0.5", label="without truncation")
        newest = [*alike.values()][-1] if alike else None
        if newest is not None and newest.floor is not None:
            floor = "half of the real images against the other half"
            axes.axhline(newest.floor, linestyle=":", color="0.5", label=floor)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        label = newest.label if newest is not None else metric
        axes.set_ylabel(visible(label), fontsize=8)
        from_zero(axes)
        axes.grid(alpha=0.3)
    panels[1].set_xlabel("truncation: the largest magnitude of an entry of a latent")
    panels[0].set_title(f"step {step:,}, {card.samples:,} samples, {visible(card.extractor)}", fontsize=9)
    name = f"{step}_truncation"
    _save(figure, folder, name)
    return folder / f"{name}.png"


def _of_metric(card: Card, score: ScoreRecord) -> Card:
    """A card with the numbers of images that a score's metric used."""
    own = score.card
    counts = {name: getattr(own, name) for name in ("samples", "reference_samples", "reference_split")}
    return replace(card, truncation=None, **counts)


def _save(figure: Figure, folder: Path, name: str) -> None:
    for ending in ("png", "svg"):
        metadata = {"Software": SOFTWARE} if ending == "png" else {}
        save = functools.partial(figure.savefig, format=ending, dpi=150, metadata=metadata)
        write_whole(folder / f"{name}.{ending}", save)
