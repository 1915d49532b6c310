"""A model of training on many GPUs: computed from counted operations and bytes and from stated figures, not measured.

`docs/scaling.md` states the assumptions and has the tables, which ``python -m benchmarks.ranks --predict`` prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sagan.bench.cost import count_cost
from sagan.bench.pace import batches_of, noise
from sagan.run.config import Config, override
from sagan.run.presets import PRESETS
from sagan.system.world import World
from sagan.training.trainer import Trainer

SIZES = {"published": {}, "best": {}, "paper": {"num_classes": 1000}}
BATCH = 64  # images a GPU; of all GPUs together 8 times as many, where that is fixed
GPUS = (8, 64, 512)
PEAK = 989e12  # operations a second of an H100 SXM in bf16, without sparsity
SHARE_OF_PEAK = 0.15
LEAST_STEP = 2e-3  # seconds: about a thousand kernels, however few the images
LAUNCH = 5e-6  # seconds of the host for one kernel that is not part of a graph
DRAW = 4.4e-9  # seconds for one normal number, measured on a CPU


@dataclass(frozen=True)
class Wire:
    """What connects two processes: seconds a message, and bytes a second out of each process."""

    latency: float
    bandwidth: float

    def seconds(self, messages: float, size: float) -> float:
        return messages * self.latency + size / self.bandwidth


@dataclass(frozen=True)
class Network:
    """Machines of ``width`` GPUs."""

    inside: Wire
    between: Wire
    width: int = 8

    def all_to_all(self, size: float, ranks: int) -> float:
        """Each rank sends its slice of ``size`` bytes to each other, one message after the other."""
        near = min(self.width, ranks) - 1
        far, piece = ranks - 1 - near, size / ranks
        return self.inside.seconds(near, near * piece) + self.between.seconds(far, far * piece)

    def ring(self, size: float, ranks: int) -> float:
        """An all-gather in which the slices go from neighbour to neighbour; all network cards carry a part of it."""
        crossings = max(ranks // self.width, 1) - 1
        latency = (ranks - 1 - crossings) * self.inside.latency + crossings * self.between.latency
        return latency + size * (ranks - 1) / ranks / self._through(crossings + 1)

    def _through(self, machines: int) -> float:
        """Bytes a second from GPU to GPU through all machines, whose network cards share the way out."""
        inside = self.inside.bandwidth
        return inside if machines == 1 else min(inside, self.width * self.between.bandwidth)

    def add_up(self, size: float, ranks: int) -> float:
        """As `sagan.system.link.Link.add_up` does it."""
        return self.all_to_all(size, ranks) + self.ring(size, ranks)

    def machine_first(self, size: float, ranks: int) -> float:
        """The same sums: in each machine, then each GPU with those of its number in the others, then back."""
        machines = max(ranks // self.width, 1)
        across = replace(self, inside=self.between, width=1)
        return 2 * (self.all_to_all(size, min(ranks, self.width)) + across.all_to_all(size / self.width, machines))

    def ring_reduce(self, size: float, ranks: int) -> float:
        """A ring all-reduce, whose sums depend on the number of ranks."""
        return 2 * self.ring(size, ranks)

    def tree_reduce(self, size: float, ranks: int) -> float:
        """A binary tree, up and down, all links of which are busy at once."""
        machines = max(ranks // self.width, 1)
        depth = math.log2(min(ranks, self.width)) * self.inside.latency + math.log2(machines) * self.between.latency
        return 2 * (depth + size / self._through(machines))

    def without_latency(self) -> Network:
        return replace(self, inside=replace(self.inside, latency=0), between=replace(self.between, latency=0))


NVLINK = Wire(10e-6, 450e9)
INFINIBAND = Network(NVLINK, Wire(25e-6, 50e9))
ETHERNET = Network(NVLINK, Wire(50e-6, 12.5e9 / 8))  # one card of 100 Gb/s a machine, TCP
NETWORKS = {"InfiniBand": INFINIBAND, "Ethernet": ETHERNET}
CONTROL = Network(Wire(20e-6, 1e9), Wire(50e-6, 1e9))  # gloo over TCP


@dataclass(frozen=True)
class Counting(World):
    """The first of two processes, without the other: notes how many numbers it would exchange."""

    sent: list[int] = field(default_factory=list)

    def add_up(self, rows: Tensor, total: Tensor) -> None:
        self.sent.append(rows.numel())
        total.copy_(rows.sum(0))


@dataclass(frozen=True)
class Work:
    """What a step takes: numbers in each exchange, operations for an image, and the length of its z."""

    parameters: tuple[int, int]
    numbers: tuple[int, ...]
    operations: float
    z_dim: int

    def compute(self, batch: float) -> float:
        return max(batch * self.operations / (SHARE_OF_PEAK * PEAK), LEAST_STEP)

    def exchange(self, network: Network, ranks: int) -> tuple[float, float]:
        """Seconds of a step: of the bytes alone, and with all messages one after the other."""
        ways = network.without_latency(), network
        least, most = (sum(way.add_up(4 * n, ranks) for n in self.numbers) for way in ways)
        return least, most

    def host(self, ranks: int, batch: float) -> tuple[float, ...]:
        """Seconds of the CPU in a step: the control message, launching the additions, drawing z for the whole batch."""
        updates = len(self.numbers)
        drawn = updates * ranks * batch * self.z_dim
        return 2 * CONTROL.ring(0, ranks), updates * (ranks - 1) * LAUNCH, drawn * DRAW


def work_of(config: Config) -> Work:
    two = override(config, {"batch_size": 2, "shards": 2, "precision": "fp32"})
    world = Counting(0, 2)
    Trainer(two, torch.device("cpu"), world).advance(batches_of(noise(two), two, torch.device("cpu")))
    cost = count_cost(override(config, {"batch_size": BATCH}))
    parameters = cost.generator_parameters, cost.discriminator_parameters
    return Work(parameters, tuple(world.sent), cost.operations / BATCH, config.model.z_dim)


def tables() -> Iterator[str]:
    """The tables of `docs/scaling.md`, line by line."""
    works = {name: work_of(override(PRESETS[name], changes)) for name, changes in SIZES.items()}
    yield from _head("", "parameters G, D", "numbers in an exchange, D, G", "MB a step", "GFLOP an image")
    for name, work in works.items():
        parameters, numbers = (", ".join(f"{n:,}" for n in of_both) for of_both in (work.parameters, work.numbers))
        yield _line(name, parameters, numbers, f"{4 * sum(work.numbers) / 1e6:.1f}", f"{work.operations / 1e9:.1f}")
    for fixed in (False, True):
        yield f"\nThe batch {'of all' if fixed else 'of each GPU'} fixed:\n"
        networks = [column for name in NETWORKS for column in (f"{name}, ms", "share", "img/s")]
        yield from _head("", "GPUs", "batch a GPU", "compute ms", *networks)
        for name, work in works.items():
            for ranks in GPUS:
                batch = BATCH * GPUS[0] // ranks if fixed else BATCH
                cells = [cell for network in NETWORKS.values() for cell in _exchange(work, network, ranks, batch)]
                yield _line(name, ranks, batch, _ms(work.compute(batch)), *cells)
    yield "\nThe fewest machines of 8 GPUs that spend more than a third of a step in the exchange:\n"
    yield from _head("", *(f"{name}, {end}" for name in NETWORKS for end in ("bytes alone", "messages in turn")))
    for name, work in works.items():
        yield _line(name, *(_limit(work, network, end) for network in NETWORKS.values() for end in (0, 1)))
    yield "\nOther ways to add up, ms a step on InfiniBand with all latencies:\n"
    yield from _head("", "GPUs", "as it is", "ring", "tree", "machine first")
    ways = Network.add_up, Network.ring_reduce, Network.tree_reduce, Network.machine_first
    for name, work in works.items():
        for ranks in GPUS:
            yield _line(name, ranks, *(_ms(sum(way(INFINIBAND, 4 * n, ranks) for n in work.numbers)) for way in ways))
    yield "\nThe CPU of a process, ms a step at 64 images a GPU:\n"
    yield from _head("GPUs", "control message", "launching the additions", "drawing z")
    for ranks in GPUS:
        yield _line(ranks, *map(_ms, works["best"].host(ranks, BATCH)))


def _exchange(work: Work, network: Network, ranks: int, batch: int) -> tuple[str, str, str]:
    """Its time, its share of a step, and images a second, each from the bytes alone to all messages in turn."""
    least, most = work.exchange(network, ranks)
    steps = [work.compute(batch) + seconds for seconds in (least, most)]
    rates = [float(f"{ranks * batch / step:.2g}") for step in steps]
    return (
        f"{_ms(least)} to {_ms(most)}",
        f"{least / steps[0]:.0%} to {most / steps[1]:.0%}",
        f"{rates[0]:,.0f} to {rates[1]:,.0f}",
    )


def _limit(work: Work, network: Network, end: int) -> str:
    compute = work.compute(BATCH)
    machines = range(1, 513)
    beyond = (n for n in machines if 2 * work.exchange(network, n * network.width)[end] > compute)
    return str(next(beyond, f"none of {machines[-1]}"))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds >= 0.01 else f"{seconds * 1e3:.2g}"


def _head(*names: str) -> Iterator[str]:
    yield _line(*names)
    yield "|---" * len(names) + "|"


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
