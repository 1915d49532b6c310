"""Times the fused attention on a GPU against dense, FlexAttention and torch's own full attention; prints tables.

    python -m benchmarks.fused_attention [--dtype bfloat16] [--rounds 7] [--sizes 16 32 64 128] [--tune]
    TRITON_INTERPRET=1 python -m benchmarks.fused_attention --device cpu --sizes 4 --rounds 1 --dtype float32

"dense" is the published way with a boolean mask made once. "flex" is FlexAttention, compiled, with the same mask; it
has no masking "after", which takes weights away and leaves them in the sum. "sdpa full" is torch's own attention
without any mask: other results, less work, the mark to reach.

Each cell is forward / forward + backward in milliseconds: the median over the rounds, in which the ways take turns. On
a GPU a way is captured in a CUDA graph and replayed between two events, so that the processor's time to launch kernels
is left out, as it is in a captured training step. Then the peak of the memory over the inputs, and the largest error of
the output and of the gradients against float64, on one image, relative to the largest value of each. --tune times other
block sizes instead, at some three minutes for each shape, most of it compiling.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.attention import Shape, dense, inputs
from sagan.core.attention import triton_kernel
from sagan.core.attention.blocked import attend_blocked
from sagan.core.attention.dispatch import choose_backend
from sagan.core.attention.patterns import ExcludeLocal, Pattern
from sagan.core.attention.reference import attend_reference

Way = Callable[[Tensor, Tensor, Tensor], Tensor]

BATCHES = {16: (64, 16, 128), 32: (64, 8, 64), 64: (16, 8, 64), 128: (2, 8, 64)}  # size: batch, dim, value_dim
WIDE = (32, 256)  # a second pair of dims
WAYS = ("dense", "reference", "blocked", "triton", "flex", "sdpa full")


def inputs_in_rows(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """q, k, v and the gradient that arrives, (batch, 1, positions, channels) each."""
    qkv, grad = inputs(shape, dtype, device)
    q, k, v, grad = (x.detach().transpose(1, 2).unsqueeze(1).contiguous() for x in (*qkv, grad))
    return [x.requires_grad_() for x in (q, k, v)], grad


def ways(pattern: Pattern, device: torch.device) -> dict[str, Way]:
    """Every way that can compute this pattern on this device, on (batch, heads, positions, channels)."""
    hidden = None if pattern.visible_share() == 1 else ~pattern.mask(device=device)

    def published(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.squeeze(1).transpose(1, 2) for x in (q, k, v))
        return dense(q, k, v, pattern, hidden).transpose(1, 2).unsqueeze(1)

    table: dict[str, Way] = {"dense": published}
    for name, attend in (
        ("reference", attend_reference),
        ("blocked", attend_blocked),
        ("triton", triton_kernel.attend_triton),
    ):
        table[name] = functools.partial(_attend, attend, pattern)
    if device.type == "cuda" and (pattern.masking == "before" or hidden is None):
        table["flex"] = flex(pattern, device)
    table["sdpa full"] = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return table


def _attend(attend: Callable[..., Tensor], pattern: Pattern, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, pattern)


def flex(pattern: Pattern, device: torch.device) -> Way:
    """FlexAttention with the pattern's mask. It takes 16 channels or more: narrower queries and keys get zeros."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    assert isinstance(pattern, ExcludeLocal)
    assert pattern.pool == 1
    width, span = pattern.width, 0 if pattern.span == "self" else pattern.span

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down, across = query // width - key // width, query % width - key % width
        return (down.abs() > span) | (across.abs() > span)

    mask = None
    if pattern.visible_share() < 1:
        mask = create_block_mask(sees, None, None, pattern.queries, pattern.keys, device=str(device))
    torch.compiler.reset()  # each shape compiled for itself, and none counted as one recompilation too many
    compiled = torch.compile(flex_attention, dynamic=False)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (F.pad(x, (0, max(0, 16 - x.shape[-1]))) for x in (q, k))
        out: Tensor = compiled(q, k, v, block_mask=mask, scale=1.0)
        return out

    return run


def passes(way: Way, qkv: list[Tensor], grad: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward pass, and the forward and backward pass; on a GPU each as a captured graph."""

    def forward() -> Any:
        return way(*qkv)

    def both() -> Any:
        return torch.autograd.grad(way(*qkv), qkv, grad)

    if grad.device.type != "cuda":
        return forward, both
    return capture(forward), capture(both)


def capture(run: Callable[[], Any]) -> Callable[[], Any]:
    """The replay of what ``run`` does on the GPU."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, fills the caches
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def milliseconds(run: Callable[[], Any], device: torch.device, least: float = 5.0) -> float:
    """Of one call, the mean over as many as take ``least`` milliseconds; on a GPU between two events."""
    calls = 1
    while True:
        taken = _time_calls(run, calls, device)
        if taken >= least or device.type != "cuda":
            return taken / calls
        calls = max(calls + 1, min(10 * calls, int(1.2 * least / max(taken, 1e-3) * calls)))


def _time_calls(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) * 1e3
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(calls):
        run()
    last.record()
    last.synchronize()
    return first.elapsed_time(last)


def peak_mib(way: Way, qkv: list[Tensor], grad: Tensor) -> float:
    """The most memory that a forward and backward pass holds beyond its inputs; 0 on a CPU, where torch cannot tell."""
    if grad.device.type != "cuda":
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(way(*qkv), qkv, grad)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def largest_error(way: Way, pattern: Pattern, qkv: list[Tensor], grad: Tensor) -> float:
    """Of the output and the gradients on the first image, relative to the largest value of each, against float64."""

    def results(way: Way, dtype: torch.dtype) -> list[Tensor]:
        one = [x.detach()[:1].to(dtype).requires_grad_() for x in qkv]
        out = way(*one)
        return [out, *torch.autograd.grad(out, one, grad[:1].to(dtype))]

    exact = results(functools.partial(_attend, attend_reference, pattern), torch.float64)
    found = results(way, grad.dtype)
    return max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True))


@contextmanager
def one_attempt(failures: list[str], name: str) -> Iterator[None]:
    """What does not fit or cannot be captured leaves its cell empty and its reason below the table."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:  # out of memory is a RuntimeError
        failures.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:150]}")


@dataclass
class Row:
    """One shape and pattern: a cell for each way, and why some are empty."""

    label: str
    times: dict[str, tuple[float, float]]
    memory: dict[str, float]
    errors: dict[str, float]
    failures: list[str]
    chosen: str


def measure(shape: Shape, pattern: Pattern, dtype: torch.dtype, rounds: int, device: torch.device) -> Row:
    qkv, grad = inputs_in_rows(shape, dtype, device)
    label, chosen = f"{shape.label} {pattern.label}", choose_backend(*qkv, pattern)
    row = Row(label, {}, {}, {}, [], chosen)
    runs = {}
    for name, way in ways(pattern, device).items():
        with one_attempt(row.failures, f"{label}, {name}"):
            row.memory[name] = peak_mib(way, qkv, grad)
            if name != "sdpa full" or pattern.visible_share() == 1:
                row.errors[name] = largest_error(way, pattern, qkv, grad)
            runs[name] = passes(way, qkv, grad)
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _, (name, (forward, both)) in itertools.product(range(rounds), runs.items()):
        turns[name].append((milliseconds(forward, device), milliseconds(both, device)))
    for name, measured in turns.items():
        forward_ms, both_ms = (statistics.median(part) for part in zip(*measured, strict=True))
        row.times[name] = forward_ms, both_ms
    return row


def print_tables(rows: list[Row]) -> None:
    def table(title: str, cell: Callable[[Row, str], str]) -> None:
        print(f"\n{title}\n{'':<36}" + "".join(f"{name:>16}" for name in WAYS))
        for row in rows:
            print(f"{row.label:<36}" + "".join(f"{cell(row, name):>16}" for name in WAYS), flush=True)

    def times(row: Row, name: str) -> str:
        return "/".join(f"{ms:.3g}" for ms in row.times[name]) if name in row.times else "-"

    table("milliseconds, forward / forward + backward", times)
    table("peak MiB over the inputs", lambda row, name: f"{row.memory[name]:,.0f}" if name in row.memory else "-")
    table("largest error", lambda row, name: f"{row.errors[name]:.1e}" if name in row.errors else "-")
    print("\ntaken by attend():", ", ".join(f"{row.label}: {row.chosen}" for row in rows))
    for failure in itertools.chain.from_iterable(row.failures for row in rows):
        print(failure)


def measure_largest(dtype: torch.dtype, device: torch.device, size: int = 128, batch: int = 64) -> str:
    """The fused way alone where dense has no room: one forward and backward pass, its time and its memory."""
    shape, pattern = Shape(size, batch, 8, 64), ExcludeLocal(size, size, 3)
    qkv, grad = inputs_in_rows(shape, dtype, device)
    way = functools.partial(_attend, triton_kernel.attend_triton, pattern)
    memory = peak_mib(way, qkv, grad)  # also compiles
    taken = milliseconds(lambda: torch.autograd.grad(way(*qkv), qkv, grad), device)
    dense_gib = batch * pattern.queries * pattern.keys * 4 / 2**30
    return (
        f"{shape.label} {pattern.label}, triton: {taken:.1f} ms, {memory:,.0f} MiB; dense weights {dense_gib:,.3g} GiB"
    )


def tune(shape: Shape, pattern: Pattern, dtype: torch.dtype, device: torch.device) -> None:
    """Prints the five fastest blocks of each kernel, the other two kernels keeping those of the table."""
    qkv, grad = inputs_in_rows(shape, dtype, device)
    way = functools.partial(_attend, triton_kernel.attend_triton, pattern)
    sizes = (32, 64, 128) if device.type == "cuda" else (16, 32)
    kernels: tuple[triton_kernel.Kernel, ...] = ("forward", "backward_queries", "backward_keys")
    for kernel in kernels:
        found, failures = [], list[str]()
        now = triton_kernel.choose_blocks(kernel, shape.dim, shape.value_dim, dtype)
        for queries, keys, warps in itertools.product(sizes, sizes, (4, 8)):
            blocks = triton_kernel.Blocks(queries, keys, warps, now.stages)
            with one_attempt(failures, str(blocks)), instead_of_the_table(kernel, blocks):
                run = passes(way, qkv, grad)[0 if kernel == "forward" else 1]
                found.append((statistics.median(milliseconds(run, device) for _ in range(3)), blocks))
        print(f"{shape.label} {pattern.label}, {kernel}: the table has {now}; {len(failures)} others do not fit")
        for taken, blocks in sorted(found, key=lambda each: each[0])[:5]:
            print(f"    {taken:8.3f} ms {blocks}", flush=True)


@contextmanager
def instead_of_the_table(kernel: triton_kernel.Kernel, blocks: triton_kernel.Blocks) -> Iterator[None]:
    table = triton_kernel.choose_blocks

    def choose(name: triton_kernel.Kernel, dim: int, value_dim: int, dtype: torch.dtype) -> triton_kernel.Blocks:
        return blocks if name == kernel else table(name, dim, value_dim, dtype)

    triton_kernel.choose_blocks = choose
    try:
        yield
    finally:
        triton_kernel.choose_blocks = table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(BATCHES), help="of the maps (default 16 to 128)")
    parser.add_argument("--tune", action="store_true", help="instead, time block sizes")
    options = parser.parse_args()
    run(options.device, getattr(torch, options.dtype), options.rounds, options.sizes, tuning=options.tune)


def run(device: torch.device, dtype: torch.dtype, rounds: int, sizes: list[int], *, tuning: bool = False) -> None:
    """Everything this file prints, for maps of these sizes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(f"torch {torch.__version__}, {name}, {dtype}, float32 products {torch.backends.cuda.matmul.fp32_precision}")
    rows = []
    for size in sizes:
        batch, *dims = BATCHES.get(size, (2, 8, 64))
        shapes = [Shape(size, batch, *dims)]
        if size >= 32:
            shapes.append(Shape(size, max(1, batch // 4), *WIDE))
        for shape in shapes:
            if tuning:
                tune(shape, ExcludeLocal(size, size, min(3, size // 4)), dtype, device)
                continue
            for span, masking in ((0, "after"), (min(3, size // 4), "after"), (min(3, size // 4), "before")):
                pattern = ExcludeLocal(size, size, span, masking=masking)  # type: ignore[arg-type]
                rows.append(measure(shape, pattern, dtype, rounds, device))
    if not tuning:
        print_tables(rows)
        print(measure_largest(dtype, device) if device.type == "cuda" else measure_largest(dtype, device, 4, 2))


if __name__ == "__main__":
    main()
