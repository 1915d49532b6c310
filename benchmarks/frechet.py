"""Times the Fréchet distance against the other ways to compute it and prints a table.

    python -m benchmarks.frechet [--threads 1] [--dims 2048] [--quick]

Every cell is measured in a process of its own, so that its peak of memory can be read: the resident set at its highest,
less what it was before the distance began (two covariances are there by then). Seconds are the process's CPU time, and
wall time beside it. Features are made up: as many as said, with a spectrum that decays over four orders of magnitude.

* ours: `sagan.evaluation.metrics.frechet`; two symmetric eigenvalue problems. "factor kept": a further distance to the
  same reference, as in extrapolation.
* sqrtm: ``scipy.linalg.sqrtm`` of the product of the covariances, the way of most programs before 2023.
* eigvals: the eigenvalues of that product, unsymmetric, the way of torchmetrics and torch-fidelity.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sagan.evaluation.metrics.frechet import covariance_factor, frechet_distance
from sagan.evaluation.metrics.moments import Moments


def moments_of(count: int, dim: int, seed: int) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -2, dim, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    moments = Moments(dim)
    for first in range(0, count, 500):
        rows = torch.randn(min(500, count - first), dim, generator=generator, dtype=torch.float64)
        moments.add((rows * scale) @ turn + 0.01 * seed)
    return moments


def assembled(a: Moments, b: Moments, trace_of_root: float) -> float:
    apart = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    return apart.item() - 2 * trace_of_root


def by_sqrtm(a: Moments, b: Moments) -> float:
    from scipy.linalg import sqrtm

    return assembled(a, b, float(sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real.trace()))


def by_eigvals(a: Moments, b: Moments) -> float:
    return assembled(a, b, torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum().item())


def way(name: str, a: Moments, b: Moments) -> Callable[[], float]:
    if name == "ours, factor kept":
        factor = covariance_factor(b)
        return lambda: frechet_distance(a, b, factor=factor)
    return {
        "ours": lambda: frechet_distance(a, b),
        "sqrtm": lambda: by_sqrtm(a, b),
        "eigvals": lambda: by_eigvals(a, b),
    }[name]


def resident(peak: bool = False) -> float:
    """Megabytes resident now, or at most since the peak was forgotten (Linux)."""
    key = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(key)) / 1000


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(name: str, count: int, dim: int, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    run = way(name, moments_of(count, dim, 1), moments_of(count, dim, 2))
    way(name, moments_of(500, 64, 1), moments_of(500, 64, 2))()  # whatever is loaded at the first use
    forget_peak()
    before, wall, cpu = resident(), time.perf_counter(), time.process_time()
    value = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"value": value, "cpu": cpu, "wall": wall, "megabytes": resident(peak=True) - before}


def measured_apart(name: str, count: int, dim: int, threads: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.frechet",
        "--one",
        name,
        str(count),
        str(dim),
        "--threads",
        str(threads),
    ]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))  # scipy's too
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **limits}).stdout
    found: dict[str, float] = json.loads(answer)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dims", type=int, nargs="*", default=[1280, 2048])
    parser.add_argument("--quick", action="store_true", help="small dims, to see that it runs")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "COUNT", "DIM"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, count, dim = args.one
        print(json.dumps(measure(name, int(count), int(dim), args.threads)))
        return
    print(f"{'images':>7} {'dim':>5}  {'way':<18} {'cpu s':>7} {'wall s':>7} {'MB':>6}  distance")
    for dim in [128] if args.quick else args.dims:
        for count in (5 * dim, dim // 2):  # the second has no full rank
            for name in ("ours", "ours, factor kept", "eigvals", "sqrtm"):
                found = measured_apart(name, count, dim, args.threads)
                cells = f"{found['cpu']:7.2f} {found['wall']:7.2f} {found['megabytes']:6.0f}  {found['value']:.10f}"
                print(f"{count:7,} {dim:5}  {name:<18} {cells}", flush=True)


if __name__ == "__main__":
    main()
