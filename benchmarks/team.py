"""Processes ("ranks") that train together and are timed, for `benchmarks.ranks`."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import torch
from torch import Tensor, multiprocessing

from benchmarks.network import Wire
from sagan.bench.pace import batches_of, noise, warm_up
from sagan.run.config import Config
from sagan.system.world import World, joined
from sagan.training.loop import exact_convolutions
from sagan.training.trainer import Trainer

LONG = 1 << 20  # numbers of the long vector
STEPS = 2  # in a round


@dataclass(frozen=True)
class Timed(World):
    """A world that notes the seconds of each exchange, and the bytes that go out of this process."""

    exchanges: list[tuple[float, int]] = field(default_factory=list)

    def add_up(self, rows: Tensor, total: Tensor) -> None:
        seconds = seconds_of(lambda: super(Timed, self).add_up(rows, total), rows.device)
        slices = (rows.shape[0] + 1) * -(-rows.shape[1] // self.size)  # of each row, and of the sum
        self.exchanges.append((seconds, slices * (self.size - 1) * rows.element_size()))


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Seconds from when the device has nothing to do until it has done this."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - began


def probe(world: World, device: torch.device) -> tuple[Wire, float]:
    """The wire between the processes, and seconds of the message in which they agree whether to stop."""

    def median(action: Callable[[], object]) -> float:
        return statistics.median(seconds_of(action, device) for _ in range(15))

    def adding(count: int) -> float:
        rows, total = torch.ones(1, count, device=device), torch.empty(count, device=device)
        return median(lambda: world.add_up(rows, total))

    short, long, others = adding(world.size), adding(LONG), world.size - 1
    size = 2 * 4 * LONG * others / world.size  # bytes
    return Wire(short / (2 * others), size / max(long - short, 1e-9)), median(lambda: world.largest(0, 0))


def work(rank: int, config: Config, variables: dict[str, str], pipe: Connection) -> None:
    """One process: takes steps whenever it is told to."""
    os.environ.update(variables, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    device = torch.device("cpu")
    if config.run.device == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
    with joined() as plain, exact_convolutions(config.run.precision):
        world = Timed(plain.rank, plain.size, plain.link)
        trainer, batches = Trainer(config, device, world), batches_of(noise(config), config, device)
        warm_up(trainer, batches)
        pipe.send(probe(plain, device) if plain.size > 1 else None)
        while pipe.recv():
            world.exchanges.clear()
            seconds = seconds_of(lambda: [trainer.advance(batches) for _ in range(STEPS)], device)
            pipe.send((seconds, list(world.exchanges)))


class Team:
    """Some ranks that train together, and what was measured of them, a number for each round."""

    def __init__(self, ranks: int, config: Config):
        self.ranks, self.config = ranks, config
        self.seconds: list[float] = []  # of a step
        self.shares: list[float] = []  # of the exchange
        self.least: list[float] = []  # seconds of a step's exchanges, without waiting
        self.size = 0.0  # bytes that go out of a rank in a step
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        variables = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        spawn = multiprocessing.get_context("spawn")
        ends = [spawn.Pipe() for _ in range(ranks)]
        for rank, (_, end) in enumerate(ends):
            spawn.Process(target=work, args=(rank, config, variables, end), daemon=True).start()
            end.close()
        self.pipes = [pipe for pipe, _ in ends]
        self.found: tuple[Wire, float] = [pipe.recv() for pipe in self.pipes][-1]

    def forget(self) -> None:
        self.seconds, self.shares, self.least = [], [], []

    def tell(self, go_on: bool) -> None:
        for pipe in self.pipes:
            pipe.send(go_on)

    def take_round(self) -> None:
        self.tell(True)
        seconds, exchanges = zip(*(pipe.recv() for pipe in self.pipes), strict=True)
        spent = [[each for each, _ in of_rank] for of_rank in exchanges]
        self.seconds.append(max(seconds) / STEPS)
        self.shares.append(statistics.fmean(sum(few) / all_ for few, all_ in zip(spent, seconds, strict=True)))
        self.least.append(sum(map(min, zip(*spent, strict=True))) / STEPS)
        self.size = sum(size for _, size in exchanges[0]) / STEPS
