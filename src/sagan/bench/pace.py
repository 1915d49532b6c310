"""Real steps, taken to know how fast a run will be and how large a batch fits."""

from __future__ import annotations

import gc
import statistics
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from sagan.bench.cost import binary, count_memory
from sagan.bench.machine import available_memory
from sagan.bench.timing import ROUNDS, Timing, time_in_turns
from sagan.data.batches import Batches
from sagan.run.config import Config, override
from sagan.system.console import duration
from sagan.system.errors import UserError
from sagan.training.loop import exact_convolutions
from sagan.training.trainer import Trainer, steps_by_kind

_SHARE = 0.9  # of the memory that a batch may fill: samples and scores are drawn beside the training
_SMALL_BATCHES = (4, 2, 1)  # where 8 does not fit


def noise(config: Config) -> npt.NDArray[np.uint8]:
    """Images for one batch of a config, of uniform noise: uint8 (batch, size, size, 3)."""
    shape = config.game.batch_size, *config.model.shape.hwc
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def batches_of(images: npt.NDArray[np.uint8], config: Config, device: torch.device) -> Batches:
    """Batches of images, as a run has them, in their own order and of classes in turn."""

    def in_order(epoch: int) -> torch.Tensor:
        return torch.arange(len(images))

    classes = config.model.num_classes
    assert classes != "auto", "the images decide it, before networks are built"
    labels = np.arange(len(images)) % classes if classes else None
    resident = config.run.resident
    return Batches(images, config.game.batch_size, in_order, device, resident, channels_last=True, labels=labels)


# ---- how fast


@dataclass(frozen=True)
class Pace:
    """How long a step takes, and from it the whole run; without what samples, checkpoints and scores take."""

    timing: Timing
    batch_size: int
    total_step: int

    @property
    def seconds_per_step(self) -> float:
        return self.timing.median

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.timing.median

    @property
    def seconds_to_go(self) -> float:
        return self.total_step * self.timing.median

    def describe(self) -> str:
        return (
            f"pace: {self.seconds_per_step * 1e3:.3g} ms a step (median of {len(self.timing.rounds)}, spread "
            f"{self.timing.spread:.0%}), {self.images_per_second:.3g} images a second; {self.total_step:,} steps take "
            f"about {duration(self.seconds_to_go)}"
        )


def measured_pace(
    config: Config, device: torch.device, images: npt.NDArray[np.uint8] | None = None, steps: int = ROUNDS
) -> Pace:
    """The pace of a run, from a few steps on its images (without any, on noise), after some that warm up."""
    training = Trainer(config, device)
    batches = batches_of(noise(config) if images is None else images, config, device)
    kinds = steps_by_kind(config.game)
    ways = {str(kind): partial(_take_step, training, batches, steps_of_it[0]) for kind, steps_of_it in kinds.items()}
    with exact_convolutions(config.run.precision):
        warm_up(training, batches)
        timings = time_in_turns(ways, device, steps)
    rounds = zip(*(timing.rounds for timing in timings.values()), strict=True)
    timing = Timing(tuple(statistics.fmean(seconds, map(len, kinds.values())) for seconds in rounds))
    return Pace(timing, config.game.batch_size, config.run.total_step)


def warm_up(training: Trainer, batches: Batches) -> None:
    """Takes steps until kernels are compiled and, on a GPU, every kind of step is captured."""
    for _ in range(5 if training.device.type == "cuda" else 1):
        for steps in steps_by_kind(training.config.game).values():
            _take_step(training, batches, steps[0])


def _take_step(training: Trainer, batches: Batches, step: int) -> None:
    """Takes a step of that number, again if need be."""
    training.step = step
    training.advance(batches)


# ---- how large


def largest_batch(config: Config, device: torch.device, limit: int = 1024) -> int:
    """The largest batch that fits, up to ``limit`` (such as the number of images): 1, 2, 4 or a multiple of 8.

    On CUDA real steps are tried, doubling and then halving the interval, with a tenth of the memory kept free;
    elsewhere the memory that a step takes is counted and compared with what is available: memory is never filled to
    find out. A larger batch is not always a better one. UserError where not even a batch of 1 fits.
    """

    def fits(size: int) -> bool:
        sized = override(config, {"batch_size": size})
        return _steps_fit(sized, device) if device.type == "cuda" else _counted_to_fit(sized, device)

    if limit < 1:
        raise UserError(f"limit must be 1 or more, got {limit} (it is the largest batch to try)")
    if limit < 8 or not fits(8):
        for size in _SMALL_BATCHES:
            if size <= limit and fits(size):
                return size
        raise UserError(f"not even a batch of 1 fits into the memory of {device}: {_remedy(config, device)}")
    good, bad = 8, 16
    while bad <= limit and fits(bad):
        good, bad = bad, 2 * bad
    if bad > limit:
        bad = limit // 8 * 8 + 8
    while bad - good > 8:
        middle = (good + bad) // 16 * 8
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _steps_fit(config: Config, device: torch.device) -> bool:
    """Whether real steps run on a GPU with `_SHARE` of its memory; as they are written, for running out of memory
    while a step is captured cannot be mended."""
    # captured steps with and without a penalty each keep what they need
    share = _SHARE / 2 if len(steps_by_kind(config.game)) > 1 else _SHARE
    torch.cuda.set_per_process_memory_fraction(share, device)
    try:
        _take_two_steps(override(config, {"compile": False, "cuda_graphs": False}), device)
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        gc.collect()  # a training holds itself by the steps it plays
        torch.cuda.empty_cache()


def _take_two_steps(config: Config, device: torch.device) -> None:
    """The first makes the optimisers' moments, which the second has beside it."""
    training = Trainer(config, device)
    batches = batches_of(noise(config), config, device)
    for _ in range(2):
        training.step = 0  # which has the penalties, where they are not in every step
        training.advance(batches)
    torch.cuda.synchronize(device)


def _counted_to_fit(config: Config, device: torch.device) -> bool:
    free = available_memory()
    if free is None:
        raise UserError("this system does not tell how much memory is free: give --batch_size a number")
    return count_memory(config, device) <= _SHARE * free


def _remedy(config: Config, device: torch.device) -> str:
    needed = count_memory(override(config, {"batch_size": 1}), device)
    return f"it takes {binary(needed)}; use a smaller imsize, g_conv_dim or d_conv_dim, or attention on smaller maps"
