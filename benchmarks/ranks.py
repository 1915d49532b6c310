"""Seconds of a training step on several processes ("ranks"), and how much of them the exchange takes.

    python -m benchmarks.ranks [--device cuda] [--imsize 64] [--width 64] [--batch 64] [--ranks 1 2 4 8] [--rounds 5]
    python -m benchmarks.ranks --predict

There are as many shards as the most ranks; beside them one rank takes one shard. All take turns, each rank on its own
GPU or with one CPU thread. The exchange is `World.add_up`: "share" is what a rank spends in it on average, waiting for
the others included; "least ms" is without the waiting, of the rank that came last each time. Predicted: 2 (ranks - 1)
messages * latency + bytes / bandwidth for each exchange, and for a step besides that of one rank with all shards,
divided by the ranks. Latency and bandwidth are those of adding up a short and a long vector beforehand; "control ms" is
the message in which ranks agree whether to stop. ``--predict`` prints the tables of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.network import tables
from benchmarks.team import STEPS, Team
from sagan.bench.machine import describe_machine, machine_card
from sagan.bench.timing import Timing
from sagan.run.config import override
from sagan.run.presets import PRESETS

HEADS = (
    "ranks shards s a step   img/s speed-up | share least ms MB out | predicted ms s a step | "
    "latency us GB/s control ms"
)


def describe(team: Team, alone: Team) -> str:
    """A line of the table; ``alone`` is one rank with the same shards."""
    game, timing, reference = team.config.game, Timing(tuple(team.seconds)), Timing(tuple(alone.seconds))
    rate, ratio = game.batch_size / timing.median, timing.ratio(reference)
    line = f"{team.ranks:5} {game.shards:6} {timing.median:8.3f} {rate:7.1f} {ratio:8.2f}"
    if team.ranks == 1:
        return line
    share, least = statistics.median(team.shares), statistics.median(team.least) * 1e3
    wire, control = team.found
    predicted = wire.seconds((game.n_critic + 1) * 2 * (team.ranks - 1), team.size)
    line += f" | {share:5.0%} {least:8.2f} {team.size / 1e6:6.2f}"
    line += f" | {predicted * 1e3:12.2f} {reference.median / team.ranks + predicted:8.3f}"
    return f"{line} | {wire.latency * 1e6:10.0f} {wire.bandwidth / 1e9:4.2f} {control * 1e3:10.2f}"


def measure(flags: argparse.Namespace) -> None:
    on_gpu = flags.device == "cuda"
    counts = sorted({1, *(flags.ranks or [n for n in (2, 4, 8) if n <= (torch.cuda.device_count() if on_gpu else 2)])})
    imsize, width = flags.imsize or (64 if on_gpu else 32), flags.width or (64 if on_gpu else 32)
    batch = flags.batch or (64 * counts[-1] if on_gpu else 16)
    size = {"imsize": imsize, "g_conv_dim": width, "d_conv_dim": width, "batch_size": batch}
    config = override(PRESETS["published"], size | {"device": flags.device, "precision": flags.precision})
    print(describe_machine(machine_card(torch.device(flags.device))))
    what = f"{imsize}x{imsize}, width {width}, batch {batch}, {flags.precision}"
    print(f"published, {what}: medians of {flags.rounds} rounds of {STEPS} steps\n{HEADS}", flush=True)
    shards = [1, *(counts[-1] for _ in counts)]
    teams = [Team(*each) for each in zip([1, *counts], (override(config, {"shards": s}) for s in shards), strict=True)]
    for number in range(flags.rounds + 1):
        for team in teams:
            team.take_round()
            if number == 0:  # which warms up
                team.forget()
    for team in teams:
        print(describe(team, teams[1]))
        team.tell(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--ranks", type=int, nargs="+", help="by default 1, 2, 4, 8 as there are GPUs; 1, 2 on a CPU")
    parser.add_argument("--imsize", type=int, help="by default 64 on GPUs, 32 on a CPU")
    parser.add_argument("--width", type=int, help="by default 64 on GPUs, 32 on a CPU")
    parser.add_argument("--batch", type=int, help="of all ranks; by default 64 a GPU, 16 on a CPU")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--predict", action="store_true", help="measure nothing: compute what many GPUs would take")
    flags = parser.parse_args()
    if flags.predict:
        for line in tables():
            print(line, flush=True)
    else:
        measure(flags)


if __name__ == "__main__":
    main()
