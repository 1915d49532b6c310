"""Figures of where attention looks: weights over pictures, and measures over a training.

Everything is readable without colours: where a layer looks is lighter, whatever the picture; curves differ by line and
marker.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from sagan.system.figures import from_zero, literal_text
from sagan.system.files import write_whole
from sagan.system.sentences import visible
from sagan.viewing.maps import MEASURES, LayerAttention, Measures, Point, even_weight, excluded

DIM = 0.4  # the picture's brightness under the weights
PANEL = 1.6  # inches
_LINES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))  # dotted is for even attention
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_CAPTION = (
    "A row is one point of the picture (ring) and where each layer looks from there: the lighter, the more; uniform "
    "attention is the middle of the scale. Dashed: the square it may not look at. Below: the largest weight of a key, "
    "how many times a uniform weight that is, and how much of the softmax fell inside the square before its exclusion."
)


@dataclass(frozen=True)
class Exhibit:
    """Pictures, uint8 (n, 3, size, size), with the attention layers of a run that looked at them, and each layer's
    measures. ``classes``: the class of each picture in words; empty for pictures without."""

    run: str
    pictures: Tensor
    layers: list[LayerAttention]
    measures: list[Measures]
    classes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{visible(self.run)}, step {self.layers[0].step:,}"

    @property
    def image_size(self) -> int:
        return self.pictures.shape[-1]


@literal_text()
def draw_maps(path: Path, exhibits: Sequence[Exhibit], image: int, points: Sequence[Point]) -> None:
    """Writes a PNG of one picture of each exhibit: for each point a row with where every layer looks from there."""
    from matplotlib.figure import Figure  # takes half a second, and only figures need it

    columns = [1 + len(exhibit.layers) for exhibit in exhibits]
    width = PANEL * sum(columns) + 0.6 * len(exhibits)
    caption = textwrap.wrap(_CAPTION, int(18 * width))
    height = (PANEL + 0.2) * len(points) + 0.9 + 0.13 * len(caption)
    figure = Figure(figsize=(width, height), layout="constrained")
    parts = figure.subfigures(1, len(exhibits), width_ratios=columns, squeeze=False)[0]
    for part, exhibit in zip(parts, exhibits, strict=True):
        of_class = f", class {visible(exhibit.classes[image])}" if exhibit.classes else ""
        part.suptitle(exhibit.title + of_class, fontsize=10)
        panels = part.subplots(len(points), 1 + len(exhibit.layers), squeeze=False)
        picture = exhibit.pictures[image].permute(1, 2, 0).numpy()
        for row, point in zip(panels, points, strict=True):
            _draw_picture(row[0], picture, point)
        for column, layer in enumerate(exhibit.layers, 1):
            _draw_layer(panels[:, column], layer, exhibit.measures[column - 1], image, picture, points)
        panels[0, 0].set_title("picture", fontsize=8)
        _add_scale(part, panels)
    figure.supxlabel("\n".join(caption), fontsize=7)
    _save(figure, path)


def lay_over(picture: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The light (rows, columns) of cells, 0 to 1, on a picture, uint8 (size, size, 3): floats from 0 to 1, at a
    resolution at which both have whole pixels."""
    size = math.lcm(len(picture), len(light))
    grey = picture @ (0.299 / 255, 0.587 / 255, 0.114 / 255) * DIM
    below, light = _enlarge(grey, size)[:, :, None], colours()[np.rint(_enlarge(light, size) * 255).astype(int)] / 255
    return 1 - (1 - below) * (1 - light)  # type: ignore[no-any-return]


A = TypeVar("A", np.ndarray, Tensor)


def light_of(weights: A, uniform: float | A) -> A:
    """How light weights are, 0 to 1: a half is uniform, 0.9 nine times that. ``attention.js`` has the same scale."""
    return weights / (weights + uniform)


def colours() -> np.ndarray:
    """256 colours from black to the lightest, uint8 (256, 3): inferno, which is perceptually uniform."""
    import matplotlib

    table: np.ndarray = np.rint(matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255)
    table[0] = 0  # no weight is no light
    return table.astype(np.uint8)


def _enlarge(values: np.ndarray, size: int) -> np.ndarray:
    return values.repeat(size // len(values), 0).repeat(size // len(values), 1)


def _draw_picture(axes: Any, picture: np.ndarray, point: Point) -> None:
    axes.imshow(picture, extent=(0, len(picture), len(picture), 0), interpolation="nearest")
    _finish_panel(axes, (point[0] + 0.5, point[1] + 0.5))


def _draw_layer(
    column: Sequence[Any],
    layer: LayerAttention,
    measures: Measures,
    image: int,
    picture: np.ndarray,
    points: Sequence[Point],
) -> None:
    from matplotlib.patches import Rectangle

    size = len(picture)
    scale, cell = size / layer.pattern.width, size / layer.grid[1]
    queries = [layer.query_at(point, size) for point in points]
    all_weights = layer.weights(image, queries).view(-1, *layer.grid).numpy()
    for axes, query, weights in zip(column, queries, all_weights, strict=True):
        peak, even = weights.max(), even_weight(layer.pattern, query)
        extent = (0, size, size, 0)
        axes.imshow(lay_over(picture, light_of(weights, even)), extent=extent, interpolation="nearest")
        if square := excluded(layer.pattern, query):
            corner = square.left * cell, square.top * cell
            box = corner, (square.right - square.left) * cell, (square.bottom - square.top) * cell
            for colour, line, thickness in (("black", "-", 1.6), ("white", (0, (3, 2)), 1)):
                frame = Rectangle(*box, fill=False, edgecolor=colour, linestyle=line, linewidth=thickness)
                axes.add_patch(frame).set_clip_on(False)
        if layer.pattern.pool > 1:
            _draw_cells(axes, size, layer.grid[1])
        y, x = divmod(query, layer.pattern.width)
        _finish_panel(axes, ((y + 0.5) * scale, (x + 0.5) * scale))
        text = "looks at nothing"
        if peak:
            text = f"{_percent(peak)}, {_times(peak / even)} uniform"
        if square:
            text += f" · {measures['inside'][image, query]:.0%} inside"
        axes.set_xlabel(text, fontsize=6.5, labelpad=2)
    heading = f"{layer.name}\n{layer.pattern.label}\ngamma {layer.gamma:+.2f}"
    column[0].set_title(heading, fontsize=8)


def _times(factor: float) -> str:
    return f"{factor:.0f}x" if factor >= 10 else f"{factor:.1f}x"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _draw_cells(axes: Any, size: int, cells: int) -> None:
    for edge in range(1, cells):
        axes.axhline(edge * size / cells, color="white", alpha=0.25, linewidth=0.3)
        axes.axvline(edge * size / cells, color="white", alpha=0.25, linewidth=0.3)


def _finish_panel(axes: Any, query: tuple[float, float]) -> None:
    """Draws the ring around the query, at y and x in pixels of the picture, and no ticks."""
    y, x = query
    for colour, width in (("black", 2.6), ("white", 1.2)):
        axes.plot(x, y, "o", markersize=6, fillstyle="none", color=colour, markeredgewidth=width, clip_on=False)
    axes.set_xticks([])
    axes.set_yticks([])


def _add_scale(part: Any, panels: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    scale = ScalarMappable(Normalize(0, 1), ListedColormap(colours() / 255))
    bar = part.colorbar(scale, ax=panels, shrink=0.5, aspect=20, pad=0.02, ticks=[0, 0.5, 0.9])
    bar.ax.set_yticklabels(["0", "uniform", "9x"], fontsize=7)


# ---- over a training


@literal_text()
def draw_training(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draws each measure and the gates over the steps from rows of `layer_row` (a row may lack measures), as
    ``training.png`` and ``.svg``. Dotted: the value of even attention."""
    from matplotlib.figure import Figure

    series: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault((row["run"], row["network"], row["map"]), []).append(row)
    several = len({run for run, _, _ in series}) > 1
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    panels = figure.subplots(2, 3).flatten()
    titles = {**MEASURES, "gamma": "gamma, the gate (0: the layer adds nothing)"}
    for axes, (name, title) in zip(panels, titles.items(), strict=False):
        styles = zip(itertools.cycle(_LINES), itertools.cycle(_MARKERS), itertools.cycle(("black", "0.45")))
        for ((run, network, size), found), (line, marker, colour) in zip(series.items(), styles, strict=False):
            label = f"{network} {size}x{size}" + (f", {visible(run)}" if several else "")
            points = [(row["step"], row[name]) for row in sorted(found, key=lambda row: row["step"]) if name in row]
            axes.plot(
                *zip(*points, strict=True) if points else ([], []),
                linestyle=line,
                color=colour,
                label=label,
                marker=marker,
                markersize=4,
                markevery=max(1, len(points) // 10),
            )
            if f"{name}_if_even" in found[0]:
                axes.axhline(found[0][f"{name}_if_even"], linestyle=(0, (1, 3)), color=colour, linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if name != "gamma":
            from_zero(axes)
    panels[-1].set_axis_off()
    panels[-1].legend(*panels[-2].get_legend_handles_labels(), loc="center", fontsize=8)
    figure.supxlabel("generator steps (dotted: attention with equal weights for all visible keys)", fontsize=8)
    for ending in ("png", "svg"):
        _save(figure, folder / f"training.{ending}")


def _save(figure: Any, path: Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=150), sync=False)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as CSV, with a column for each key of any row; what is missing or NaN is left empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: "" if value != value else value for name, value in row.items()})
    write_whole(path, lambda file: file.write(text.getvalue().encode(errors="backslashreplace")), sync=False)
