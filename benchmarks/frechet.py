"""Times the Fréchet distance against the other ways to compute it and prints a table.

    python -m benchmarks.frechet [--threads 1] [--dims 2048] [--quick]

Every cell is measured in a process of its own, so that its peak of memory can be read: the highest resident set, less
what it was before the distance began (two covariances exist by then). Seconds are the process's CPU time, with wall
time beside it. The features are artificial, with a spectrum that decays over four orders of magnitude.

* ours: `sagan.evaluation.metrics.frechet`; two symmetric eigenvalue problems. "factor kept": a further distance to the
  same reference, as in extrapolation.
* sqrtm: ``scipy.linalg.sqrtm`` of the product of the covariances, the way of most programs before 2023.
* eigvals: the eigenvalues of that unsymmetric product, the way of torchmetrics and torch-fidelity.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from functools import partial
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


WAYS = {"ours": frechet_distance, "ours, factor kept": frechet_distance, "eigvals": by_eigvals, "sqrtm": by_sqrtm}


def resident(field: str) -> float:
    """Megabytes resident now ("VmRSS") or at most since the peak was reset ("VmHWM"); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


def measure(name: str, count: int, dim: int, threads: int) -> str:
    """The cells of one way."""
    torch.set_num_threads(threads)
    a, b = (moments_of(count, dim, seed) for seed in (1, 2))
    run = partial(WAYS[name], factor=covariance_factor(b)) if name.endswith("factor kept") else WAYS[name]
    WAYS[name](*(moments_of(500, 64, seed) for seed in (1, 2)))  # loads what the first use loads
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, wall, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    value = run(a, b)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"{cpu:7.2f} {wall:7.2f} {resident('VmHWM') - before:6.0f}  {value:.10f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dims", type=int, nargs="*", default=[1280, 2048])
    parser.add_argument("--quick", action="store_true", help="small dims, to see that it runs")
    args = parser.parse_args()
    libraries = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"  # scipy's threads too
    os.environ.update(dict.fromkeys(libraries, str(args.threads)))
    print(f"{'images':>7} {'dim':>5}  {'way':<18} {'cpu s':>7} {'wall s':>7} {'MB':>6}  distance")
    for dim in [128] if args.quick else args.dims:
        for count in (5 * dim, dim // 2):  # the second has no full rank
            for name in WAYS:
                with multiprocessing.get_context("spawn").Pool(1) as fresh:
                    cells = fresh.apply(measure, (name, count, dim, args.threads))
                print(f"{count:7,} {dim:5}  {name:<18} {cells}", flush=True)


if __name__ == "__main__":
    main()
