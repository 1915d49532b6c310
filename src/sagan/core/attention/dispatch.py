"""``attend()``, its backends, and the choice between them."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sagan.core.attention.blocked import attend_blocked
from sagan.core.attention.inputs import check_are_tensors, check_inputs, check_pattern, scaled
from sagan.core.attention.patterns import Pattern
from sagan.core.attention.reference import attend_reference, softmax_dtype
from sagan.core.transforms import is_transformed, may_read
from sagan.system.errors import UserError

# Where one backend becomes faster than the next. The CPU's threshold was measured (docs/experiments.md); the other two
# are estimates until `python -m benchmarks.attention --device cuda` has been run on a GPU.
DENSE_BELOW_ON_CPU = 128 * 128  # scores of an image: below it tiling does not pay
FUSED_FROM_ON_CUDA = 512 * 512  # scores of an image: a 32x32 map, or a 64x64 one with cells of 4x4
DENSE_UP_TO_ON_CUDA = 2**27  # scores of a batch: 512 MiB of float32


class Attend(Protocol):
    """Computes attention from q, k and v that have been checked and share a dtype."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0) -> Tensor: ...


@dataclass(frozen=True)
class Backend:
    """An implementation of attention; ``reasons_against`` says in sentences why it cannot run on an input."""

    attend: Attend
    reasons_against: Callable[[Tensor, Tensor, Tensor, Pattern], list[str]]


def attend(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float | Tensor = 1.0, backend: str = "auto"
) -> Tensor:
    """Attention of every query to the keys that ``pattern`` lets it see, with scores ``scale * q . k``.

    q: (batch, heads, queries, dim), k: (batch, heads, keys, dim), v: (batch, heads, keys, value_dim), of one
    floating-point dtype on one device; returns (batch, heads, queries, value_dim) in that dtype. Under autocast the
    inputs are first cast to its dtype, as torch does for its own attention. ``backend`` is a name in ``BACKENDS``, or
    "auto" for the fastest that can run. Raises UserError if a shape does not fit or the named backend cannot run.
    """
    check_pattern(pattern)
    check_are_tensors(q=q, k=k, v=v)
    q, k, v = _autocast(q, k, v)
    check_inputs(q, k, v, pattern)
    q, number = scaled(q, scale)
    if backend == "auto":
        backend = choose_backend(q, k, v, pattern)
    elif reasons := reasons_against(backend, q, k, v, pattern):
        raise UserError(f"attention backend {backend!r} cannot run here: {'; '.join(reasons)}")
    return BACKENDS[backend].attend(q, k, v, pattern, scale=number)


def reasons_against(backend: str, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> list[str]:
    """Why ``backend`` cannot compute this attention, in sentences; empty if it can. UserError: an unknown name."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise UserError(f'backend must be "auto" or one of {", ".join(sorted(BACKENDS))}, got {backend!r}')
    return BACKENDS[backend].reasons_against(q, k, v, pattern)


def choose_backend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> str:
    """The first backend that can run, in order of preference for this device and size."""
    for backend in _preferred(q, pattern):
        if not reasons_against(backend, q, k, v, pattern):
            return backend
    raise AssertionError("the reference can compute everything")


def describe_choice(
    pattern: Pattern,
    batch: int,
    dim: int,
    value_dim: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    heads: int = 1,
    compiled: bool = False,
) -> str:
    """The backend that :func:`attend` uses for such inputs, as a run prints it: ``8x8 by reference``, or
    ``32x32 by triton (dense would hold 256 MiB)``."""
    number = torch.empty((), dtype=dtype, device=device)  # expanded to q, k and v, which then take no memory
    rows = (pattern.queries, dim), (pattern.keys, dim), (pattern.keys, value_dim)
    q, k, v = (number.expand(batch, heads, *shape) for shape in rows)
    usable = [name for name in _preferred(q, pattern) if not reasons_against(name, q, k, v, pattern)]
    backend = next(name for name in usable if not (compiled and name == "blocked"))  # as under torch.compile
    mib = batch * heads * pattern.queries * pattern.keys * softmax_dtype(number).itemsize / 2**20
    choice = f"{pattern.height}x{pattern.width} by {backend}"
    return choice if backend == "reference" else f"{choice} (dense would hold {mib:,.0f} MiB)"


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype if autocast is enabled; float64 stays, as in torch."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def _preferred(q: Tensor, pattern: Pattern) -> list[str]:
    """Backends, the fastest first. On small maps the dense matrix is cheap to store and to read back."""
    scores = pattern.queries * pattern.keys
    if q.device.type == "cpu":
        return ["reference", "blocked"] if scores < DENSE_BELOW_ON_CPU else ["blocked", "reference"]
    dense_is_cheap = q.shape[0] * q.shape[1] * scores <= DENSE_UP_TO_ON_CUDA
    plain = ["reference", "blocked"] if dense_is_cheap else ["blocked", "reference"]
    fused_is_faster = scores >= FUSED_FROM_ON_CUDA or not dense_is_cheap
    if _is_exporting() or not fused_is_faster:  # an exported program of plain operations runs anywhere
        return plain
    return ["triton", *plain]


def _is_exporting() -> bool:
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


_TRANSFORMED = "torch.func, forward-mode differentiation and torch.jit.trace need plain operations"


def _against_blocked(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> list[str]:
    if _is_exporting():
        return ["its loop over tiles cannot be exported, only unrolled; use the reference backend"]
    if torch.compiler.is_compiling():
        return ["torch.compile would unroll its loop over tiles"]
    if is_transformed():
        return [_TRANSFORMED]
    if not all(map(may_read, (q, k, v))):
        return ["its tiles depend on numbers, and these tensors are recorded by a tracer, fake, or on the meta device"]
    return []


def _against_triton(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> list[str]:
    dims = q.shape[3], v.shape[3]
    here = _against_triton_here(q.device, q.dtype, max(dims), sum(dims))
    reasons = [here] if here else []
    if q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        reasons.append(f"it computes float32, bfloat16 and float16, not {str(q.dtype).removeprefix('torch.')}")
    if max(dims) > 256:
        reasons.append(f"dim and value_dim may be at most 256, got {dims[0]} and {dims[1]}")
    if is_transformed():
        reasons.append(_TRANSFORMED)
    if torch.onnx.is_in_onnx_export():
        reasons.append("ONNX has no such operator; use the reference backend")
    return reasons


def _against_triton_here(device: torch.device, dtype: torch.dtype, largest_dim: int, dims_together: int) -> str:
    """Why Triton cannot run on this machine and device, or an empty string if it can."""
    if not _is_triton_installed():
        return "Triton is not installed; on Linux `pip install triton` adds it"
    if _triton_interprets():
        return "Triton's interpreter reads bfloat16 as integers" if dtype == torch.bfloat16 else ""
    if device.type != "cuda":
        return f"it runs on CUDA devices, not on {device.type} (slowly, for tests, also there with TRITON_INTERPRET=1)"
    gpu: Any = torch.cuda.get_device_properties(device)
    if torch.version.cuda is None or gpu.major < 8:
        return "it needs an NVIDIA GPU of compute capability 8.0 or more"
    shared = gpu.shared_memory_per_block_optin // 1024
    if (largest_dim > 128 or dims_together > 160) and shared < 160:  # up to there 99 KiB are enough
        return f"dims of {largest_dim}, {dims_together} together, need 160 KiB of shared memory, this GPU has {shared}"
    return ""


# The result is a constant for the compiler. torch.compiler.assume_constant_result does the same, but importing what it
# needs takes a second.
_against_triton_here._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _is_triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _triton_interprets() -> bool:
    """Whether kernels run in Triton's interpreter: on any device, slowly. Triton reads this when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "on", "true")


def _attend_triton(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, *, scale: float = 1.0) -> Tensor:
    from sagan.core.attention.triton_kernel import attend_triton  # imports Triton

    return attend_triton(q, k, v, pattern, scale=scale)


BACKENDS = {
    "reference": Backend(attend_reference, lambda q, k, v, pattern: []),
    "blocked": Backend(attend_blocked, _against_blocked),
    "triton": Backend(_attend_triton, _against_triton),
}
