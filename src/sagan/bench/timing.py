"""Times of several calls made in turns, so that a change in the machine's load favours none of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from sagan.system.callbacks import Progress

ROUNDS = 5

_LEAST_SECONDS = 0.01  # a shorter call is repeated until it takes this long
_MOST_REPEATS = 1000


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, a number for each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def spread(self) -> float:
        """The difference between the slowest and the fastest round, as a share of the median."""
        return (max(self.rounds) - self.least) / self.median

    def ratio(self, other: Timing) -> float:
        """How many times as long the other call takes: the median over the rounds, each compared within itself."""
        return statistics.median(b / a for a, b in zip(self.rounds, other.rounds, strict=True))

    def to_dict(self) -> dict[str, float]:
        return {"median": self.median, "least": self.least, "spread": self.spread}


def time_in_turns(
    ways: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int = ROUNDS,
    on_round: Progress | None = None,
    *,
    cpu_time: bool = False,
) -> dict[str, Timing]:
    """Seconds of each way, called in turns for several rounds after a warm-up.

    Measured by the device's own clock on CUDA and by the wall clock elsewhere; with ``cpu_time`` by the CPU time of the
    process, which other programs disturb less (on a CPU, with one thread). ``on_round`` is called with (rounds done,
    rounds in all).
    """
    clock = time.process_time if cpu_time and device.type == "cpu" else time.perf_counter
    repeats = {name: _warm_up(way, device) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            seconds[name].append(_seconds(way, device, repeats[name], clock))
        if on_round:
            on_round(number + 1, rounds)
    return {name: Timing(tuple(taken)) for name, taken in seconds.items()}


def _warm_up(way: Callable[[], object], device: torch.device) -> int:
    """The number of calls in a round, found after a first call that may compile or allocate."""
    seconds = _seconds(way, device, 1)
    if device.type != "cpu" or seconds < 5 * _LEAST_SECONDS:
        seconds = _seconds(way, device, 1)
    return max(1, min(_MOST_REPEATS, int(_LEAST_SECONDS / max(seconds, 1e-9))))


def _seconds(
    way: Callable[[], object], device: torch.device, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one call, the mean over the repeats."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(device)
        start.record(stream)
        for _ in range(repeats):
            way()
        end.record(stream)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000 / repeats
    began = clock()
    for _ in range(repeats):
        way()
    if device.type == "mps":
        torch.mps.synchronize()
    return (clock() - began) / repeats
