"""Times the attention backends against plain dense attention and prints a table.

    python benchmarks/attention.py [--threads 1] [--rounds 5] [--dtype float32] [--quick]

Each cell is forward / forward + backward. The ways are run in turns, round after round, and a ratio is the median over
the rounds of dense's time by the way's time in the same round, so a machine that slows down for a while slows them all.
With one thread the time is the CPU time of the process, with more it is wall time. The largest map is measured in a
process of its own for each way, where the peak of the memory can be read too.

"dense" is written plainly, the way the published program does it: bmm, softmax, bmm, with a boolean mask made once.
With --device cuda the tables are those of benchmarks/fused_attention.py.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sagan.core.attention.blocked import attend_blocked
from sagan.core.attention.dispatch import attend
from sagan.core.attention.patterns import ExcludeLocal, Pattern
from sagan.core.attention.reference import attend_reference

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    size: int  # the map is size x size
    batch: int
    dim: int
    value_dim: int

    @property
    def label(self) -> str:
        return f"N={self.size**2} B={self.batch} {self.dim}/{self.value_dim}"


SHAPES = [
    (Shape(16, 64, 16, 128), (0, 3)),
    (Shape(32, 16, 8, 64), (0, 3)),
    (Shape(32, 64, 8, 64), (3,)),
    (Shape(32, 16, 32, 256), (3,)),
    (Shape(64, 2, 8, 64), (3,)),
]
LARGEST = Shape(128, 1, 8, 64)


def dense(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, hidden: Tensor | None) -> Tensor:
    """The published way; q, k, v as the 1x1 convolutions give them: (batch, channels, positions)."""
    scores = torch.bmm(q.transpose(1, 2), k)
    if hidden is not None and pattern.masking == "before":
        scores = scores.masked_fill(hidden, -torch.inf)
    weights = scores.softmax(-1)
    if hidden is not None and pattern.masking == "after":
        weights = weights.masked_fill(hidden, 0)
    return torch.bmm(v, weights.transpose(1, 2))


def ways(pattern: Pattern, device: torch.device) -> dict[str, Way]:
    """Every way to compute the pattern's attention, on (batch, channels, positions)."""

    def ours(attend: Callable[..., Tensor]) -> Way:
        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            heads = (x.transpose(1, 2).unsqueeze(1) for x in (q, k, v))  # (batch, 1, positions, channels)
            return attend(*heads, pattern).squeeze(1).transpose(1, 2)

        return run

    @functools.cache
    def hidden() -> Tensor | None:  # made by the first call of dense, so that the other ways do not pay for it
        return None if pattern.visible_share() == 1 else ~pattern.mask(device=device)

    return {
        "dense": lambda q, k, v: dense(q, k, v, pattern, hidden()),
        "reference": ours(attend_reference),
        "blocked": ours(attend_blocked),
        "attend": ours(attend),
    }


def inputs(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    sizes = (shape.dim, shape.dim, shape.value_dim, shape.value_dim)
    q, k, v, grad = (torch.randn(shape.batch, size, shape.size**2, dtype=dtype, device=device) for size in sizes)
    return [x.requires_grad_() for x in (q, k, v)], grad


def timed(way: Way, qkv: list[Tensor], grad: Tensor) -> tuple[float, float]:
    """Seconds of the forward pass, and of the forward and backward pass."""
    cpu_alone = grad.device.type == "cpu" and torch.get_num_threads() == 1

    def now() -> float:
        if grad.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if cpu_alone else time.perf_counter()

    start = now()
    out = way(*qkv)
    middle = now()
    torch.autograd.grad(out, qkv, grad)
    return middle - start, now() - start


def measure(shape: Shape, pattern: Pattern, dtype: torch.dtype, rounds: int, device: torch.device) -> str:
    qkv, grad = inputs(shape, dtype, device)
    table = ways(pattern, device)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
    for _ in range(rounds + 1):
        for name, way in table.items():
            times[name].append(timed(way, qkv, grad))
    times = {name: measured[1:] for name, measured in times.items()}  # the first round warms up
    cells = [f"{shape.label:<22}{pattern.label:<15}"]
    cells += [f"{'/'.join(f'{statistics.median(part) * 1e3:.0f}' for part in zip(*times['dense'], strict=True)):>12}"]
    for name in list(table)[1:]:
        pairs = [[d / t for d, t in zip(a, b, strict=True)] for a, b in zip(times["dense"], times[name], strict=True)]
        cells.append(f"{'/'.join(f'{statistics.median(ratio):.2f}' for ratio in zip(*pairs, strict=True)):>14}")
    return "".join(cells)


def memory_mib(field: str) -> float:
    """This process's resident memory now ("VmRSS") or at its peak ("VmHWM"); Linux tells."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/self/status has no {field}")


def measure_alone(name: str, masking: str, dtype: torch.dtype, rounds: int) -> str:
    """The best time and the peak memory over the import of one way on the largest map, in this process."""
    pattern = ExcludeLocal(LARGEST.size, LARGEST.size, 3, masking=masking)  # type: ignore[arg-type]
    imported = memory_mib("VmRSS")
    qkv, grad = inputs(LARGEST, dtype, torch.device("cpu"))
    way = ways(pattern, torch.device("cpu"))[name]
    times = [timed(way, qkv, grad) for _ in range(rounds)]
    forward, both = (min(part) for part in zip(*times, strict=True))
    peak = memory_mib("VmHWM") - imported
    return f"{LARGEST.label:<22}{pattern.label:<15}{name:<11}{forward:>8.2f}{both:>8.2f} s{peak:>9.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after one that warms up (default 5)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64"))
    parser.add_argument("--device", default="cpu", type=torch.device, help="cpu or cuda (not with --alone)")
    parser.add_argument("--quick", action="store_true", help="the two smallest shapes, two rounds")
    parser.add_argument("--alone", nargs=2, metavar=("WAY", "MASKING"), help="only the largest map, one way")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    if options.device.type == "cuda":
        from benchmarks import fused_attention  # imports Triton

        fused_attention.run(options.device, dtype, options.rounds, [16, 32] if options.quick else [16, 32, 64, 128])
        return
    if options.alone:
        print(measure_alone(*options.alone, dtype, options.rounds))
        return
    rounds, shapes = (2, SHAPES[:2]) if options.quick else (options.rounds, SHAPES)
    print(f"torch {torch.__version__}, {options.dtype}, {options.threads} thread(s), median of {rounds} rounds")
    print("forward / forward + backward: milliseconds of dense, then how many times faster than dense")
    print(f"{'':<22}{'':<15}{'dense ms':>12}{'reference':>14}{'blocked':>14}{'attend':>14}")
    for shape, spans in shapes:
        for span in spans:
            for masking in ("after", "before") if span else ("after",):
                pattern = ExcludeLocal(shape.size, shape.size, span, masking=masking)
                print(measure(shape, pattern, dtype, rounds, options.device), flush=True)
    if options.quick:
        return
    print("alone in a process: best forward, best forward + backward, peak memory over the import")
    for masking in ("after", "before"):
        for name in ("dense", "reference", "blocked"):
            command = [sys.executable, __file__, "--alone", name, masking, "--rounds", "2"]
            subprocess.run([*command, "--threads", str(options.threads), "--dtype", options.dtype], check=False)


if __name__ == "__main__":
    main()
