"""Draws the figures of the concept pages: python docs/figures/concepts.py"""

from fractions import Fraction
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from sagan import ExcludeLocal

IMAGES = Path(__file__).parent.parent / "images"
HIDDEN, VISIBLE, QUERY = "#3d4451", "#ffd58a", "#d6336c"
SCORES = ((4, 4, 1), (4, 4, 1), (1, 1, 4))  # exp of the scores of the query in the upper left corner
mpl.rcParams["svg.hashsalt"] = "sagan"  # the same file each time
mpl.rcParams["font.size"] = 9


def draw_map(axes: Axes, mask: torch.Tensor, query: tuple[int, int], texts: list[str] | None = None) -> None:
    """A map of pixels: those that the query sees, those it does not, and the query, each with its text."""
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            color = VISIBLE if mask[y, x] else HIDDEN
            axes.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=color, edgecolor="white"))
            if texts:
                shade = "black" if mask[y, x] else "white"
                axes.text(x + 0.5, y + 0.5, texts[y * width + x], ha="center", va="center", color=shade)
    y, x = query
    axes.add_patch(plt.Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, fill=False, edgecolor=QUERY, linewidth=2))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")


def spans() -> None:
    """What one query of a 9x9 map sees, by span."""
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.6))
    shown = [(0, (4, 4)), ("self", (4, 4)), (1, (4, 4)), (3, (7, 1))]
    for each, (span, query) in zip(axes, shown, strict=True):
        pattern = ExcludeLocal(9, 9, span)
        row = query[0] * 9 + query[1]
        draw_map(each, pattern.mask(row, row + 1).reshape(9, 9), query)
        each.set_title(f"span {span}: {int(pattern.visible_keys()[row])} of 81 keys")
    save(figure, "concept-span.svg")


def weights() -> None:
    """The weights of one query in full attention and in both maskings."""
    exponentials = [value for row in SCORES for value in row]
    pattern = ExcludeLocal(3, 3, 1)
    mask = pattern.mask(0, 1).flatten().tolist()
    visible = sum(value for value, seen in zip(exponentials, mask, strict=True) if seen)
    panels = {
        "full attention": [Fraction(value, sum(exponentials)) for value in exponentials],
        "after": [Fraction(value * seen, sum(exponentials)) for value, seen in zip(exponentials, mask, strict=True)],
        "before": [Fraction(value * seen, visible) for value, seen in zip(exponentials, mask, strict=True)],
    }
    figure, axes = plt.subplots(1, 3, figsize=(7, 2.6))
    for each, (name, values) in zip(axes, panels.items(), strict=True):
        seen = torch.tensor([value > 0 for value in values]).reshape(3, 3)
        draw_map(each, seen, (0, 0), [str(value) for value in values])
        each.set_title(f"{name}: sum {sum(values)}")
    save(figure, "concept-after-before.svg")


def save(figure: plt.Figure, name: str) -> None:
    figure.savefig(IMAGES / name, bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    spans()
    weights()
