"""Times the attention backends against plain dense attention, FlexAttention and torch's own full attention.

    python -m benchmarks.attention [--threads 1] [--rounds 5] [--dtype float32] [--quick]
    python -m benchmarks.attention --device cuda [--dtype bfloat16] [--sizes 16 32 64 128] [--tune]

One row for each shape, pattern and way, as in `sagan bench attention`: milliseconds forward, and forward and backward
(medians over the rounds, in which the ways take turns), the peak memory beyond the inputs, and the largest error of the
output and the gradients against float64. A star marks the backend that ``attend()`` takes. With one thread on a CPU
the time is the CPU time of the process. On a GPU each pass is captured in a CUDA graph, so that the processor's time to
launch kernels is left out, as it is in a captured training step.

"dense" is the published way: bmm, softmax, bmm, with a boolean mask made once. "flex" is FlexAttention, compiled, with
the same mask; it has no masking "after". "sdpa full" is torch's own attention without any mask: other results, less
work, the mark to reach. --tune times block sizes of the Triton kernels instead, some three minutes for each shape.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from sagan.bench.backends import (
    Call,
    Case,
    Inputs,
    Way,
    attention_rows,
    measure_case,
    memory_beyond_inputs,
    usable_backends,
)
from sagan.bench.timing import time_in_turns
from sagan.core.attention.patterns import ExcludeLocal, Pattern
from sagan.system.console import Console
from sagan.system.sentences import binary

CPU_SHAPES = [(16, 64, 16, 128), (32, 16, 8, 64), (32, 64, 8, 64), (32, 16, 32, 256), (64, 2, 8, 64), (128, 1, 8, 64)]
GPU_SHAPES = [(16, 64, 16, 128), (32, 64, 8, 64), (32, 16, 32, 256), (64, 16, 8, 64), (64, 4, 32, 256)]
GPU_SHAPES += [(128, 2, 8, 64), (128, 1, 32, 256)]  # size of the map, batch, dim, value_dim
LARGEST = (128, 64, 8, 64)  # which dense attention has no room for


def dense(pattern: Pattern, device: torch.device) -> Way:
    """The published way."""
    hidden = None if pattern.visible_share() == 1 else ~pattern.mask(device=device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.bmm(q.squeeze(1), k.squeeze(1).transpose(1, 2))
        if hidden is not None and pattern.masking == "before":
            scores = scores.masked_fill(hidden, -torch.inf)
        weights = scores.softmax(-1)
        if hidden is not None and pattern.masking == "after":
            weights = weights.masked_fill(hidden, 0)
        return torch.bmm(weights, v.squeeze(1)).unsqueeze(1)

    return attend


def flex(pattern: ExcludeLocal, device: torch.device) -> Way:
    """FlexAttention with the pattern's mask. It takes 16 channels or more: narrower queries and keys get zeros."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    width, span = pattern.width, 0 if pattern.span == "self" else pattern.span

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down, across = query // width - key // width, query % width - key % width
        return (down.abs() > span) | (across.abs() > span)

    mask = None
    if pattern.visible_share() < 1:
        mask = create_block_mask(sees, None, None, pattern.queries, pattern.keys, device=str(device))
    torch.compiler.reset()  # each shape is compiled for itself, and none counts as one recompilation too many
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (F.pad(x, (0, max(0, 16 - x.shape[-1]))) for x in (q, k))
        out: Tensor = compiled(q, k, v, block_mask=mask, scale=1.0)
        return out

    return attend


def measure(case: Case, inputs: Inputs, rounds: int) -> tuple[list[dict[str, object]], list[str]]:
    """A row for each way that can compute the case, and why the others cannot."""
    pattern, device = case.pattern, inputs.q.device
    backends, failures = usable_backends(case, inputs)
    ways = {"dense": dense(pattern, device), **backends}
    if device.type == "cuda":
        if pattern.masking == "before" or pattern.visible_share() == 1:
            ways["flex"] = flex(pattern, device)
        ways["sdpa full"] = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)
    for name, way in list(ways.items()):
        if reason := failure(partial(prepared, partial(inputs.both, way), device)):
            failures.append(f"{name}, N = {pattern.queries}, {pattern.label}: {reason}")
            del ways[name]
    one_thread = device.type == "cpu" and torch.get_num_threads() == 1
    return measure_case(case, inputs, ways, rounds, partial(prepared, device=device), cpu_time=one_thread), failures


def failure(call: Call) -> str | None:
    """Why a call fails here, for example because memory runs out or it cannot be captured; None where it does not."""
    try:
        call()
    except (RuntimeError, NotImplementedError) as error:  # out of memory is a RuntimeError
        return f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
    return None


def prepared(call: Call, device: torch.device) -> Call:
    """The call that is timed: on a GPU the replay of a captured graph."""
    if device.type != "cuda":
        return call
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, fills the caches
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def measure_largest(device: torch.device, dtype: torch.dtype) -> str:
    """The Triton kernels where dense attention has no room: one forward and backward pass, its time and its memory."""
    case = Case(ExcludeLocal(LARGEST[0], LARGEST[0], 3), *LARGEST[1:])
    inputs = case.inputs(device, dtype)
    both = partial(inputs.both, usable_backends(case, inputs)[0]["triton"])
    memory = memory_beyond_inputs(both, inputs)
    seconds = time_in_turns({"both": both}, device)["both"].median
    weights = case.batch * case.pattern.queries * case.pattern.keys * 4
    return (
        f"{LARGEST[0]}x{LARGEST[0]}, batch {case.batch}, triton: {seconds * 1e3:.1f} ms, {binary(memory)}; the weights "
        f"of dense attention would take {binary(weights)}"
    )


def tune(case: Case, inputs: Inputs) -> None:
    """Prints the five fastest block sizes of each kernel, with the other two kernels as the table has them."""
    from sagan.core.attention import triton_kernel

    device, dtype = inputs.q.device, inputs.q.dtype
    way = partial(triton_kernel.attend_triton, pattern=case.pattern)
    sizes = (32, 64, 128) if device.type == "cuda" else (16, 32)
    kernels: tuple[triton_kernel.Kernel, ...] = ("forward", "backward_queries", "backward_keys")
    for kernel in kernels:
        found, failed = [], 0
        now = triton_kernel.choose_blocks(kernel, case.dim, case.value_dim, dtype)
        call = partial(inputs.forward if kernel == "forward" else inputs.both, way)
        for queries, keys, warps in itertools.product(sizes, sizes, (4, 8)):
            blocks = triton_kernel.Blocks(queries, keys, warps, now.stages)
            with instead_of_the_table(kernel, blocks):
                if failure(call):
                    failed += 1
                    continue
                timing = time_in_turns({"call": prepared(call, device)}, device, rounds=3)["call"]
            found.append((timing.median, blocks))
        print(f"{case.pattern}, {kernel}: the table has {now}; {failed} others do not fit")
        for seconds, blocks in sorted(found, key=lambda each: each[0])[:5]:
            print(f"    {seconds * 1e3:8.3f} ms {blocks}", flush=True)


@contextmanager
def instead_of_the_table(kernel: str, blocks: object) -> Iterator[None]:
    from sagan.core.attention import triton_kernel

    table = triton_kernel.choose_blocks
    triton_kernel.choose_blocks = lambda name, *rest: blocks if name == kernel else table(name, *rest)
    try:
        yield
    finally:
        triton_kernel.choose_blocks = table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "float64"), help="bfloat16 on a GPU")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", help="of the maps (default: all)")
    parser.add_argument("--quick", action="store_true", help="one 16x16 map with a small batch, two rounds")
    parser.add_argument("--tune", action="store_true", help="instead, time block sizes of the Triton kernels")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    on_gpu = flags.device.type == "cuda"
    dtype = getattr(torch, flags.dtype or ("bfloat16" if on_gpu else "float32"))
    shapes = [shape for shape in (GPU_SHAPES if on_gpu else CPU_SHAPES) if not flags.sizes or shape[0] in flags.sizes]
    shapes = [(16, 4, 16, 128)] if flags.quick else shapes or [(size, 2, 8, 64) for size in flags.sizes]
    name = torch.cuda.get_device_name(flags.device) if on_gpu else f"a CPU, {flags.threads} thread(s)"
    print(f"torch {torch.__version__}, {name}, {dtype}, float32 products {torch.backends.cuda.matmul.fp32_precision}")
    rows, notes = [], list[str]()
    for size, batch, dim, value_dim in shapes:
        span = min(3, size // 4)
        for pattern in (
            ExcludeLocal(size, size, 0),
            ExcludeLocal(size, size, span),
            ExcludeLocal(size, size, span, masking="before"),
        ):
            case = Case(pattern, batch, dim, value_dim)
            inputs = case.inputs(flags.device, dtype)
            if flags.tune:
                if (pattern.span, pattern.masking) == (span, "after"):
                    tune(case, inputs)
                continue
            measured, failures = measure(case, inputs, 2 if flags.quick else flags.rounds)
            rows += measured
            notes += [note for note in failures if note not in notes]
    if flags.tune:
        return
    Console().table(attention_rows({"rows": rows}))
    print("\n".join(notes))
    if on_gpu:
        print(measure_largest(flags.device, dtype))


if __name__ == "__main__":
    main()
