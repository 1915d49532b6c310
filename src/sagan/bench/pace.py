"""Real steps on noise: how fast a run will be, and how large a batch fits."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from sagan.bench.cost import count_memory
from sagan.bench.machine import available_memory
from sagan.bench.timing import ROUNDS, Timing, time_in_turns
from sagan.data.batches import Batches
from sagan.run.config import Config, override
from sagan.system.console import duration
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.sentences import binary, plural
from sagan.training.loop import exact_convolutions
from sagan.training.trainer import Trainer, steps_by_kind

_SHARE = 0.9  # of the memory that a batch may fill: sampling and scoring need some too
_SMALL_BATCHES = (4, 2, 1)  # where 8 does not fit

MOST_SECONDS = 20.0  # of measuring a pace
_SIZES = (1, 8, 64, 512)  # of batches that are tried before a larger one
_LEAST_CALLS = 3  # of a step: to warm up, to find the number of repeats, to be timed


def noise(config: Config) -> npt.NDArray[np.uint8]:
    """One batch of images of uniform noise: uint8 (batch, height, width, channels)."""
    shape = config.game.batch_size, *config.model.shape.hwc
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def batches_of(images: npt.NDArray[np.uint8], config: Config, device: torch.device) -> Batches:
    """Batches of images as a run makes them, in their own order; their classes are assigned in turn."""

    def in_order(epoch: int) -> torch.Tensor:
        return torch.arange(len(images))

    classes = config.model.num_classes
    assert classes != "auto", "it is replaced by a number before networks are built"
    labels = np.arange(len(images)) % classes if classes else None
    resident = config.run.resident
    return Batches(images, config.game.batch_size, in_order, device, resident, channels_last=True, labels=labels)


# ---- how fast


@dataclass(frozen=True)
class Pace:
    """How long a step takes, and from it the whole run, without its samples, checkpoints and scores.

    ``measured``: the images in a step that was timed, where whole batches take too long.
    """

    timing: Timing
    batch_size: int
    total_step: int
    measured: int | None = None

    @property
    def seconds_per_step(self) -> float:
        return self.timing.median

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.timing.median

    @property
    def total_seconds(self) -> float:
        return self.total_step * self.timing.median

    def describe(self) -> str:
        small = self.measured is not None and self.measured < self.batch_size
        how = f", reckoned from steps of {plural(self.measured or 0, 'image')}" if small else ""
        return (
            f"pace: {self.seconds_per_step * 1e3:.3g} ms a step (median of {len(self.timing.rounds)}, spread "
            f"{self.timing.spread:.0%}{how}), {self.images_per_second:.3g} images a second; "
            f"{plural(self.total_step, 'step')} take about {duration(self.total_seconds)}"
        )


def measured_pace(config: Config, device: torch.device, seconds: float = MOST_SECONDS) -> Pace:
    """The pace of a run, from a few steps on noise after some that warm up.

    On a CPU it takes about ``seconds`` at most, unless steps of one image take longer: batches of 1, 8, 64 ... images
    are tried until a whole batch, or the next larger one, would take too long.
    """
    until = time.monotonic() + seconds
    whole, kinds = config.game.batch_size, steps_by_kind(config.game)
    smaller = [size * config.game.shards for size in _SIZES] if device.type != "cuda" else []
    sizes = [*itertools.takewhile(lambda size: size < whole, smaller), whole]
    with exact_convolutions(config.run.precision):
        for size, larger in itertools.zip_longest(sizes, sizes[1:]):
            ways = _ways(override(config, {"batch_size": size}), device)
            first = {name: _seconds_of(way) for name, way in ways.items()}
            taken, left = sum(first.values()), until - time.monotonic()
            if larger is None or _LEAST_CALLS * taken * larger / size > left:
                break
        rounds = ROUNDS if device.type == "cuda" else min(ROUNDS, int(left / taken) - 1)
        if rounds > 0:
            timings = time_in_turns(ways, device, rounds)
        else:
            timings = {name: Timing((seconds,)) for name, seconds in first.items()}
    of_kinds = zip(*(timing.rounds for timing in timings.values()), strict=True)
    means = (statistics.fmean(each, map(len, kinds.values())) for each in of_kinds)
    return Pace(Timing(tuple(mean * whole / size for mean in means)), whole, config.run.total_step, size)


def _ways(config: Config, device: torch.device) -> dict[str, Callable[[], object]]:
    """Steps on noise to time, one for each kind of step, by its name; on a GPU, after some that warm up."""
    training, batches = Trainer(config, device), batches_of(noise(config), config, device)
    if device.type == "cuda":
        warm_up(training, batches)
    kinds = steps_by_kind(config.game)
    return {str(kind): partial(training.advance, batches, steps[0]) for kind, steps in kinds.items()}


def _seconds_of(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def warm_up(training: Trainer, batches: Batches) -> None:
    """Takes steps until kernels are compiled and, on a GPU, every kind of step is captured."""
    for _ in range(5 if training.device.type == "cuda" else 1):
        for steps in steps_by_kind(training.config.game).values():
            training.advance(batches, steps[0])


# ---- how large


def largest_batch(config: Config, device: torch.device, limit: int = 1024) -> int:
    """The largest batch that fits, at most ``limit`` (such as the number of images): 1, 2, 4 or a multiple of 8, for
    each shard.

    On CUDA real steps are tried, doubling and then halving the interval, with a tenth of the memory kept free;
    elsewhere the memory of a step is counted and compared with what is available, so that memory is never filled. A
    larger batch is not always a better one. Raises UserError where not even a batch of 1 fits.
    """

    def fits(size: int) -> bool:
        sized = override(config, {"batch_size": size * shards})
        try:
            return _steps_fit(sized, device) if device.type == "cuda" else _counted_to_fit(sized, device)
        except (RuntimeError, MemoryError) as error:  # even counting takes some
            if not is_out_of_memory(error):
                raise
            return False

    shards = config.game.shards
    if limit < shards:
        raise UserError(f"limit must be {shards} or more, got {limit} (it is the largest batch to try)")
    limit //= shards
    if limit < 8 or not fits(8):
        for size in _SMALL_BATCHES:
            if size <= limit and fits(size):
                return size * shards
        raise UserError(f"not even a batch of 1 fits into the memory of {device}: {_remedy(config, device)}")
    good, bad = 8, 16
    while bad <= limit and fits(bad):
        good, bad = bad, 2 * bad
    if bad > limit:
        bad = limit // 8 * 8 + 8
    while bad - good > 8:
        middle = (good + bad) // 16 * 8
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good * shards


def _steps_fit(config: Config, device: torch.device) -> bool:
    """Whether real steps run on a GPU with `_SHARE` of its memory; eager ones, since there is no recovering from
    running out of memory during a capture."""
    # captured steps with and without a penalty each keep the memory they need
    share = _SHARE / 2 if len(steps_by_kind(config.game)) > 1 else _SHARE
    torch.cuda.set_per_process_memory_fraction(share, device)
    try:
        _take_two_steps(override(config, {"compile": False, "cuda_graphs": False}), device)
        return True
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        gc.collect()  # a trainer is part of a reference cycle, through the method it plays steps with
        torch.cuda.empty_cache()


def _take_two_steps(config: Config, device: torch.device) -> None:
    """The first step makes the optimisers' moments, so only the second has all that a step needs."""
    training = Trainer(config, device)
    batches = batches_of(noise(config), config, device)
    for _ in range(2):
        training.advance(batches, step=0)  # which has the penalties, even where not every step has
    torch.cuda.synchronize(device)


def _counted_to_fit(config: Config, device: torch.device) -> bool:
    free = available_memory()
    if free is None:
        raise UserError("this system does not report how much memory is free: give --batch_size a number")
    return count_memory(config, device) <= _SHARE * free


def _remedy(config: Config, device: torch.device) -> str:
    needed = count_memory(override(config, {"batch_size": config.game.shards}), device)
    remedy = "use a smaller `imsize`, `g_conv_dim` or `d_conv_dim`, or attention on smaller maps"
    return f"it takes {binary(needed)}; {remedy}"
