"""Where the attention layers of a network look: their weights, and measures of them.

Weights are those of the reference op, `sagan.core.attention.attention_weights`, computed for some query rows at a time:
a map of 128x128 has 16,384 queries and as many keys, and their pairs are never all in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sagan.core.attention import Full, Masking, Pattern, attention_weights
from sagan.core.networks.interface import Discriminator, Generator
from sagan.core.sampling import generate
from sagan.run.build import Network
from sagan.system.errors import UserError
from sagan.system.precision import full_precision

TILE = 2**20  # weights held at a time: 4 MiB of float32

MEASURES = {  # of a query and, averaged, of a layer
    "entropy": "entropy of where a query looks (bits)",
    "distance": "distance to where it looks (pixels of the map)",
    "inside": "share of the softmax inside the square",
    "border": "share on the border of the map",
}

Point = tuple[int, int]  # y and x of a pixel of a picture
Measures = dict[str, Tensor]  # each float32 (images, queries) on the CPU, NaN for a query that sees nothing


class Cells(NamedTuple):
    """A rectangle of the grid of keys: its first row and column, and one past its last."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class LayerAttention:
    """One attention layer: the queries q (images, 1, queries, dim) and keys k (images, 1, keys, dim) that it made of
    images, its gate ``gamma``, and the training ``step`` of its network."""

    network: Network
    step: int
    pattern: Pattern
    gamma: float
    q: Tensor
    k: Tensor

    @property
    def name(self) -> str:
        """Such as ``generator 16x16``."""
        return f"{self.network} {self.pattern.height}x{self.pattern.width}"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid of keys."""
        return self.pattern.height // self.pattern.pool, self.pattern.width // self.pattern.pool

    def query_at(self, point: Point, image_size: int) -> int:
        """The number of the query whose pixel of the map covers a pixel of the picture."""
        y, x = point
        height, width = self.pattern.height, self.pattern.width
        return y * height // image_size * width + x * width // image_size

    def only(self, image: int) -> LayerAttention:
        """The layer with what it made of one image, in memory of its own."""
        q, k = (each[image : image + 1].clone() for each in (self.q, self.k))
        return dataclasses.replace(self, q=q, k=k)

    def weights(self, image: int, queries: Sequence[int]) -> Tensor:
        """The weights of some queries of one image: float32 (len(queries), keys) on the CPU."""
        rows = {}
        for start, stop in self._tiles():
            wanted = [query for query in queries if start <= query < stop]
            if wanted:
                tile = self._rows(self.pattern, image, start, stop)
                rows.update({query: tile[query - start].cpu() for query in wanted})
        return torch.stack([rows[query] for query in queries])

    def measure_of(self, image: int, query: int) -> dict[str, float]:
        """Each of `MEASURES` for one query of one image."""
        return {name: values.item() for name, values in self._measure_rows(image, query, query + 1).items()}

    def measure(self) -> Measures:
        """Each of `MEASURES` for every query of every image.

        Entropy, distance and border are of the weights divided by their sum: they say where a query looks, not how
        much. A distance is from the centre of a query's pixel to that of a key's cell.
        """
        shape = len(self.q), self.pattern.queries
        numbers = {name: torch.empty(shape, dtype=torch.float32, device="cpu") for name in MEASURES}
        for image in range(len(self.q)):
            for start, stop in self._tiles():
                for name, values in self._measure_rows(image, start, stop).items():
                    numbers[name][image, start:stop] = values
        return numbers

    def _measure_rows(self, image: int, start: int, stop: int) -> Measures:
        height, width, pool = self.pattern.height, self.pattern.width, self.pattern.pool
        softmax = self._rows(Full(height, width, pool), image, start, stop)
        hidden = ~self.pattern.mask(start, stop, device=softmax.device)
        numbers = {"inside": (softmax * hidden).sum(-1)}
        softmax = self._rows(self.pattern, image, start, stop)
        used = softmax.sum(-1, keepdim=True)
        shares = softmax / used.masked_fill(used == 0, torch.nan)  # a query that sees nothing looks nowhere
        numbers["entropy"] = torch.special.entr(shares).sum(-1) / math.log(2)
        numbers["distance"] = (shares * self._distances(start, stop)).sum(-1)
        numbers["border"] = shares[:, self._on_border()].sum(-1)
        return numbers

    def _tiles(self) -> Iterator[tuple[int, int]]:
        rows = max(1, TILE // self.pattern.keys)
        for start in range(0, self.pattern.queries, rows):
            yield start, min(start + rows, self.pattern.queries)

    def _rows(self, pattern: Pattern, image: int, start: int, stop: int) -> Tensor:
        """The weights of queries ``start`` to ``stop`` - 1, (stop - start, keys), under a pattern for this map."""
        q, k = self.q[image : image + 1, :, start:stop], self.k[image : image + 1]
        return attention_weights(q, k, _Rows(pattern, start, stop))[0, 0]

    def _distances(self, start: int, stop: int) -> Tensor:
        """Pixels of the map between the queries and the keys: (stop - start, keys)."""
        query = torch.arange(start, stop, device=self.q.device)
        rows, columns = ((torch.arange(n, device=self.q.device) + 0.5) * self.pattern.pool - 0.5 for n in self.grid)
        down = (query // self.pattern.width)[:, None] - rows  # (queries, rows of the grid)
        across = (query % self.pattern.width)[:, None] - columns
        return torch.hypot(down[:, :, None], across[:, None, :]).flatten(1)

    def _on_border(self) -> Tensor:
        rows, columns = self.grid
        inner = torch.zeros(rows, columns, dtype=torch.bool, device=self.q.device)
        inner[1:-1, 1:-1] = True
        return ~inner.flatten()


@dataclass(frozen=True)
class _Rows(Pattern):
    """Consecutive queries of a pattern as a pattern, so that the reference op computes only these."""

    whole: Pattern
    start: int
    stop: int

    @property
    def masking(self) -> Masking:
        return self.whole.masking

    @property
    def queries(self) -> int:
        return self.stop - self.start

    @property
    def keys(self) -> int:
        return self.whole.keys

    def mask(self, start: int = 0, stop: int | None = None, *, device: torch.device | None = None) -> Tensor:
        end = self.stop if stop is None else self.start + stop
        return self.whole.mask(self.start + start, end, device=device)


def average(measures: Measures) -> dict[str, float]:
    """Each measure's mean over all queries that see a key, of all images; NaN where none does."""
    return {name: values.nanmean().item() for name, values in measures.items()}


def average_if_even(pattern: Pattern) -> dict[str, float]:
    """What the measures would be with equal weights for all visible keys, to compare a layer with: one that has learned
    nothing yet has about these."""
    q, k = (torch.zeros(1, 1, rows, 1, dtype=torch.float32, device="cpu") for rows in (pattern.queries, pattern.keys))
    return average(LayerAttention("generator", 0, pattern, 0.0, q, k).measure())


def even_weight(pattern: Pattern, query: int) -> float:
    """The weight that each visible key of a query would have if all scores were equal."""
    seen = int(pattern.visible_keys()[query])
    return 1 / (pattern.keys if pattern.masking == "after" else max(1, seen))


def excluded(pattern: Pattern, query: int) -> Cells | None:
    """The cells that a query may not look at, as the rectangle around them; None where it may look at all."""
    grid = pattern.height // pattern.pool, pattern.width // pattern.pool
    hidden = ~pattern.mask(query, query + 1, device=torch.device("cpu")).view(grid)
    if not hidden.any():
        return None
    rows, columns = hidden.any(1).nonzero(), hidden.any(0).nonzero()
    return Cells(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)


def choose_points(
    layer: LayerAttention, measures: Measures, image: int, image_size: int, count: int = 4
) -> list[Point]:
    """The points of a picture whose queries have the lowest entropy, each at least a quarter of the map away from the
    others along one axis. Fewer than ``count`` where there is no room; only queries that see something."""
    height, width = layer.pattern.height, layer.pattern.width
    entropy = measures["entropy"][image].nan_to_num(nan=torch.inf).view(height, width).clone()
    points: list[Point] = []
    while len(points) < count and entropy.isfinite().any():
        y, x = divmod(int(entropy.argmin()), width)
        points.append((_centre(y, image_size, height), _centre(x, image_size, width)))
        reach = max(height, width) // 4
        entropy[max(0, y - reach + 1) : y + reach, max(0, x - reach + 1) : x + reach] = torch.inf
        entropy[y, x] = torch.inf
    return points


def _centre(position: int, image_size: int, map_size: int) -> int:
    """A pixel of the picture in the middle of a pixel of the map."""
    return (2 * position + 1) * image_size // (2 * map_size)


# ---- from networks


def generator_attention(
    generator: Generator, step: int, z: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, list[LayerAttention]]:
    """The images that a generator in eval mode makes of z, uint8 (n, 3, h, w) on the CPU, and where its attention
    layers looked, in the order in which data passes them."""
    images: list[Tensor] = []
    layers = _watch(generator, "generator", step, lambda: images.append(generate(generator, z, labels)))
    return images[0].cpu(), layers


def discriminator_attention(discriminator: Discriminator, step: int, images: Tensor) -> list[LayerAttention]:
    """Where the attention layers of a discriminator look in images, uint8 (n, 3, h, w)."""
    device = next(discriminator.parameters()).device
    numbers = images.to(device).float() / 127.5 - 1
    return _watch(discriminator, "discriminator", step, lambda: discriminator.features(numbers))


@torch.no_grad()
def _watch(
    network: Generator | Discriminator, name: Network, step: int, run: Callable[[], object]
) -> list[LayerAttention]:
    """What each attention layer made of its inputs while ``run`` ran. Raises UserError for NaN and infinite numbers."""
    layers: list[Any] = list(network.attention.values())
    seen: dict[Any, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def hook(layer: Any, given: tuple[Tensor, ...], out: Tensor) -> None:
        q, k, _ = layer.project(*given)
        seen[layer].append((q.contiguous(), k.contiguous()))

    with contextlib.ExitStack() as stack:
        stack.enter_context(full_precision(next(network.parameters()).device))
        for layer in layers:
            stack.callback(layer.register_forward_hook(hook).remove)
        run()
    found = []
    for layer in layers:
        q, k = (torch.cat(parts) for parts in zip(*seen[layer], strict=True))
        if not (q.isfinite().all() and k.isfinite().all() and layer.gamma.isfinite().all()):
            size = f"{layer.pattern.height}x{layer.pattern.width}"
            raise UserError(
                f"the attention of the {name} of step {step:,} on its {size} map is NaN or infinite, so it looks "
                "nowhere: its training has diverged; `step` chooses an earlier snapshot"
            )
        found.append(LayerAttention(name, step, layer.pattern, layer.gamma.item(), q, k))
    return found


# ---- as rows of a table


def layer_row(run: str, layer: LayerAttention, measures: Measures) -> dict[str, Any]:
    """A layer's row of the table, with what `LayerAttention.measure` found."""
    row: dict[str, Any] = {"run": run, "step": layer.step, "network": layer.network, "map": layer.pattern.height}
    row |= {"pattern": layer.pattern.label, "masking": layer.pattern.masking, "gamma": layer.gamma}
    even = average_if_even(layer.pattern)
    for name, value in average(measures).items():
        row |= {name: value, f"{name}_if_even": even[name]}
    return row
