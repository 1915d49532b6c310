"""What attention may be computed from: checks of q, k, v, the pattern and the scale."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.masked import MaskedTensor

from sagan.core.attention.patterns import Pattern
from sagan.system.errors import UserError
from sagan.system.typed import shorten

_LARGEST_SCALE = 1e300


def check_pattern(pattern: object) -> None:
    """Raises UserError for what is not a pattern."""
    if not isinstance(pattern, Pattern):
        raise UserError(f"pattern must be a pattern, such as Full(8, 8) or ExcludeLocal(8, 8, 3), got {pattern!r}")


def check_are_tensors(**tensors: object) -> None:
    """Raises UserError for arrays and for tensors that attention cannot be computed from."""
    for name, x in tensors.items():
        if not isinstance(x, Tensor):
            raise UserError(f"{name} must be a tensor, got {type(x).__module__}.{type(x).__qualname__}")
        if x.layout != torch.strided:
            raise UserError(f"{name} must be a dense tensor, got one of layout {x.layout}")
        if x.is_nested or isinstance(x, MaskedTensor):
            raise UserError(f"{name} must be a plain tensor, got a {'nested' if x.is_nested else 'masked'} one")


def check_inputs(q: Tensor, k: Tensor, v: Tensor | None, pattern: Pattern) -> None:
    """Raises UserError unless q, k and v fit each other and the pattern; v is None where only weights are asked for."""
    last = k if v is None else v
    of_q, of_k, of_v = q.shape, k.shape, last.shape
    if not len(of_q) == len(of_k) == len(of_v) == 4:
        raise _misfit(q, k, v, "must have 4 dimensions (batch, heads, rows, dim)")
    if not of_q[:2] == of_k[:2] == of_v[:2]:
        raise _misfit(q, k, v, "must have the same batch and heads")
    if of_q[3] != of_k[3]:
        raise UserError(f"q and k must have the same dim, got {_shapes(q, k, v)}")
    if of_q[2] != pattern.queries:
        raise UserError(f"q must have {pattern.queries} rows, one for each query of {pattern}, got {_shapes(q, k, v)}")
    keys = pattern.keys
    for name, shape in (("k", of_k), ("v", of_v)):
        if shape[2] != keys:
            raise UserError(f"{name} must have {keys} rows, one for each key of {pattern}, got {_shapes(q, k, v)}")
    if not q.dtype == k.dtype == last.dtype or not q.is_floating_point():
        raise _misfit(q, k, v, "must have one floating-point dtype", [str(x.dtype) for x in (q, k, v) if x is not None])
    if q.dtype.itemsize < 2:
        raise _misfit(q, k, v, "must have 16 bits or more", [f"{q.dtype}: convert them"])
    if not q.device == k.device == last.device:
        raise _misfit(q, k, v, "must be on one device", [str(x.device) for x in (q, k, v) if x is not None])


def _misfit(q: Tensor, k: Tensor, v: Tensor | None, wanted: str, found: list[str] | None = None) -> UserError:
    names = "q and k" if v is None else "q, k and v"
    return UserError(f"{names} {wanted}, got {_shapes(q, k, v) if found is None else ', '.join(found)}")


def _shapes(q: Tensor, k: Tensor, v: Tensor | None) -> str:
    tensors = {"q": q, "k": k} if v is None else {"q": q, "k": k, "v": v}
    return ", ".join(f"{name} {tuple(x.shape)}" for name, x in tensors.items())


def scaled(q: Tensor, scale: float | Tensor) -> tuple[Tensor, float]:
    """q and the number to scale its scores with; q times the scale, and 1, if that is a tensor.

    So a scale that requires a gradient gets it. In low precision the product is rounded to q's dtype. Raises UserError
    for what is not one finite number; the value of a tensor is not looked at.
    """
    if isinstance(scale, Tensor):
        _check_scale(scale, q)
        wide = q.to(torch.promote_types(q.dtype, torch.float32))
        return (wide * scale.to(q.device).reshape(())).to(q.dtype), 1.0
    if type(scale) is float and -_LARGEST_SCALE < scale < _LARGEST_SCALE:
        return q, scale
    if not isinstance(scale, (int, float, np.integer, np.floating)) or isinstance(scale, bool):
        raise UserError(f"scale must be a number or a tensor of one, got {type(scale).__name__}")
    number = scale if isinstance(scale, int) else float(scale)
    if not -_LARGEST_SCALE < number < _LARGEST_SCALE:
        raise UserError(f"scale must be a finite number, got {shorten(scale)}")
    return q, float(number)


def _check_scale(scale: Tensor, q: Tensor) -> None:
    check_are_tensors(scale=scale)
    if scale.numel() != 1 or not scale.is_floating_point() or scale.dtype.itemsize < 2:
        raise UserError(f"scale must be one floating-point number, got {scale.dtype} of shape {tuple(scale.shape)}")
    if scale.is_meta and not q.is_meta:
        raise UserError(f"scale must be a tensor with a value, got one on the meta device, for q on {q.device}")
