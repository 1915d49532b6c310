"""Attention tile by tile in plain torch: exact, memory O(queries + keys), for both maskings and every pattern.

A tile is a range of query rows with all the keys they involve, small enough for its scores to stay in a CPU's cache.
Each row is complete, so its softmax is the ordinary one and the backward pass simply recomputes it; only q, k and v are
saved. The backward pass sums the gradients of k and v over the tiles, transposed: (dim, keys) = q^T dS is a matrix
product several times faster than (keys, dim) = dS^T q when dim is as small as it is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sagan.core.attention.patterns import Pattern, PatternCache
from sagan.core.attention.reference import attention_backward, product_dtype, softmax_dtype
from sagan.core.transforms import may_read, without_autocast

_PIECES = PatternCache(limit=64 * 2**20)


def attend_blocked(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0, tile: int | None = None
) -> Tensor:
    """The attention of :func:`~sagan.core.attention.reference.attend_reference`, without its matrix of weights.

    q: (batch, heads, queries, dim), k: (batch, heads, keys, dim), v: (batch, heads, keys, value_dim); returns
    (batch, heads, queries, value_dim). ``tile`` is the number of scores held at a time; the default suits the device.
    A second derivative (``create_graph=True``) uses the dense formula, with its memory. Products that overflow give
    NaN, even where they are hidden.
    """
    if tile is None:
        tile = _default_tile(q.device)
    out: Tensor = _Blocked.apply(q, k, v, pattern, scale, tile)  # type: ignore[no-untyped-call]
    return out


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float, tile: int) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.pattern, ctx.scale, ctx.tile = pattern, scale, tile
        with without_autocast(q.device):
            return _forward(q, k, v, pattern, scale, tile)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        with without_autocast(q.device):
            # with create_graph=True these gradients will be differentiated again
            if torch.is_grad_enabled() or not may_read(grad_out):
                grads = attention_backward(grad_out, q, k, v, ctx.pattern, scale=ctx.scale)
            else:
                grads = _backward(grad_out, q, k, v, ctx.pattern, ctx.scale, ctx.tile)
        return *grads, None, None, None


def _forward(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float, tile: int) -> Tensor:
    scores_q, scores_k = _score_operands(q, k, scale)
    values = v.flatten(0, 1).to(product_dtype(v))
    out = v.new_empty(len(values), pattern.queries, v.shape[3])
    buffer = scores_q.new_empty(0)
    for images, piece in _tiles(len(out), pattern, tile, q.device):
        weights = _softmax(scores_q[images], scores_k[images], piece, pattern, buffer)
        if pattern.masking == "after":
            _zero_hidden(weights, piece)
        out[images, piece.rows] = torch.bmm(weights.to(values.dtype), values[images, piece.keys])
    return out.reshape(*q.shape[:3], v.shape[3])


def _backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The formulas of :func:`~sagan.core.attention.reference.attention_backward`, a tile at a time."""
    scores_q, scores_k = _score_operands(q, k, scale)
    dtype = product_dtype(v)
    queries, keys, values, grads = (x.flatten(0, 1).to(dtype) for x in (q, k, v, grad_out))
    # transposed, (images, dim, queries or keys), and summed in the dtype of the softmax
    dq, dk, dv = (scores_q.new_zeros(x.shape[0], x.shape[2], x.shape[1]) for x in (queries, keys, values))
    buffer, grad_buffer = scores_q.new_empty(0), values.new_empty(0)
    for images, piece in _tiles(len(grads), pattern, tile, q.device):
        weights = _softmax(scores_q[images], scores_k[images], piece, pattern, buffer).to(dtype)
        grad_rows = grads[images, piece.rows]
        grad_scores = _view(grad_buffer, weights.shape)
        torch.bmm(grad_rows, values[images, piece.keys].transpose(1, 2), out=grad_scores)
        if pattern.masking == "after":
            _zero_hidden(grad_scores, piece)
        torch.ops.aten._softmax_backward_data.out(grad_scores, weights, -1, dtype, grad_input=grad_scores)
        if pattern.masking == "after":
            _zero_hidden(weights, piece)
        _add_product(dv[images, :, piece.keys], grad_rows.transpose(1, 2), weights)
        _add_product(dk[images, :, piece.keys], queries[images, piece.rows].transpose(1, 2), grad_scores)
        _add_product(dq[images, :, piece.rows], keys[images, piece.keys].transpose(1, 2), grad_scores.transpose(1, 2))
    dq, dk = dq.mul_(scale), dk.mul_(scale)
    dq, dk, dv = (grad.transpose(1, 2).to(x.dtype).reshape(x.shape) for grad, x in ((dq, q), (dk, k), (dv, v)))
    return dq, dk, dv


def _score_operands(q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Scaled q and k, (batch * heads, rows, dim), in the dtype of the softmax."""
    dtype = softmax_dtype(q)
    q3, k3 = q.flatten(0, 1).to(dtype), k.flatten(0, 1).to(dtype)
    return q3 if scale == 1 else q3 * scale, k3


def _softmax(q: Tensor, k: Tensor, piece: _Piece, pattern: Pattern, buffer: Tensor) -> Tensor:
    """The softmax of one tile, (images, rows, keys), in ``buffer``; 0 where masking "before" left keys out."""
    q, k = q[:, piece.rows], k[:, piece.keys]
    weights = _view(buffer, (len(q), q.shape[1], k.shape[1]))
    torch.bmm(q, k.transpose(1, 2), out=weights)
    if pattern.masking == "before":
        _leave_out_hidden(weights, piece)
    torch.softmax(weights, -1, out=weights)
    if pattern.masking == "before" and piece.empty_rows is not None:
        weights.index_fill_(1, piece.empty_rows, 0)  # a softmax over nothing is NaN
    return weights


def _zero_hidden(weights: Tensor, piece: _Piece) -> None:
    """Zeroes the weights of the hidden keys of one tile, (images, rows, keys)."""
    if piece.mask is not None:
        weights.mul_(piece.mask)  # several times faster than masked_fill_, which is not vectorised
    elif piece.hidden is not None:
        weights.flatten(1).index_fill_(1, piece.hidden, 0)


def _leave_out_hidden(scores: Tensor, piece: _Piece) -> None:
    """Sets the scores of the hidden keys of one tile, (images, rows, keys), to -inf."""
    if piece.mask is not None:
        scores.add_(piece.mask)
    elif piece.hidden is not None:
        scores.flatten(1).index_fill_(1, piece.hidden, -torch.inf)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b; a product in low precision is rounded once, before it is added."""
    if total.dtype == a.dtype:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a, b)


def _view(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The start of ``buffer`` in this shape; the buffer grows if it is too small."""
    numel = math.prod(shape)
    if buffer.numel() < numel:
        buffer.resize_(numel)
    return buffer[:numel].view(shape)


class _Piece(NamedTuple):
    """A range of query rows, the keys they involve, and which of these are hidden: none, or by one of two tensors."""

    rows: slice
    keys: slice
    mask: Tensor | None  # (rows, keys): with masking "after" bool, to multiply by; with "before" 0 and -inf, to add
    hidden: Tensor | None  # int64 indices into the flattened rows * keys
    empty_rows: Tensor | None  # int64 indices of the rows that see no key


def _tiles(images: int, pattern: Pattern, tile: int, device: torch.device) -> Iterator[tuple[slice, _Piece]]:
    """Yields (images, piece of the query rows) of about ``tile`` scores; several images at a time on a small map."""
    rows = _rows_per_tile(pattern, tile)
    together = max(1, tile // (pattern.queries * pattern.keys)) if rows == pattern.queries else 1
    for first in range(0, images, together):
        for start in range(0, pattern.queries, rows):
            piece = _piece(pattern, start, min(start + rows, pattern.queries), device)
            yield slice(first, first + together), piece


def _rows_per_tile(pattern: Pattern, tile: int) -> int:
    """All query rows, halved until such a range in the middle of the map has at most ``tile`` scores."""
    rows = pattern.queries
    while rows > 1:
        start = (pattern.queries - rows) // 2
        first, last = pattern.key_range(start, start + rows)
        if rows * (last - first) <= tile:
            break
        rows = (rows + 1) // 2
    return rows


def _piece(pattern: Pattern, start: int, stop: int, device: torch.device) -> _Piece:
    def build() -> _Piece:
        first, last = pattern.key_range(start, stop)
        counts = pattern.visible_keys()[start:stop]
        share = 1 - int(counts.sum()) / ((stop - start) * (last - first))
        empty = (counts == 0).nonzero().flatten().to(device)
        mask = hidden = None
        if share > 1 / 8 or last - first < pattern.keys:  # an index is 8 bytes, an entry of a mask is 1 or 4
            mask = pattern.mask(start, stop, device=device)[:, first:last].contiguous()
            if pattern.masking == "before":
                mask = mask.to(torch.float32).log_()
        elif share > 0:
            hidden = pattern.hidden_indices(start, stop, device=device)
        return _Piece(slice(start, stop), slice(first, last), mask, hidden, empty if len(empty) else None)

    return _PIECES.get((pattern, start, stop, device), build)


def _default_tile(device: torch.device) -> int:
    """Scores in a tile: on a CPU 4 MiB a thread, so that each thread works on its own image or range of rows and much
    of that stays in its caches; on a GPU enough to fill it."""
    if device.type != "cpu":
        return 2**25
    return 2**20 * min(torch.get_num_threads(), 8)
