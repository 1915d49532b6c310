"""The definition of attention: dense, plain torch operations, any dtype, differentiable any number of times.

It is written to be read, and every faster implementation is tested against it. With the scores s_ij = scale * q_i . k_j
and m_ij = 1 where query i sees key j, the weights are

* masking "after":  a_ij = m_ij exp(s_ij) / sum over all l of exp(s_il)
* masking "before": a_ij = m_ij exp(s_ij) / sum over visible l of exp(s_il)

and the output is sum_j a_ij v_j. A query without a visible key has all weights 0, so its output is exactly 0 and it
gives no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sagan.core.attention.inputs import check_are_tensors, check_inputs, check_pattern, scaled
from sagan.core.attention.patterns import Pattern, PatternCache
from sagan.core.transforms import may_read, without_autocast

_MASKS = PatternCache(limit=64 * 2**20)


def attend_reference(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0) -> Tensor:
    """Attention by the full matrix of weights, which it stores: O(queries * keys) memory.

    q: (batch, heads, queries, dim), k: (batch, heads, keys, dim), v: (batch, heads, keys, value_dim); returns
    (batch, heads, queries, value_dim) in v's dtype. In low precision the scores and the softmax are in float32.
    """
    with without_autocast(q.device):
        weights = _weights(q, scale, k, pattern)
        dtype = product_dtype(v)
        out = torch.bmm(weights.to(dtype).flatten(0, 1), v.to(dtype).flatten(0, 1))
        return out.to(v.dtype).reshape(*q.shape[:3], v.shape[3])


def attention_weights(q: Tensor, k: Tensor, pattern: Pattern, *, scale: float | Tensor = 1.0) -> Tensor:
    """The weights, (batch, heads, queries, keys), float32 or float64; rows sum to at most 1.

    Raises UserError for what :func:`~sagan.core.attention.dispatch.attend` would refuse.
    """
    check_pattern(pattern)
    check_are_tensors(q=q, k=k)
    check_inputs(q, k, None, pattern)
    return _weights(*scaled(q, scale), k, pattern)


def _weights(q: Tensor, scale: float, k: Tensor, pattern: Pattern) -> Tensor:
    with without_autocast(q.device):
        left_out, emptied = _masks(pattern, q)
        weights = _softmax(q, k, scale, left_out)
        if emptied is not None:
            weights = weights.masked_fill(emptied, 0)
        return weights.reshape(*q.shape[:3], k.shape[2])


def attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, themselves differentiable in grad_out, q, k and v.

    With P the softmax (over all keys for "after", over the visible ones for "before") and M the mask:
    dV = (M P)^T dO, dP = M dO V^T, dS = P (dP - rowsum(P dP)), dQ = scale dS K, dK = scale dS^T Q.
    """
    with without_autocast(q.device):
        left_out, emptied = _masks(pattern, q)
        softmax = _softmax(q, k, scale, left_out)
        # reshape, not flatten: a batch of gradients (is_grads_batched) knows only that
        q3, k3, v3, grad3 = (x.reshape(-1, *x.shape[2:]).to(softmax.dtype) for x in (q, k, v, grad_out))
        weights, grad_weights = softmax, torch.bmm(grad3, v3.transpose(1, 2))
        if emptied is not None:
            weights, grad_weights = weights.masked_fill(emptied, 0), grad_weights.masked_fill(emptied, 0)
        grad_scores = softmax * (grad_weights - (softmax * grad_weights).sum(-1, keepdim=True)) * scale
        grads = grad_scores @ k3, grad_scores.transpose(1, 2) @ q3, weights.transpose(1, 2) @ grad3
        dq, dk, dv = (grad.to(x.dtype).reshape(x.shape) for grad, x in zip(grads, (q, k, v), strict=True))
        return dq, dk, dv


def softmax_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the scores and of the softmax: float64 for float64, float32 for everything else."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype of products with the weights: the input's, but float32 for float16 on a CPU, where it is slow."""
    return torch.float32 if x.dtype == torch.float16 and x.device.type == "cpu" else x.dtype


def _softmax(q: Tensor, k: Tensor, scale: float, left_out: Tensor | None) -> Tensor:
    """The softmax of the scores over the keys that are not ``left_out``: (batch * heads, queries, keys)."""
    dtype = softmax_dtype(q)
    scores = torch.bmm(q.flatten(0, 1).to(dtype) * scale, k.flatten(0, 1).to(dtype).transpose(1, 2))
    if left_out is not None:
        scores = scores.masked_fill(left_out, -torch.inf)
    return scores.softmax(-1)


def _masks(pattern: Pattern, q: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The keys to leave out of the softmax, and those whose weights to zero after it: bool (queries, keys) or None.

    A softmax over nothing is NaN, so with masking "before" a query without a visible key keeps all of its keys in the
    softmax and has their weights zeroed after it.
    """
    device = q.device
    if not may_read(q):  # the compiler computes them from indices, inside the kernels that use them
        return _build_masks(pattern, device)

    def build() -> tuple[Tensor | None, Tensor | None]:
        left_out, emptied = (
            mask if mask is not None and mask.any() else None for mask in _build_masks(pattern, device)
        )
        return left_out, emptied

    return _MASKS.get((pattern, device), build)


def _build_masks(pattern: Pattern, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    hidden = ~pattern.mask(device=device)
    if pattern.masking == "after":
        return None, hidden
    without_keys = hidden.all(-1, keepdim=True)
    return hidden & ~without_keys, hidden & without_keys
