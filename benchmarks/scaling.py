"""Time and memory of a training step as images grow: dense attention beside blocked, all keys beside pooled ones.

    python -m benchmarks.scaling [--device cuda] [--batch 2] [--threads 1] [--json FILE] [--figure docs/images/scaling]
    python -m benchmarks.scaling --draw FILE ... --figure docs/images/scaling

At 64, 128 and 256 pixels the generator attends on its largest hidden map, of 32x32, 64x64 and 128x128 pixels, and
nowhere else. "no attention" is the step without that layer; span 0 is full attention; dense is the reference backend,
which stores the whole matrix of weights. The ways take turns, round by round. With one thread on a CPU the time is the
CPU time of the process. Memory is the most that tensors take in a step.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sagan.bench.cost import count_cost, count_memory
from sagan.bench.machine import available_memory, describe_machine, machine_card
from sagan.bench.memory import peak_memory
from sagan.bench.pace import batches_of, noise
from sagan.bench.step import tensors_of
from sagan.bench.timing import time_in_turns
from sagan.core.attention import ExcludeLocal, attend
from sagan.core.attention.dispatch import BACKENDS
from sagan.run.config import Config, override
from sagan.system.sentences import binary
from sagan.training.loop import exact_convolutions
from sagan.training.trainer import Trainer

SIZES = (64, 128, 256)
_SHARE = 0.7  # of the free memory that a step may take


@dataclass(frozen=True)
class Way:
    """How attention is computed; without a backend there is none."""

    label: str
    backend: str | None = None
    span: int = 3
    pool: int = 1

    def config(self, imsize: int, batch: int) -> Config:
        attention = (imsize // 2,) if self.backend else ()
        changes = {"imsize": imsize, "batch_size": batch, "span": self.span, "pool": self.pool}
        eager = {"compile": False, "cuda_graphs": False}
        return override(Config(), {**changes, **eager, "g_attention": attention, "d_attention": ()})


def ways(device: torch.device) -> list[Way]:
    fused = "triton" if device.type == "cuda" and "triton" in BACKENDS else "blocked"
    return [
        Way("no attention"),
        Way("dense, span 0", "reference", span=0),
        Way("dense, span 3", "reference"),
        Way(f"{fused}, span 0", fused, span=0),
        Way(f"{fused}, span 3", fused),
        Way(f"{fused}, span 3, pool 2", fused, pool=2),
        Way(f"{fused}, span 3, pool 4", fused, pool=4),
    ]


def measure(imsize: int, batch: int, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """A row for each way: seconds, bytes and operations; no seconds or bytes where it does not fit into memory."""
    table = ways(device)
    fitting = [way for way in table if fits(way, imsize, batch, device)]
    memory: dict[str, int] = {}
    for attends in (False, True):
        steps = Steps(imsize, batch, attends, device)
        memory |= {way.label: steps.memory(way) for way in fitting if bool(way.backend) == attends}
        del steps
        gc.collect()  # a trainer is part of a reference cycle
    steps_of = {attends: Steps(imsize, batch, attends, device) for attends in (False, True)}
    calls = {way.label: partial(steps_of[bool(way.backend)].take, way) for way in fitting}
    one_thread = device.type == "cpu" and torch.get_num_threads() == 1
    timings = time_in_turns(calls, device, rounds, cpu_time=one_thread)
    return [
        {
            "imsize": imsize,
            "way": way.label,
            "seconds": timings[way.label].to_dict() if way.label in timings else None,
            "memory": memory.get(way.label),
            "operations": count_cost(way.config(imsize, batch), device).operations,
        }
        for way in table
    ]


class Steps:
    """A trainer with an attention layer or without one, whose steps compute attention in any way."""

    def __init__(self, imsize: int, batch: int, attends: bool, device: torch.device):
        config = Way("", "reference" if attends else None).config(imsize, batch)
        self.size, self.training = imsize // 2, Trainer(config, device)
        self.batches = batches_of(noise(config), config, device)
        self.training.advance(self.batches)  # makes Adam's moments, which every later step has too

    def take(self, way: Way) -> None:
        for layer in self.training.generator.attention.values():
            layer.pattern = ExcludeLocal(self.size, self.size, way.span, pool=way.pool)
            layer.attend = partial(attend, backend=way.backend)
        self.training.advance(self.batches)

    def memory(self, way: Way) -> int:
        """The most bytes of tensors in a step."""
        return peak_memory(partial(self.take, way), self.training.device, tensors_of(self.training))


def fits(way: Way, imsize: int, batch: int, device: torch.device) -> bool:
    """Whether a step fits into memory, as far as can be counted."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    config = way.config(imsize, batch)
    layers = (imsize // 2) ** 4 // way.pool**2 * batch * 4 if way.backend == "reference" else 0
    needed = count_memory(override(config, {"g_attention": ()}), device) + 5 * layers
    return free is None or needed < _SHARE * free


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    heads = f"{'size':>5} {'map':>8}  {'attention':24} {'GFLOP':>8}"
    print(f"{heads} {'median s':>9} {'least s':>8} {'spread':>7} {'memory':>9}")
    for row in rows:
        size, seconds = row["imsize"], row["seconds"]
        cells = f"{size:5} {f'{size // 2}x{size // 2}':>8}  {row['way']:24} {row['operations'] / 1e9:8.1f} "
        if seconds is None:
            print(cells + "  does not fit into memory")
        else:
            figures = f"{seconds['median']:9.3f} {seconds['least']:8.3f} {seconds['spread']:7.0%}"
            print(f"{cells}{figures} {binary(row['memory']):>9}")


def draw_files(sources: Sequence[Path], path: Path) -> None:
    """The figure of rows from several files; ValueError where they cannot be compared."""
    files = [json.loads(source.read_text()) for source in sources]
    if len({(file["batch"], file["machine"]) for file in files}) > 1:
        raise ValueError("these rows have different batches or machines: they cannot share an axis")
    rows = sorted((row for file in files for row in file["rows"]), key=lambda row: int(row["imsize"]))
    draw_figure(rows, files[0]["batch"], files[0]["machine"], path)


def draw_figure(rows: Sequence[dict[str, Any]], batch: int, machine: str, path: Path) -> None:
    """PNG and SVG: seconds and memory of a step over the size of the images, with markers instead of colours."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "sagan"  # the same figure is the same file
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    styles = {
        "no attention": (":", "x", "0.45"),
        "dense, span 0": ("--", "s", "0.0"),
        "dense, span 3": ("--", "D", "0.45"),
    }
    others = iter([("-", "o", "0.0"), ("-", "^", "0.45"), ("-.", "v", "0.2"), ("-.", "P", "0.55")])
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for way in dict.fromkeys(row["way"] for row in rows):
        line, marker, grey = styles.get(way) or next(others)
        some = [row for row in rows if row["way"] == way and row["seconds"]]
        sizes = [row["imsize"] for row in some]
        look = {"linestyle": line, "marker": marker, "color": grey, "markerfacecolor": "white", "label": way}
        axes[0].plot(sizes, [row["seconds"]["median"] for row in some], **look)
        axes[1].plot(sizes, [row["memory"] / 2**30 for row in some], **look)
    for axis, what in zip(axes, ("seconds of a step", "GiB of tensors, at most"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(SIZES, [f"{size} px\nattention {size // 2}x{size // 2}" for size in SIZES])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylabel(what)
        axis.grid(True, alpha=0.3)
    axes[0].legend(frameon=False, fontsize=9, handlelength=3.5)
    figure.suptitle(f"A training step at batch {batch}; {machine}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=120, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--figure", type=Path, help="where to draw, without an ending")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--draw", type=Path, nargs="*", default=(), help="draw the rows of such files, measure nothing")
    flags = parser.parse_args()
    if flags.draw:
        draw_files(flags.draw, flags.figure)
        return
    torch.set_num_threads(flags.threads)
    machine = describe_machine(machine_card(flags.device))
    print(f"{machine}; batch {flags.batch}, median of {flags.rounds} rounds", flush=True)
    rows: list[dict[str, Any]] = []
    with exact_convolutions("fp32"):
        for imsize in flags.sizes:
            new = measure(imsize, flags.batch, flags.rounds, flags.device)
            print_table(new)
            rows += new
            if flags.json:
                facts = {"machine": machine, "batch": flags.batch, "threads": flags.threads, "rows": rows}
                flags.json.write_text(json.dumps(facts, indent=1))
    print(
        "Excluding the square saves nothing: at span 3 it has 5 % of the keys of a 32x32 map and 0.3 % of a 128x128 "
        "one, and their scores are computed all the same. Pooling the keys does save."
    )
    if flags.figure:
        draw_figure(rows, flags.batch, machine, flags.figure)


if __name__ == "__main__":
    main()
