"""Attention as three fused Triton kernels for CUDA devices: nothing of size queries * keys is ever stored.

A program of the forward kernel owns a block of queries and iterates over the blocks of keys with a running softmax; for
the backward pass it saves one number per query, the log of its softmax's sum. The two backward kernels recompute the
weights from it: one owns a block of queries (dQ), the other a block of keys (dK and dV), so that every sum is computed
by one program, in one order. There are no atomics: the same inputs give the same bits.

The square around a query is computed from indices. It can only touch a range of the keys, so only those *near* blocks
pay for the test; the *far* ones are plain full attention. A partial last block counts as near. A Local pattern has no
far blocks.

The geometry is compiled in: a division by the map's width is then a shift or a multiplication. A new geometry, dim or
dtype takes a few seconds to compile, once; Triton caches the result on disk. Logarithms are to base 2, because the
hardware computes 2^x.

The kernels are wrapped in two operators, ``sagan::attention_forward`` and ``sagan::attention_backward``, which work
with ``torch.compile``, ``torch.export`` and CUDA graphs (a capture needs one call before it, to compile). A second
derivative (``create_graph=True``) uses the dense formula: autograd runs a backward pass with gradients enabled exactly
when it is asked for a graph, and the backward pass here tests for that.

Importing this module imports Triton; :mod:`~sagan.core.attention.dispatch` does so when the backend is first used.
"""

# The kernels are written in Triton's language, whose values have no Python types.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from sagan.core.attention.patterns import ExcludeLocal, Full, Local, Pattern
from sagan.core.attention.reference import attention_backward as dense_backward
from sagan.core.transforms import is_transformed

_LOG2_E = 1.4426950408889634

# A pattern: height, width, pool, reach of the square (-1: no square), whether only its inside is seen, masking "after"
Numbers = tuple[int, int, int, int, bool, bool]


def attend_triton(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0) -> Tensor:
    """The attention of :func:`~sagan.core.attention.reference.attend_reference`, by the fused kernels.

    q: (batch, heads, queries, dim), k: (batch, heads, keys, dim), v: (batch, heads, keys, value_dim), float32, bfloat16
    or float16 with dims up to 256; returns (batch, heads, queries, value_dim). Strides are arbitrary, but a last
    dimension that is not contiguous is copied. float32 products are IEEE, or TF32 if ``torch.backends.cuda.matmul``
    says so. A second derivative (``create_graph=True``) uses the dense formula, with its memory.
    """
    if scale <= 0:  # the kernels assume that the largest q . k is the largest score
        q, scale = (-q, -scale) if scale < 0 else (0 * q, 1.0)
    out: Tensor = attention_forward(q, k, v, *_as_numbers(pattern), float(scale))[0]
    return out


def _as_numbers(pattern: Pattern) -> Numbers:
    """The pattern as arguments of an operator."""
    reach, inside = -1, isinstance(pattern, Local)
    if isinstance(pattern, Local):
        reach = pattern.radius
    elif isinstance(pattern, ExcludeLocal) and pattern.span != 0:
        reach = 0 if pattern.span == "self" else pattern.span
    return pattern.height, pattern.width, pattern.pool, reach, inside, reach >= 0 and pattern.masking == "after"


def _as_pattern(height: int, width: int, pool: int, reach: int, inside: bool, after: bool) -> Pattern:
    """The inverse of :func:`_as_numbers`: a pattern of the same meaning."""
    if reach < 0:
        return Full(height, width, pool)
    if inside:
        return Local(height, width, reach, pool)
    return ExcludeLocal(height, width, reach or "self", "after" if after else "before", pool)


@dataclass(frozen=True)
class Blocks:
    """The launch parameters of a kernel: queries and keys in a block, warps in a program, pipeline stages.

    ``registers`` limits those of a thread, where the compiler would use a few too many for a second program to fit on a
    multiprocessor.
    """

    queries: int
    keys: int
    warps: int
    stages: int
    registers: int | None = None


Kernel = Literal["forward", "backward_queries", "backward_keys"]

# By kernel and bytes per element, for padded dim + value_dim up to 128, 256, 320 and 512. Chosen by what the compiler
# reports of registers, spills, shared memory and instructions per score (benchmarks/triton_build.py) on compute
# capability 9.0: 64 rows or more for the tensor cores, 8 to 16 warps on a multiprocessor. Not timed yet.
_BLOCKS: dict[tuple[Kernel, int], tuple[Blocks, Blocks, Blocks, Blocks]] = {
    ("forward", 2): (Blocks(128, 64, 8, 3, 128), Blocks(128, 64, 8, 2), Blocks(128, 64, 8, 2), Blocks(128, 32, 8, 2)),
    ("backward_queries", 2): (
        Blocks(128, 64, 8, 2, 128),
        Blocks(128, 64, 8, 2, 128),
        Blocks(128, 32, 8, 2),
        Blocks(64, 32, 4, 2),
    ),
    ("backward_keys", 2): (Blocks(64, 128, 8, 2), Blocks(64, 128, 8, 2), Blocks(32, 128, 8, 2), Blocks(32, 64, 8, 2)),
    ("forward", 4): (Blocks(64, 32, 4, 2), Blocks(32, 32, 4, 2), Blocks(32, 32, 8, 2), Blocks(32, 32, 8, 2)),
    ("backward_queries", 4): (Blocks(32, 32, 4, 2), Blocks(32, 32, 4, 2), Blocks(32, 32, 8, 2), Blocks(32, 32, 8, 2)),
    ("backward_keys", 4): (Blocks(32, 32, 4, 2), Blocks(16, 32, 4, 2), Blocks(32, 32, 8, 2), Blocks(32, 32, 8, 2)),
}


def choose_blocks(kernel: Kernel, dim: int, value_dim: int, dtype: torch.dtype) -> Blocks:
    """The block sizes of a kernel, from a fixed table: the bits of a result do not depend on timings."""
    columns = _pad(dim) + _pad(value_dim)
    return _BLOCKS[kernel, dtype.itemsize][sum(columns > limit for limit in (128, 256, 320))]


def _pad(dim: int) -> int:
    return max(16, 1 << (dim - 1).bit_length())  # tl.dot needs powers of 2, at least 16


@dataclass(frozen=True)
class Plan:
    """Everything that is compiled into a kernel, as one value: a kernel reads ``P.keys``."""

    height: int
    width: int
    pool: int
    reach: int
    inside: bool
    after: bool
    dim: int
    value_dim: int
    block_queries: int
    block_keys: int
    precision: str  # of a product of float32: "ieee" or "tf32"

    @property
    def queries(self) -> int:
        return self.height * self.width

    @property
    def columns(self) -> int:
        """Cells across the map."""
        return self.width // self.pool

    @property
    def keys(self) -> int:
        return (self.height // self.pool) * self.columns

    @property
    def leaves_out(self) -> bool:
        """Whether a near block can contain keys that are left out of the softmax."""
        return self.keys % self.block_keys > 0 or (self.reach >= 0 and not self.after)

    @property
    def query_blocks(self) -> int:
        return -(-self.queries // self.block_queries)

    @property
    def key_blocks(self) -> int:
        return -(-self.keys // self.block_keys)

    @property
    def padded_dim(self) -> int:
        return _pad(self.dim)

    @property
    def padded_value_dim(self) -> int:
        return _pad(self.value_dim)


def make_plan(kernel: Kernel, q: Tensor, v: Tensor, pattern: Numbers) -> tuple[Plan, dict[str, int | None]]:
    """A kernel's plan for these inputs and this pattern, and its launch options."""
    blocks = choose_blocks(kernel, q.shape[3], v.shape[3], q.dtype)
    tf32 = q.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    precision = "tf32" if tf32 else "ieee"
    plan = Plan(*pattern, q.shape[3], v.shape[3], blocks.queries, blocks.keys, precision)
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages, "maxnreg": blocks.registers}
    return plan, {**options, "enable_fp_fusion": True}


# ---- the operators --------------------------------------------------------------------------------------------------


@torch.library.custom_op("sagan::attention_forward", mutates_args=())
def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height: int,
    width: int,
    pool: int,
    reach: int,
    inside: bool,
    after: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The output, and log2 of the sum of each query's softmax: float32 (batch, heads, queries), inf if it has no key.

    The pattern is given by :func:`_as_numbers`; ``scale`` is positive.
    """
    q, k, v = (_with_contiguous_rows(x) for x in (q, k, v))
    out, log_sum = _empty_results(q, v)
    plan, options = make_plan("forward", q, v, (height, width, pool, reach, inside, after))
    strides = (*_strides(q), *_strides(k), *_strides(v))
    with _device_of(q):
        _forward_kernel[(plan.query_blocks * q.shape[0] * q.shape[1],)](
            q, k, v, out, log_sum, *strides, q.shape[1], scale * _LOG2_E, P=plan, **options
        )
    return out, log_sum


@attention_forward.register_fake
def _(q, k, v, height, width, pool, reach, inside, after, scale):
    return _empty_results(q, v)


@torch.library.custom_op("sagan::attention_backward", mutates_args=())
def attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sum: Tensor,
    height: int,
    width: int,
    pool: int,
    reach: int,
    inside: bool,
    after: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v, from the inputs and outputs of :func:`attention_forward`."""
    grad_out, q, k, v = (_with_contiguous_rows(x) for x in (grad_out, q, k, v))
    dq, dk, dv = (_empty_like(x) for x in (q, k, v))
    delta = torch.empty_like(log_sum)  # rowsum(dO * O): the first kernel writes it, the second reads it
    pattern = (height, width, pool, reach, inside, after)
    images = q.shape[0] * q.shape[1]
    rest = (*_strides(grad_out), *_strides(q), *_strides(k), *_strides(v), q.shape[1], scale, scale * _LOG2_E)
    with _device_of(q):
        plan, options = make_plan("backward_queries", q, v, pattern)
        _backward_queries_kernel[(plan.query_blocks * images,)](
            grad_out, q, k, v, out, log_sum, delta, dq, *rest, P=plan, **options
        )
        plan, options = make_plan("backward_keys", q, v, pattern)
        _backward_keys_kernel[(plan.key_blocks * images,)](
            grad_out, q, k, v, log_sum, delta, dk, dv, *rest, P=plan, **options
        )
    return dq, dk, dv


@attention_backward.register_fake
def _(grad_out, q, k, v, out, log_sum, height, width, pool, reach, inside, after, scale):
    return _empty_like(q), _empty_like(k), _empty_like(v)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, log_sum = ctx.saved_tensors
    if torch.is_grad_enabled() or is_transformed(grad_out):  # create_graph=True: they will be differentiated again
        *pattern, scale = ctx.numbers
        grads = dense_backward(grad_out, q, k, v, _as_pattern(*pattern), scale=scale)
    else:
        grads = attention_backward(grad_out, q, k, v, out, log_sum, *ctx.numbers)
    return *grads, *(None for _ in ctx.numbers)


attention_forward.register_autograd(_backward, setup_context=_keep_for_backward)


def _empty_results(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return v.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=torch.float32)


def _empty_like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)  # contiguous, as the kernels write it, whatever the strides of x


def _with_contiguous_rows(x: Tensor) -> Tensor:
    return x if x.stride(3) == 1 else x.contiguous()


def _strides(x: Tensor) -> tuple[int, ...]:
    """The strides of batch, heads and rows; that of the columns is 1."""
    return x.stride()[:3]


def _device_of(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Makes x's device current: Triton launches on the current device, not on that of its arguments."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


# ---- the kernels ----------------------------------------------------------------------------------------------------
# An image is one head of one element of the batch. Scores are products q . k; times log2_scale they are the base-2
# logarithms of the softmax's summands.


@triton.jit
def _forward_kernel(
    q_ptr, k_ptr, v_ptr, out_ptr, log_sum_ptr,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, heads, log2_scale, P: tl.constexpr,
):  # fmt: skip
    """One block of queries: its output and the logs of its sums."""
    start = tl.program_id(0) % P.query_blocks * P.block_queries
    image = tl.program_id(0) // P.query_blocks
    k_ptr = _image(k_ptr, image, heads, k_batch, k_head)
    v_ptr = _image(v_ptr, image, heads, v_batch, v_head)
    q_ptr = _image(q_ptr, image, heads, q_batch, q_head)
    q = _load(q_ptr, start, q_row, P.queries, P.block_queries, P.dim, P.padded_dim, True)

    ROWS: tl.constexpr = P.block_queries
    COLUMNS: tl.constexpr = P.padded_value_dim
    peak = tl.full([ROWS], float("-inf"), tl.float32)  # the largest logarithm so far
    total = tl.zeros([ROWS], tl.float32)  # of the weights, in units of exp2(peak), as are the sums
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    first, last = _near_keys(start, P)
    far, near = _count_key_blocks(first, last, P)
    for i in range(far):
        key_start = _far_block(i, first, last) * P.block_keys
        sums, total, peak = _forward_step(
            sums, total, peak, q, k_ptr, v_ptr, k_row, v_row, log2_scale, start, key_start, False, P
        )
    for i in range(near):
        key_start = _near_block(i, first, last, P) * P.block_keys
        sums, total, peak = _forward_step(
            sums, total, peak, q, k_ptr, v_ptr, k_row, v_row, log2_scale, start, key_start, True, P
        )

    empty = peak == float("-inf")  # no key: the sums are 0, and a log of inf makes the weights 0 in the backward pass
    total = tl.where(empty, 1.0, total)
    log_sum = tl.where(empty, float("inf"), peak + tl.log2(total))
    out_ptr += image.to(tl.int64) * P.queries * P.value_dim
    _store(out_ptr, sums / total[:, None], start, P.queries, P.block_queries, P.value_dim, P.padded_value_dim)
    _store_column(log_sum_ptr + image.to(tl.int64) * P.queries, log_sum, start, P.queries, P.block_queries)


@triton.jit
def _forward_step(
    sums, total, peak, q, k_ptr, v_ptr, k_row, v_row, log2_scale, query_start, key_start,
    NEAR: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Adds one block of keys to the running softmax."""
    k = _load(k_ptr, key_start, k_row, P.keys, P.block_keys, P.dim, P.padded_dim, NEAR)
    scores = tl.dot(q, tl.trans(k), input_precision=P.precision)
    query = query_start + tl.arange(0, P.block_queries)[:, None]
    key = key_start + tl.arange(0, P.block_keys)[None, :]
    if NEAR and P.leaves_out:
        counted = _is_counted(query, key, query_start, key_start, P)
        highest = tl.max(tl.where(counted, scores, float("-inf")), 1)
        new_peak = tl.maximum(peak, tl.where(highest == float("-inf"), highest, highest * log2_scale))
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # no key yet: avoid inf - inf
        weights = tl.where(counted, tl.exp2(scores * log2_scale - base[:, None]), 0.0)
    else:
        new_peak = tl.maximum(peak, tl.max(scores, 1) * log2_scale)
        base = new_peak
        weights = tl.exp2(scores * log2_scale - base[:, None])
    decay = tl.exp2(peak - base)
    total = total * decay + tl.sum(weights, 1)
    if NEAR and P.after:
        # a product: tl.where would be moved behind the rounding below, which could then not convert two at a time
        weights *= tl.where(_is_shown(query, key, query_start, key_start, P), 1.0, 0.0)
    v = _load(v_ptr, key_start, v_row, P.keys, P.block_keys, P.value_dim, P.padded_value_dim, NEAR)
    sums = tl.dot(weights.to(v.dtype), v, sums * decay[:, None], input_precision=P.precision)
    return sums, total, new_peak


@triton.jit
def _backward_queries_kernel(
    grad_ptr, q_ptr, k_ptr, v_ptr, out_ptr, log_sum_ptr, delta_ptr, dq_ptr,
    grad_batch, grad_head, grad_row, q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
    heads, scale, log2_scale, P: tl.constexpr,
):  # fmt: skip
    """One block of queries: its delta = rowsum(dO * O), then dQ = scale dS K."""
    start = tl.program_id(0) % P.query_blocks * P.block_queries
    image = tl.program_id(0) // P.query_blocks
    grad_ptr = _image(grad_ptr, image, heads, grad_batch, grad_head)
    q_ptr = _image(q_ptr, image, heads, q_batch, q_head)
    k_ptr = _image(k_ptr, image, heads, k_batch, k_head)
    v_ptr = _image(v_ptr, image, heads, v_batch, v_head)
    out_ptr += image.to(tl.int64) * P.queries * P.value_dim
    log_sum_ptr += image.to(tl.int64) * P.queries
    delta_ptr += image.to(tl.int64) * P.queries

    grad = _load(grad_ptr, start, grad_row, P.queries, P.block_queries, P.value_dim, P.padded_value_dim, True)
    out = _load(out_ptr, start, P.value_dim, P.queries, P.block_queries, P.value_dim, P.padded_value_dim, True)
    delta = tl.sum(grad.to(tl.float32) * out.to(tl.float32), 1)
    _store_column(delta_ptr, delta, start, P.queries, P.block_queries)
    q = _load(q_ptr, start, q_row, P.queries, P.block_queries, P.dim, P.padded_dim, True)
    log_sum = _load_column(log_sum_ptr, start, P.queries, P.block_queries, float("inf"))

    ROWS: tl.constexpr = P.block_queries
    COLUMNS: tl.constexpr = P.padded_dim
    dq = tl.zeros([ROWS, COLUMNS], tl.float32)
    first, last = _near_keys(start, P)
    far, near = _count_key_blocks(first, last, P)
    for i in range(far):
        key_start = _far_block(i, first, last) * P.block_keys
        dq = _backward_queries_step(
            dq, grad, q, log_sum, delta, k_ptr, v_ptr, k_row, v_row, log2_scale, start, key_start, False, P
        )
    for i in range(near):
        key_start = _near_block(i, first, last, P) * P.block_keys
        dq = _backward_queries_step(
            dq, grad, q, log_sum, delta, k_ptr, v_ptr, k_row, v_row, log2_scale, start, key_start, True, P
        )
    dq_ptr += image.to(tl.int64) * P.queries * P.dim
    _store(dq_ptr, dq * scale, start, P.queries, P.block_queries, P.dim, P.padded_dim)


@triton.jit
def _backward_queries_step(
    dq, grad, q, log_sum, delta, k_ptr, v_ptr, k_row, v_row, log2_scale, query_start, key_start,
    NEAR: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Adds one block of keys to dQ."""
    k = _load(k_ptr, key_start, k_row, P.keys, P.block_keys, P.dim, P.padded_dim, NEAR)
    v = _load(v_ptr, key_start, v_row, P.keys, P.block_keys, P.value_dim, P.padded_value_dim, NEAR)
    scores = tl.dot(q, tl.trans(k), input_precision=P.precision)
    softmax = tl.exp2(scores * log2_scale - log_sum[:, None])
    grad_weights = tl.dot(grad, tl.trans(v), input_precision=P.precision)
    query = query_start + tl.arange(0, P.block_queries)[:, None]
    key = key_start + tl.arange(0, P.block_keys)[None, :]
    if NEAR and P.leaves_out:
        softmax = tl.where(_is_counted(query, key, query_start, key_start, P), softmax, 0.0)
    if NEAR and P.after:
        grad_weights = tl.where(_is_shown(query, key, query_start, key_start, P), grad_weights, 0.0)
    grad_scores = softmax * (grad_weights - delta[:, None])
    return tl.dot(grad_scores.to(k.dtype), k, dq, input_precision=P.precision)


@triton.jit
def _backward_keys_kernel(
    grad_ptr, q_ptr, k_ptr, v_ptr, log_sum_ptr, delta_ptr, dk_ptr, dv_ptr,
    grad_batch, grad_head, grad_row, q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
    heads, scale, log2_scale, P: tl.constexpr,
):  # fmt: skip
    """One block of keys: dV = (M P)^T dO and dK = scale dS^T Q, from transposed scores."""
    start = tl.program_id(0) % P.key_blocks * P.block_keys
    image = tl.program_id(0) // P.key_blocks
    grad_ptr = _image(grad_ptr, image, heads, grad_batch, grad_head)
    q_ptr = _image(q_ptr, image, heads, q_batch, q_head)
    k_ptr = _image(k_ptr, image, heads, k_batch, k_head)
    v_ptr = _image(v_ptr, image, heads, v_batch, v_head)
    log_sum_ptr += image.to(tl.int64) * P.queries
    delta_ptr += image.to(tl.int64) * P.queries
    k = _load(k_ptr, start, k_row, P.keys, P.block_keys, P.dim, P.padded_dim, True)
    v = _load(v_ptr, start, v_row, P.keys, P.block_keys, P.value_dim, P.padded_value_dim, True)

    ROWS: tl.constexpr = P.block_keys
    COLUMNS: tl.constexpr = P.padded_dim
    VALUE_COLUMNS: tl.constexpr = P.padded_value_dim
    dk = tl.zeros([ROWS, COLUMNS], tl.float32)
    dv = tl.zeros([ROWS, VALUE_COLUMNS], tl.float32)
    first, last = _near_queries(start, P)
    far = 0 if P.inside else P.query_blocks - (last - first)
    for i in range(far):
        query_start = _far_block(i, first, last) * P.block_queries
        dk, dv = _backward_keys_step(
            dk, dv, k, v, grad_ptr, q_ptr, log_sum_ptr, delta_ptr, grad_row, q_row, log2_scale,
            query_start, start, False, P,
        )  # fmt: skip
    for i in range(last - first):
        query_start = (first + i) * P.block_queries
        dk, dv = _backward_keys_step(
            dk, dv, k, v, grad_ptr, q_ptr, log_sum_ptr, delta_ptr, grad_row, q_row, log2_scale,
            query_start, start, True, P,
        )  # fmt: skip
    dk_ptr += image.to(tl.int64) * P.keys * P.dim
    dv_ptr += image.to(tl.int64) * P.keys * P.value_dim
    _store(dk_ptr, dk * scale, start, P.keys, P.block_keys, P.dim, P.padded_dim)
    _store(dv_ptr, dv, start, P.keys, P.block_keys, P.value_dim, P.padded_value_dim)


@triton.jit
def _backward_keys_step(
    dk, dv, k, v, grad_ptr, q_ptr, log_sum_ptr, delta_ptr, grad_row, q_row, log2_scale, query_start, key_start,
    NEAR: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Adds one block of queries to dK and dV. Rows past the last query have weight exp2(-inf) = 0."""
    q = _load(q_ptr, query_start, q_row, P.queries, P.block_queries, P.dim, P.padded_dim, True)
    grad = _load(grad_ptr, query_start, grad_row, P.queries, P.block_queries, P.value_dim, P.padded_value_dim, True)
    log_sum = _load_column(log_sum_ptr, query_start, P.queries, P.block_queries, float("inf"))
    delta = _load_column(delta_ptr, query_start, P.queries, P.block_queries, 0.0)
    scores = tl.dot(k, tl.trans(q), input_precision=P.precision)
    softmax = tl.exp2(scores * log2_scale - log_sum[None, :])
    grad_weights = tl.dot(v, tl.trans(grad), input_precision=P.precision)
    weights = softmax
    if NEAR:
        query = query_start + tl.arange(0, P.block_queries)[None, :]
        key = key_start + tl.arange(0, P.block_keys)[:, None]
        shown = _is_shown(query, key, query_start, key_start, P)
        weights = tl.where(shown, softmax, 0.0)
        if P.after:
            grad_weights = tl.where(shown, grad_weights, 0.0)
        else:
            softmax = weights
    dv = tl.dot(weights.to(grad.dtype), grad, dv, input_precision=P.precision)
    grad_scores = softmax * (grad_weights - delta[None, :])
    dk = tl.dot(grad_scores.to(q.dtype), q, dk, input_precision=P.precision)
    return dk, dv


# ---- which blocks, and which keys of a near block --------------------------------------------------------------------


@triton.jit
def _near_keys(query_start, P: tl.constexpr):
    """First and one past the last block of keys that the squares around a block of queries touch."""
    first, last = query_start * 0, query_start * 0
    if P.reach >= 0:
        query_last = tl.minimum(query_start + P.block_queries, P.queries) - 1
        top = tl.maximum(query_start // P.width - P.reach, 0) // P.pool
        bottom = tl.minimum(query_last // P.width + P.reach, P.height - 1) // P.pool
        first = top * P.columns // P.block_keys
        last = tl.cdiv((bottom + 1) * P.columns, P.block_keys)
    return first, last


@triton.jit
def _near_queries(key_start, P: tl.constexpr):
    """First and one past the last block of queries whose squares touch a block of keys."""
    first, last = key_start * 0, key_start * 0
    if P.reach >= 0:
        key_last = tl.minimum(key_start + P.block_keys, P.keys) - 1
        top = tl.maximum(key_start // P.columns * P.pool - P.reach, 0)
        bottom = tl.minimum(key_last // P.columns * P.pool + P.pool - 1 + P.reach, P.height - 1)
        first = top * P.width // P.block_queries
        last = tl.cdiv((bottom + 1) * P.width, P.block_queries)
    return first, last


@triton.jit
def _count_key_blocks(first, last, P: tl.constexpr):
    """The number of far blocks of keys, which are all whole, and of near ones, which include a partial last block."""
    whole = P.keys // P.block_keys
    far = whole - (tl.minimum(last, whole) - tl.minimum(first, whole))
    near = last - first
    if P.inside:
        far = far * 0
    elif P.key_blocks > whole:
        near += tl.where(last > whole, 0, 1)
    return far, near


@triton.jit
def _far_block(i, first, last):
    return tl.where(i < first, i, i + last - first)


@triton.jit
def _near_block(i, first, last, P: tl.constexpr):
    return tl.where(i < last - first, first + i, P.key_blocks - 1)


@triton.jit
def _is_counted(query, key, query_start, key_start, P: tl.constexpr):
    """Which keys are in the softmax of a query; the indices broadcast and begin at the starts of their blocks."""
    if P.after or P.reach < 0:
        counted = (key < P.keys) & (query >= 0)  # of both shapes together
    elif P.keys % P.block_keys:
        counted = (key < P.keys) & _is_shown(query, key, query_start, key_start, P)
    else:
        counted = _is_shown(query, key, query_start, key_start, P)
    return counted


@triton.jit
def _is_shown(query, key, query_start, key_start, P: tl.constexpr):
    """Whether a query sees a key, whose cell touches the square unless it is above, below, left or right of it."""
    y = _divide(query, P.width)
    row = _divide(key, P.columns)
    if P.width % P.block_queries == 0:
        y = query_start // P.width  # the block lies within one row of the map: a single number
    if P.columns % P.block_keys == 0:
        row = key_start // P.columns
    x, column = query - y * P.width, key - row * P.columns
    above = row < tl.maximum(y - P.reach, 0) // P.pool
    below = row > (y + P.reach) // P.pool
    left = column < tl.maximum(x - P.reach, 0) // P.pool
    right = column > (x + P.reach) // P.pool
    outside = above | below | left | right
    return outside == 0 if P.inside else outside


@triton.jit
def _divide(index, SIZE: tl.constexpr):
    return (index.to(tl.uint32) // SIZE).to(tl.int32)  # unsigned, so that dividing by a power of 2 is a shift


# ---- memory ----------------------------------------------------------------------------------------------------------
# Offsets to an image and to the first row of a block are 64 bits wide; inside a block 32 bits are enough.


@triton.jit
def _image(ptr, image, heads, batch_stride, head_stride):
    return ptr + (image // heads).to(tl.int64) * batch_stride + (image % heads).to(tl.int64) * head_stride


@triton.jit
def _load(
    ptr, start, stride, ROWS: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr, PADDED: tl.constexpr,
    MAY_END: tl.constexpr,
):  # fmt: skip
    """Rows start to start + BLOCK, padded with zeros to (BLOCK, PADDED). MAY_END: the block may be partial."""
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    at = ptr + start.to(tl.int64) * stride + rows * stride + columns
    if MAY_END and ROWS % BLOCK:
        block = tl.load(at, mask=(rows < ROWS - start) & (columns < COLUMNS), other=0.0)
    elif COLUMNS < PADDED:
        block = tl.load(at, mask=columns < COLUMNS, other=0.0)
    else:
        block = tl.load(at)
    return block


@triton.jit
def _store(
    ptr, values, start, ROWS: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr, PADDED: tl.constexpr
):  # fmt: skip
    """Writes values (BLOCK, PADDED) to the rows from start of a contiguous matrix, in its dtype."""
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    at = ptr + start.to(tl.int64) * COLUMNS + rows * COLUMNS + columns
    tl.store(at, values.to(ptr.dtype.element_ty), mask=(rows < ROWS - start) & (columns < COLUMNS))


@triton.jit
def _load_column(ptr, start, ROWS: tl.constexpr, BLOCK: tl.constexpr, FILL: tl.constexpr):
    rows = start + tl.arange(0, BLOCK)
    return tl.load(ptr + rows, mask=rows < ROWS, other=FILL)


@triton.jit
def _store_column(ptr, values, start, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    rows = start + tl.arange(0, BLOCK)
    tl.store(ptr + rows, values, mask=rows < ROWS)
