"""One HTML page in which pointing at a pixel shows where it looks; it holds all it needs and works without a server.

Weights are bytes, by how light they are drawn (`figures.light_of`), with the largest of each query beside them. Of
large maps only a grid of queries is in the page, so that it stays small.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sagan.core.attention import Pattern
from sagan.pages.render import render
from sagan.system.files import write_whole
from sagan.viewing.figures import Exhibit, colours, light_of
from sagan.viewing.maps import MEASURES, LayerAttention, Measures, Point, even_weight

PAGE_BYTES = 24 * 2**20  # of weights in a page, before base64, which takes a third more
LARGEST_MAP = 2**20  # bytes of one layer in one picture: those of a whole 32x32 map


def write_page(
    path: Path, exhibits: Sequence[Exhibit], points: Sequence[Sequence[Point]], rows: Sequence[dict[str, Any]]
) -> None:
    """Writes the page for exhibits of equally many pictures, with the points of each picture at which it opens, and the
    rows of `layer_row` as a table."""
    maps = sum(len(exhibit.layers) * len(exhibit.pictures) for exhibit in exhibits)
    limit = min(LARGEST_MAP, PAGE_BYTES // max(1, maps))
    data = {
        "size": exhibits[0].image_size,
        "colours": as_base64(torch.from_numpy(colours())),
        "points": points,
        "exhibits": [_exhibit(exhibit, limit) for exhibit in exhibits],
        "table": _table(rows),
    }
    page = render("attention.html", shown=data)
    write_whole(path, lambda file: file.write(page.encode()), sync=False)


def _exhibit(exhibit: Exhibit, limit: int) -> dict[str, Any]:
    layers = zip(exhibit.layers, exhibit.measures, strict=True)
    return {
        "name": exhibit.title,
        "classes": list(exhibit.classes),
        "pictures": [as_base64(picture.permute(1, 2, 0)) for picture in exhibit.pictures],
        "layers": [_layer(layer, measures, limit) for layer, measures in layers],
    }


def _layer(layer: LayerAttention, measures: Measures, limit: int) -> dict[str, Any]:
    pattern = layer.pattern
    step = query_step(pattern, limit)
    first = step // 2
    queries = [
        y * pattern.width + x for y in range(first, pattern.height, step) for x in range(first, pattern.width, step)
    ]
    shown = []
    for image in range(len(layer.q)):
        weights, inside = layer.weights(image, queries), measures["inside"][image, queries]
        light = as_light(weights, torch.tensor([even_weight(pattern, query) for query in queries]))
        largest = weights.amax(1)
        shown.append({"light": as_base64(light), "largest": as_base64(largest), "inside": as_base64(inside)})
    facts = describe_layer(layer.name, pattern, layer.gamma)
    return {**facts, "step": step, "first": first, "looks": shown}


def describe_layer(name: str, pattern: Pattern, gamma: float) -> dict[str, Any]:
    """An attention layer as the script ``attention.js`` takes it."""
    return {
        "name": name,
        "label": pattern.label,
        "masking": pattern.masking,
        "gamma": gamma,
        "height": pattern.height,
        "width": pattern.width,
        "pool": pattern.pool,
        "rows": pattern.height // pattern.pool,
        "columns": pattern.width // pattern.pool,
        "radius": _radius(pattern),
    }


def query_step(pattern: Pattern, limit: int) -> int:
    """The step of a grid of queries over a map, a power of two: the smallest with which the weights of the grid are at
    most ``limit`` bytes or the grid is one query."""
    step = 1
    while step < min(pattern.height, pattern.width):
        count = math.prod(len(range(step // 2, size, step)) for size in (pattern.height, pattern.width))
        if count * pattern.keys <= limit:
            break
        step *= 2
    return step


def as_light(weights: Tensor, uniform: Tensor) -> Tensor:
    """How light weights (queries, keys) are, uint8, with the ``uniform`` weight of each query: 128 is uniform."""
    return (light_of(weights, uniform[:, None]) * 255).round().to(torch.uint8)


def _radius(pattern: Pattern) -> int:
    """How far the excluded square extends from a query; -1 where there is none."""
    span = getattr(pattern, "span", 0)
    return -1 if span == 0 else 0 if span == "self" else int(span)


def as_base64(values: Tensor) -> str:
    """The bytes of a tensor, little-endian, in base64."""
    array = values.contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def _table(rows: Sequence[dict[str, Any]]) -> list[list[list[str]]]:
    """Cells [text, small text] of the table of layers, headings first."""
    heads = ["run", "step", "layer", "pattern", "gamma", *MEASURES.values()]
    table = [[[head, ""] for head in heads]]
    for row in rows:
        cells = [[row["run"], ""], [f"{row['step']:,}", ""], [f"{row['network']} {row['map']}x{row['map']}", ""]]
        cells += [[row["pattern"], ""], [f"{row['gamma']:+.3f}", ""]]
        cells += [[_figure(name, row[name]), _figure(name, row[f"{name}_if_even"])] for name in MEASURES]
        table.append(cells)
    return table


def _figure(measure: str, value: float) -> str:
    if value != value:
        return "none"
    return f"{value:.1%}" if measure in ("inside", "border") else f"{value:.2f}"
