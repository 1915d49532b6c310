"""The training step of this tree against that of another checkout, in turns: does a change make it slower?

    python -m benchmarks.against OTHER_CHECKOUT/src [--rounds 9] [--imsize 64] [--batch 64] [--preset published]

Each tree has a process of its own, which takes a step when it is told to. Prints ms a step of both, by the wall clock
and as CPU time of the process, which other programs disturb less, and the ratio of the medians, this tree's by the
other's, with the range that nine in ten of the rounds' own ratios lie in.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from sagan.run.presets import PRESETS

CHILD = """
import sys, time
import torch
try:
    from sagan.training.trainer import Trainer
    from sagan.run.config import override
    from sagan.run.presets import PRESETS
except ImportError:  # the modules' names before the redesign
    from sagan.training.state import Training as Trainer
    from sagan.config import override
    from sagan.presets import PRESETS
from sagan.bench.pace import batches_of, noise
preset, imsize, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = override(PRESETS[preset], {"imsize": imsize, "batch_size": batch, "precision": "fp32"})
trainer = Trainer(config, torch.device("cpu"))
batches = batches_of(noise(config), config, torch.device("cpu"))
trainer.advance(batches)
for _ in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.advance(batches)
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--imsize", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--preset", default="published", choices=PRESETS)
    flags = parser.parse_args()
    trees = {"this": Path(__file__).parents[1] / "src", "other": flags.other.resolve()}
    words = [flags.preset, str(flags.imsize), str(flags.batch)]
    children = {name: start(source, words) for name, source in trees.items()}
    steps: dict[str, list[list[float]]] = {name: [] for name in trees}  # seconds by the wall clock and of the CPU
    for number in range(flags.rounds + 1):
        for name in sorted(trees, reverse=bool(number % 2)):  # each is first in turn
            taken = step(children[name], trees[name])
            if number:  # the first round warms up
                steps[name].append(taken)
    for child in children.values():
        child.communicate()
    for column, clock in enumerate(("wall", "CPU")):
        mine, its = ([taken[column] for taken in steps[name]] for name in trees)
        medians = statistics.median(mine), statistics.median(its)
        ratios = sorted(a / b for a, b in zip(mine, its, strict=True))
        edge = len(ratios) // 20
        print(
            f"{clock} time: this {medians[0] * 1e3:.0f} ms a step, other {medians[1] * 1e3:.0f} ms, "
            f"ratio {medians[0] / medians[1]:.3f} (rounds from {ratios[edge]:.3f} to {ratios[-1 - edge]:.3f})"
        )


def start(source: Path, words: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, "-c", CHILD, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def step(child: subprocess.Popen[str], source: Path) -> list[float]:
    """Seconds of one step of a child, by the wall clock and of its CPU time."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    if not (answer := child.stdout.readline()):
        sys.exit(f"the process of {source} ended, as its error above says")
    return list(map(float, answer.split()))


if __name__ == "__main__":
    main()
