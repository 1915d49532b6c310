"""One ``attend()``, the ways to compute it, and which of them to take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sagan.attention.blocked import attend_blocked
from sagan.attention.patterns import Pattern
from sagan.attention.reference import attend_reference


class Attend(Protocol):
    """A way to compute attention from checked, same-dtype q, k and v."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0) -> Tensor: ...


@dataclass(frozen=True)
class Backend:
    """A way to compute attention; ``reasons_against`` says in sentences why it cannot run on an input."""

    attend: Attend
    reasons_against: Callable[[Tensor, Tensor, Tensor, Pattern], list[str]]


def attend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0, backend: str = "auto") -> Tensor:
    """Attention of every query to the keys that ``pattern`` lets it see, with scores ``scale * q . k``.

    q: (batch, heads, queries, dim), k: (batch, heads, keys, dim), v: (batch, heads, keys, value_dim), of one
    floating-point dtype on one device; returns (batch, heads, queries, value_dim) in that dtype. Under autocast the
    inputs are first cast to its dtype, as torch does for its own attention. ``backend`` is a name in ``BACKENDS``, or
    "auto" for the fastest that can run. ValueError when a shape does not fit, or the named backend cannot run.
    """
    q, k, v = _autocast(q, k, v)
    check_inputs(q, k, v, pattern)
    if backend == "auto":
        backend = choose_backend(q, k, v, pattern)
    elif reasons := reasons_against(backend, q, k, v, pattern):
        raise ValueError(f"attention backend {backend!r} cannot run here: {'; '.join(reasons)}")
    return BACKENDS[backend].attend(q, k, v, pattern, scale=scale)


def reasons_against(backend: str, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> list[str]:
    """Why ``backend`` cannot compute this attention, in sentences; empty when it can. ValueError: an unknown name."""
    if backend not in BACKENDS:
        raise ValueError(f'backend must be "auto" or one of {", ".join(sorted(BACKENDS))}, got {backend!r}')
    return BACKENDS[backend].reasons_against(q, k, v, pattern)


def choose_backend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> str:
    """The first backend, in the order of preference for this device and size, with nothing against it."""
    for backend in _preferred(q, pattern):
        if not reasons_against(backend, q, k, v, pattern):
            return backend
    raise AssertionError("the reference can compute everything")


def check_inputs(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> None:
    """ValueError, in one sentence, when q, k and v do not fit together or do not fit the pattern."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(f"q, k and v must have 4 dimensions (batch, heads, rows, dim), got {shapes}")
    if not q.shape[:2] == k.shape[:2] == v.shape[:2]:
        raise ValueError(f"q, k and v must have the same batch and heads, got {shapes}")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"q and k must have the same dim, got {shapes}")
    if q.shape[2] != pattern.queries:
        raise ValueError(f"q must have {pattern.queries} rows, one for each query of {pattern}, got {shapes}")
    for name, x in (("k", k), ("v", v)):
        if x.shape[2] != pattern.keys:
            raise ValueError(f"{name} must have {pattern.keys} rows, one for each key of {pattern}, got {shapes}")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must have one floating-point dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must be on one device, got {q.device}, {k.device}, {v.device}")


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where autocast is on; float64 stays, as in torch."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def _preferred(q: Tensor, pattern: Pattern) -> list[str]:
    """Backends, the fastest first. On small maps the dense matrix is cheap to store and quick to read back."""
    if q.device.type == "cpu":
        dense_is_cheap = pattern.queries * pattern.keys < 128 * 128
    else:
        dense_is_cheap = q.shape[0] * q.shape[1] * pattern.queries * pattern.keys <= 2**27  # 512 MiB of float32 scores
    return ["reference", "blocked"] if dense_is_cheap else ["blocked", "reference"]


def _nothing(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> list[str]:
    return []


def _against_blocked(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> list[str]:
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return ["its loop over tiles cannot be exported, only unrolled; use the reference backend"]
    return []


BACKENDS = {
    "reference": Backend(attend_reference, _nothing),
    "blocked": Backend(attend_blocked, _against_blocked),
}
