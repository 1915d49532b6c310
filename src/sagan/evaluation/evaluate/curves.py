"""The figure of a score over the steps of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sagan.evaluation.card import Card, differences
from sagan.files import write_whole
from sagan.runs import Run


def draw_curve(run: Run, folder: Path, metric: str = "frechet") -> list[Path]:
    """Draws a metric over the steps of a run as PNG and SVG; gives their paths.

    Of scores with unlike cards only those like the newest are drawn: they are the ones just asked for.
    """
    records = [r for r in run.records() if r.get("kind") == "score" and r["metric"] == metric and r["step"] is not None]
    if not records:
        return []
    newest = Card.from_dict(records[-1]["card"])
    points = _latest_of_each_step([r for r in records if not differences(newest, Card.from_dict(r["card"]))])
    return _draw(points, newest, folder / f"{metric}.png", folder / f"{metric}.svg")


def _latest_of_each_step(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for _, point in sorted({record["step"]: record for record in records}.items())]


def _draw(points: list[dict[str, Any]], card: Card, *paths: Path) -> list[Path]:
    from matplotlib.figure import Figure  # takes half a second, and only figures need it

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    steps, values = [point["step"] for point in points], [point["value"] for point in points]
    axes.errorbar(steps, values, [point["spread"] or 0 for point in points], marker="o", color="black", capsize=3)
    floor = points[-1]["floor"]
    if floor is not None:
        axes.axhline(floor, linestyle="--", color="0.5")
        axes.annotate("one half of the real images against the other", (steps[0], floor), va="bottom", color="0.4")
    axes.set_xlabel("generator steps")
    axes.set_ylabel(points[-1]["label"])
    axes.set_ylim(bottom=0)
    axes.set_title(f"{card.samples:,} samples against {card.reference_count:,} images, {card.extractor}", fontsize=9)
    axes.grid(alpha=0.3)
    for path in paths:
        write_whole(path, lambda file, path=path: figure.savefig(file, format=path.suffix[1:], dpi=150))  # type: ignore[misc]
    return list(paths)
