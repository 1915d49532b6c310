"""What runs will cost and how long they will take: counted, and measured by a few steps on noise."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from sagan.bench.cost import Cost, TakesTooLong, count_cost, describe_cost, describe_disk
from sagan.bench.machine import free_memory
from sagan.bench.pace import MOST_SECONDS, measured_pace
from sagan.data import Source, choose_source
from sagan.data.survey import first_needs
from sagan.run.build import describe_attention
from sagan.run.config import AnyChannels, Config, DataConfig, override
from sagan.run.keeping import run_bytes
from sagan.system.console import duration
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.system.sentences import binary
from sagan.training.start import settle

Find = Callable[[DataConfig, int | str, AnyChannels], Source]

_COUNTING = "counting the operations and the memory of a step"
_MEASURING = f"measuring the pace by a few steps on noise, in about {MOST_SECONDS:.0f} s at most"


@dataclass(frozen=True)
class PlannedCost:
    """A run whose cost is wanted: its name, its settings, and how many steps are left."""

    name: str
    config: Config
    steps: int


def with_images_known(config: Config, find: Find = choose_source) -> Config:
    """The config with a number of classes and of channels: for ``auto`` those of the images that ``find`` finds, by
    their names and by a look at a few. Raises UserError where classes are wanted and they have none."""
    model = config.model
    if "auto" not in (model.num_classes, model.channels):
        return config
    source = find(config.data, model.imsize, model.channels)
    if model.channels == "auto":
        config = override(config, {"channels": first_needs(source).channels})
    if model.num_classes != "auto":
        return config
    if source.no_classes:
        raise UserError(
            f"the classes of {source.description} are unknown: {source.no_classes}; `num_classes` 0 learns without them"
        )
    return override(config, {"num_classes": len({source.class_of(number) for number in range(len(source))})})


def describe_run(config: Config, device: torch.device) -> Iterator[str]:
    """The cost of a run and its pace, as lines of text, each of which comes when it is known: after 20 s,
    counting and measuring together, except where single steps take longer."""
    yield _COUNTING
    until = time.monotonic() + MOST_SECONDS
    try:
        cost = count_cost(config, device, MOST_SECONDS)
    except TakesTooLong:  # a step of this size is not taken without knowing that it fits
        yield f"neither counted nor measured: counting takes more than {MOST_SECONDS:.0f} s here, for so large networks"
        yield from describe_attention(config.model)
        yield describe_disk(config)
        return
    yield from describe_cost(config, device, cost)
    if reason := too_large(cost, device):
        yield reason
    else:
        yield _MEASURING
        yield measured_pace(config, device, max(0.0, until - time.monotonic())).describe()


def too_large(cost: Cost, device: torch.device) -> str:
    """Why the steps of a run are not measured: the machine would run out of memory; else ""."""
    free = free_memory(device)
    if free is None or cost.memory <= free:
        return ""
    return (
        f"not measured: the run takes {binary(cost.memory)}, and {binary(free)} of memory are free on {device}; give a "
        "smaller --batch_size, --imsize or --g_conv_dim and --d_conv_dim"
    )


def describe_runs(runs: Sequence[PlannedCost], jobs: int = 1) -> Iterator[str]:
    """The cost of several runs, ``jobs`` of them at a time, as lines of text; runs of equal cost are described once.
    Raises UserError as `with_images_known`."""
    find = functools.cache(choose_source)  # many runs have the same images
    configs = [with_images_known(_settled(run.config), find) for run in runs]
    yield _COUNTING
    alike: dict[tuple[Cost, int], list[int]] = {}  # numbers of runs of one cost and batch
    counted: dict[Config, tuple[Cost, int]] = {}
    for number, config in enumerate(configs):
        if config not in counted:
            counted[config] = (count_cost(config, choose_device(config.run.device)), config.game.batch_size)
        alike.setdefault(counted[config], []).append(number)
    yield _MEASURING
    seconds = [0.0] * len(runs)
    for numbers in alike.values():
        config = configs[numbers[0]]
        others = f" (the same for {len(numbers) - 1} more)" if len(numbers) > 1 else ""
        yield f"{runs[numbers[0]].name}{others}:"
        device = choose_device(config.run.device)
        cost, _ = counted[config]
        for line in describe_cost(config, device, cost):
            if line not in describe_attention(config.model):  # runs of equal cost may differ in it
                yield f"  {line}"
        if reason := too_large(cost, device):
            yield f"  {reason}"
            continue
        pace = measured_pace(config, device, MOST_SECONDS / len(alike))
        yield f"  {pace.describe()}"
        for number in numbers:
            seconds[number] = runs[number].steps * pace.seconds_per_step
    for lines in dict.fromkeys(tuple(describe_attention(config.model)) for config in configs):
        yield from lines
    left_out = sum(not each for each in seconds)
    without = f", without {left_out} that were not measured" if left_out else ""
    yield f"all: about {duration(sum(seconds))} one run at a time, without samples, checkpoints and scores{without}"
    if jobs > 1:
        yield f"with --jobs {jobs}: {duration(max(sum(seconds) / jobs, *seconds))} at best"
    yield f"disk: {binary(sum(map(run_bytes, configs)))} for all runs"


def _settled(config: Config) -> Config:
    """The settings that decide the cost of a run."""
    return override(settle(config, choose_device(config.run.device)), {"seed": 0, "run_dir": None})
