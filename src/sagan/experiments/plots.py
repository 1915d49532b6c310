"""The figures of a report. Arms differ in line style and marker too, so that they can be told apart without colour."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sagan.core.shapes import ImageShape
from sagan.experiments.statistics import Comparison
from sagan.published.tables import PublishedCurve
from sagan.system.errors import UserError
from sagan.system.figures import literal_text
from sagan.system.files import write_whole
from sagan.system.images import read_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# the colours of Okabe and Ito, which people of every colour vision can tell apart
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#666666")
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)), (0, (3, 1, 1, 1)))
_FAR_BELOW = 4  # the score of real images is not drawn where it is this many times lower than all others
_WIDE = 10  # an axis of scores is logarithmic where the highest is more than this many times the lowest


@dataclass(frozen=True)
class Curve:
    """Scores of one arm: the points (x, score) of each seed and of the mean, in order of steps."""

    label: str
    seeds: Mapping[int, Sequence[tuple[float, float]]]
    mean: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Times:
    """When each seed of an arm reached a threshold, or the time up to which it had not (censored)."""

    label: str
    reached: Mapping[int, float]
    censored: Mapping[int, float]


@literal_text()
def draw_scores(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    floor: float | None = None,
    threshold: float | None = None,
    published: Sequence[PublishedCurve] = (),
) -> Figure:
    """Every seed as a thin line, the mean of each arm's seeds as a thick one with markers."""
    figure, axes = _figure(7.2, 4.4)
    for number, curve in enumerate(curves):
        style = _style(number)
        for points in curve.seeds.values():
            axes.plot(*_columns(points), **style | {"marker": "."}, linewidth=0.7, markersize=2.5, alpha=0.55)
        axes.plot(*_columns(curve.mean), **style, linewidth=2, markersize=5, label=curve.label)
    last = max((x for curve in curves for points in curve.seeds.values() for x, _ in points), default=0.0)
    for each in published:
        points = [(point.step, point.fid) for point in each.points if point.whole and point.step <= 1.05 * last]
        if points:
            style = _style(each.span) | {"color": "0.6", "fillstyle": "none"}
            axes.plot(*_columns(points), **style, linewidth=0.9, markersize=5, label=f"published, span {each.span}")
    _scale(axes)
    _lines_across(axes, floor, threshold)
    _finish(axes, x_label, y_label)
    return figure


@literal_text()
def draw_arms(curves: Sequence[Curve], baseline: str, x_label: str, y_label: str) -> Figure:
    """A panel for each arm, with its seeds, and the baseline's mean in grey."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure, _ = _figure(3.1 * columns, 2.6 * rows + 0.3, axes=False)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    reference = next(curve for curve in curves if curve.label == baseline)
    for place, axes in enumerate(grid.flat):
        if place >= len(curves):
            axes.set_axis_off()
            continue
        curve = curves[place]
        if curve is not reference:
            axes.plot(*_columns(reference.mean), color="0.6", linewidth=3, label=f"mean of {baseline}")
        for number, (seed, points) in enumerate(curve.seeds.items()):
            style = _style(number) | {"color": "black"}
            axes.plot(*_columns(points), **style, linewidth=0.8, markersize=3, label=f"seed {seed}")
        axes.set_title(curve.label, fontsize=9)
        axes.tick_params(labelbottom=place >= len(curves) - columns, labelsize=7)
        axes.locator_params(axis="x", nbins=4)
        _scale(axes)
        _finish(axes, x_label if place >= len(curves) - columns else "", "")
        axes.legend(fontsize=6)
    figure.supylabel(y_label, fontsize=9)
    return figure


@literal_text()
def draw_differences(
    labels: Sequence[str], comparisons: Sequence[Comparison], pairs: Sequence[Sequence[float]], x_label: str
) -> Figure:
    """The difference of each arm from the baseline, with its interval, above a dot for each pair."""
    figure, axes = _figure(7.2, 0.55 * len(labels) + 1.2)
    for row, (comparison, values) in enumerate(zip(comparisons, pairs, strict=True)):
        axes.plot(values, [row + 0.2] * len(values), "o", color="black", fillstyle="none", markersize=4)
        if comparison.difference is not None:
            axes.plot([comparison.difference], [row - 0.1], "D", color="black", markersize=6)
        if comparison.interval is not None:
            axes.plot([comparison.interval.low, comparison.interval.high], [row - 0.1] * 2, "|-", color="black")
    axes.axvline(0, color="0.5", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(textwrap.fill(x_label, 64))
    axes.grid(alpha=0.3, axis="x")
    return figure


@literal_text()
def draw_times(times: Sequence[Times], x_label: str) -> Figure:
    """A filled marker where a seed of an arm reached the threshold; a hollow one up to where it had not."""
    figure, axes = _figure(7.2, 0.5 * len(times) + 1.2)
    for row, each in enumerate(times):
        seeds = sorted({*each.reached, *each.censored})
        for place, seed in enumerate(seeds):
            height = row + 0.16 * (place - (len(seeds) - 1) / 2)
            if seed in each.reached:
                axes.plot([each.reached[seed]], [height], _MARKERS[place % 8], color="black", markersize=6)
            else:
                axes.plot([each.censored[seed]], [height], _MARKERS[place % 8], color="black", fillstyle="none")
                beside = {"xytext": (-6, 0), "textcoords": "offset points", "ha": "right", "va": "center"}
                axes.annotate("not by then", (each.censored[seed], height), fontsize=6, **beside)
    axes.set_yticks(range(len(times)), [each.label for each in times])
    axes.set_ylim(len(times) - 0.4, -0.6)
    latest = max((x for each in times for x in (*each.reached.values(), *each.censored.values())), default=1)
    axes.set_xlim(0, 1.05 * latest)
    axes.set_xlabel(x_label)
    _thousands(axes.xaxis)
    axes.grid(alpha=0.3, axis="x")
    return figure


def is_readable(grid: Path) -> bool:
    """Whether there is a whole picture, and not one that a power failure has torn."""
    try:
        read_png(grid)
    except (OSError, UserError):
        return False
    return True


def stack_samples(grids: Sequence[Path], shape: ImageShape, columns: int = 8, rows: int = 1) -> NDArray[np.uint8]:
    """The first rows of several grids of samples, one below the other: (height, width, 3) uint8.

    ``grids``: files made by `sagan.system.images.grid`, of images of ``shape`` from the same latents, ``columns`` in a
    row.
    """
    height, wide = rows * (shape.height + 2) + 2, columns * (shape.width + 2) + 2
    strips = [np.asarray(read_png(path))[:height, :wide] for path in grids]
    width = min(strip.shape[1] for strip in strips)
    gap = np.full((4, width, 3), 255, np.uint8)
    parts = [part for strip in strips for part in (strip[:, :width], gap)]
    return np.concatenate(parts[:-1])


@literal_text()
def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG and SVG; the same figure gives the same files. ``path``: their name without an ending."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "sagan"}):
        for ending in ("png", "svg"):
            metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {"Software": None}
            filled = io.BytesIO()
            figure.savefig(filled, format=ending, dpi=150, metadata=metadata)
            data = filled.getvalue()
            write_whole(path.with_name(f"{path.name}.{ending}"), lambda file, data=data: file.write(data))  # type: ignore[misc]


def _figure(width: float, height: float, *, axes: bool = True) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # takes half a second

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots() if axes else None


def _style(number: int) -> dict[str, Any]:
    """The style of an arm's line; after eight arms, lines and markers are combined differently."""
    line = _LINES[(number + number // 8) % 8]
    return {"color": _COLOURS[number % 8], "marker": _MARKERS[number % 8], "linestyle": line}


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _lines_across(axes: Axes, floor: float | None, threshold: float | None) -> None:
    if floor is not None and floor > 0:
        style: dict[str, Any] = {"linestyle": (0, (1, 1)), "color": "0.4", "linewidth": 1}
        drawn = [y for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float)]
        if drawn and floor < min(drawn) / _FAR_BELOW:  # which would flatten the curves
            axes.plot([], [], **style, label=f"half of the real images: {floor:.3g}, far below")
        else:
            axes.axhline(floor, **style, label="half of the real images")
    if threshold is not None:
        axes.axhline(threshold, color="0.4", linewidth=0.7, label=f"threshold {threshold:g}")


def _scale(axes: Axes) -> None:
    """Makes the axis of scores logarithmic where those drawn so far are far apart."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines] or [np.zeros(0)])
    if len(values) and values.min() > 0 and values.max() > _WIDE * values.min():
        axes.set_yscale("log")
        from matplotlib.ticker import LogLocator, StrMethodFormatter

        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter("")


def _finish(axes: Axes, x_label: str, y_label: str) -> None:
    """Axes of scores: labels, a grid and a legend."""
    if x_label.startswith("generator steps"):
        axes.locator_params(axis="x", integer=True)
    _thousands(axes.xaxis)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, handlelength=4)


def _thousands(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if float(x).is_integer() else f"{x:g}"))
