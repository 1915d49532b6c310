"""Which keys each query of a feature map may attend to, as small frozen values.

A pattern gives everything that depends on the geometry alone: the mask, the number of visible keys, the label on a
plot. It is hashable and holds plain values, so it can be a cache key and be written to a config.

Queries are the pixels of a height x width map in row-major order. With ``pool`` p the keys are the cells of the
(height/p) x (width/p) grid of p x p pixels, also in row-major order; with p = 1 the keys are the pixels themselves.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from sagan.system.errors import UserError
from sagan.system.typed import make_plain, shorten

Masking = Literal["after", "before"]
_LARGEST_COUNT = 2**31 - 1  # sums of two of these, and numbers of pixels, are 64-bit integers
T = TypeVar("T", bound=tuple[Any, ...])


class Pattern:
    """What every pattern provides; a subclass is a frozen dataclass with these fields, and overrides what it hides."""

    height: int
    width: int
    pool: int

    @property
    def masking(self) -> Masking:
        """Whether hidden keys lose their weight ``after`` the softmax or are left out ``before`` it."""
        return "before"

    @property
    def queries(self) -> int:
        """The number of queries, height * width."""
        return self.height * self.width

    @property
    def keys(self) -> int:
        """The number of keys, (height / pool) * (width / pool)."""
        return (self.height // self.pool) * (self.width // self.pool)

    @property
    def label(self) -> str:
        """A short name for a plot, such as ``span 3 pool 2``."""
        raise NotImplementedError

    def mask(self, start: int = 0, stop: int | None = None, *, device: torch.device | None = None) -> Tensor:
        """True where a query sees a key: bool, (stop - start, keys), for the query rows from ``start`` to ``stop``."""
        y, _ = self._rows(start, stop, device)
        return torch.ones(len(y), self.keys, dtype=torch.bool, device=device)

    def hidden_indices(self, start: int = 0, stop: int | None = None, *, device: torch.device | None = None) -> Tensor:
        """Where ``mask(start, stop)`` is False: int64 indices, ascending, into its flattened rows * keys entries."""
        return (~self.mask(start, stop, device=device)).flatten().nonzero().flatten()

    def visible_keys(self) -> Tensor:
        """The number of keys each query sees: int64, (queries,), on the CPU. O(queries): no mask is made."""
        return torch.full((self.queries,), self.keys, dtype=torch.int64, device="cpu")

    def visible_share(self) -> float:
        """The fraction of the keys that a query sees, averaged over the queries."""
        return int(self.visible_keys().sum()) / (self.queries * self.keys)

    def rows_without_keys(self) -> int:
        """The number of queries that see no key at all; attention gives exactly 0 there."""
        return int((self.visible_keys() == 0).sum())

    def key_range(self, start: int, stop: int) -> tuple[int, int]:
        """First and one past the last key that the softmax of the query rows from start to stop can involve."""
        return 0, self.keys

    def _rows(self, start: int, stop: int | None, device: torch.device | None) -> tuple[Tensor, Tensor]:
        """The y and x of the query rows from ``start`` to ``stop``: int64, (rows,) each."""
        stop = self.queries if stop is None else stop
        if not 0 <= start <= stop <= self.queries:
            raise UserError(f"query rows must lie in 0 to {self.queries}, got {start} to {stop}")
        index = torch.arange(start, stop, device=device)
        return index // self.width, index % self.width


@dataclass(frozen=True)
class Full(Pattern):
    """Every query sees every key: the attention of the original SAGAN."""

    height: int
    width: int
    pool: int = 1

    def __post_init__(self) -> None:
        make_plain(self)
        _check_grid(self)

    @property
    def label(self) -> str:
        return "full" + _pool_label(self.pool)


@dataclass(frozen=True)
class ExcludeLocal(Pattern):
    """A query does not see the square around itself.

    ``span`` s hides the (2s+1) x (2s+1) square centred on the query, clipped at the border; with ``pool`` a key is
    hidden when its cell touches the square. ``span`` 0 hides nothing: it is full attention, the original SAGAN. The
    published program's ``--span 0`` hid the query's own position; here that is ``span="self"``.

    ``masking`` "after", the published description: softmax over all keys, then the weights inside the square become 0
    and nothing is renormalised. "before", what the published program computes: the keys inside the square are left out
    of the softmax, so the weights outside sum to 1.
    """

    height: int
    width: int
    span: int | Literal["self"]
    masking: Masking = "after"
    pool: int = 1

    def __post_init__(self) -> None:
        make_plain(self)
        _check_grid(self)
        if self.span != "self":
            _check_count("span", self.span, 0, ' (0 is full attention, "self" hides only the query itself)')
        if self.masking not in ("after", "before"):
            raise UserError(f'masking must be "after" or "before" the softmax, got {self.masking!r}')

    @property
    def label(self) -> str:
        before = " before" if self.masking == "before" and self.span != 0 else ""
        return f"span {self.span}" + before + _pool_label(self.pool)

    def mask(self, start: int = 0, stop: int | None = None, *, device: torch.device | None = None) -> Tensor:
        if self.span == 0:
            return super().mask(start, stop, device=device)
        y, x = self._rows(start, stop, device)
        return ~_touches_square(self, y, x, self._radius)

    def hidden_indices(self, start: int = 0, stop: int | None = None, *, device: torch.device | None = None) -> Tensor:
        if self.span == 0:
            return super().hidden_indices(start, stop, device=device)
        y, x = self._rows(start, stop, device)
        top, bottom = _touched_cells(y, self._radius, self.height, self.pool)
        left, right = _touched_cells(x, self._radius, self.width, self.pool)
        widest = 2 * self._radius // self.pool + 2  # 2s+1 pixels in a row touch no more cells than this
        step = torch.arange(min(widest, max(self.height, self.width) // self.pool), device=device)
        rows, columns = top[:, None] + step, left[:, None] + step  # (queries, widest) each
        touched = (rows <= bottom[:, None])[:, :, None] & (columns <= right[:, None])[:, None, :]
        first = torch.arange(len(y), device=device) * self.keys
        flat = first[:, None, None] + rows[:, :, None] * (self.width // self.pool) + columns[:, None, :]
        return flat[touched]

    def visible_keys(self) -> Tensor:
        if self.span == 0:
            return super().visible_keys()
        return self.keys - _keys_in_square(self, self._radius)

    @property
    def _radius(self) -> int:
        return 0 if self.span == "self" else self.span


@dataclass(frozen=True)
class Local(Pattern):
    """A query sees only the (2r+1) x (2r+1) square around itself, r = ``radius``, clipped at the border.

    The complement of :class:`ExcludeLocal`: with ``pool`` a key is seen when its cell touches the square.
    """

    height: int
    width: int
    radius: int
    pool: int = 1

    def __post_init__(self) -> None:
        make_plain(self)
        _check_grid(self)
        _check_count("radius", self.radius, 0, " (0 sees only the query itself)")

    @property
    def label(self) -> str:
        return f"local {self.radius}" + _pool_label(self.pool)

    def mask(self, start: int = 0, stop: int | None = None, *, device: torch.device | None = None) -> Tensor:
        y, x = self._rows(start, stop, device)
        return _touches_square(self, y, x, self.radius)

    def visible_keys(self) -> Tensor:
        return _keys_in_square(self, self.radius)

    def key_range(self, start: int, stop: int) -> tuple[int, int]:
        """The band of whole grid rows that the squares of these queries touch."""
        first, last = max(0, start // self.width - self.radius), (stop - 1) // self.width + self.radius
        rows = min(self.height - 1, last) // self.pool + 1
        columns = self.width // self.pool
        return first // self.pool * columns, rows * columns


def _touched_cells(position: Tensor, radius: int, size: int, pool: int) -> tuple[Tensor, Tensor]:
    """First and last cell that the pixels from position - radius to position + radius touch, along one axis."""
    return (position - radius).clamp_min(0) // pool, (position + radius).clamp_max(size - 1) // pool


def _touches_square(pattern: Pattern, y: Tensor, x: Tensor, radius: int) -> Tensor:
    """True where a key's cell touches the square around the query at (y, x): bool, (queries, keys)."""
    top, bottom = _touched_cells(y, radius, pattern.height, pattern.pool)
    left, right = _touched_cells(x, radius, pattern.width, pattern.pool)
    rows = torch.arange(pattern.height // pattern.pool, device=y.device)
    columns = torch.arange(pattern.width // pattern.pool, device=y.device)
    row_touches = (rows >= top[:, None]) & (rows <= bottom[:, None])  # (queries, cells down)
    column_touches = (columns >= left[:, None]) & (columns <= right[:, None])  # (queries, cells across)
    return (row_touches[:, :, None] & column_touches[:, None, :]).flatten(1)


def _keys_in_square(pattern: Pattern, radius: int) -> Tensor:
    """The number of cells that the square around each query touches: int64, (queries,), on the CPU, in closed form."""
    y, x = (torch.arange(size, dtype=torch.int64, device="cpu") for size in (pattern.height, pattern.width))
    top, bottom = _touched_cells(y, radius, pattern.height, pattern.pool)
    left, right = _touched_cells(x, radius, pattern.width, pattern.pool)
    return torch.outer(bottom - top + 1, right - left + 1).flatten()


def _check_count(name: str, value: object, least: int, meaning: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{name} must be a whole number, {least} or more, got {value!r}{meaning}")
    if value < least:
        raise UserError(f"{name} must be {least} or more, got {value}{meaning}")
    if value > _LARGEST_COUNT:
        raise UserError(f"{name} must be at most {_LARGEST_COUNT}, got {shorten(value)}{meaning}")


def _check_grid(pattern: Pattern) -> None:
    for name in ("height", "width", "pool"):
        _check_count(name, getattr(pattern, name), 1)
    for name in ("height", "width"):
        if getattr(pattern, name) % pattern.pool:
            raise UserError(
                f"{name} must be divisible by pool, got {name} {getattr(pattern, name)}, pool {pattern.pool}"
            )


def _pool_label(pool: int) -> str:
    return f" pool {pool}" if pool > 1 else ""


class PatternCache:
    """An LRU cache of tuples built from patterns, whose tensors take at most ``limit`` bytes together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        """The value of ``key``, built if it is not in the cache. A value larger than the limit is never cached."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                value: T = self._kept[key][0]
                return value
        with torch.inference_mode(False), torch.no_grad():  # a tensor made in inference mode cannot be used by autograd
            value = build()
        size = 512 + sum(x.nbytes for x in value if isinstance(x, Tensor))  # 512: the entry itself
        with self._lock:
            if size <= self.limit and key not in self._kept:
                self._kept[key] = value, size
                self.size += size
                while self.size > self.limit:
                    self.size -= self._kept.popitem(last=False)[1][1]
        return value
