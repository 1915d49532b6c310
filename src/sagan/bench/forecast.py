"""What runs will cost and how long they will take, said before the first step: counted, and by a few steps on noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from sagan.bench.cost import Cost, binary, count_cost, describe_cost, run_bytes
from sagan.bench.pace import measured_pace
from sagan.run.build import describe_attention
from sagan.run.config import Config, ModelConfig, override
from sagan.system.console import duration
from sagan.system.devices import choose_device
from sagan.system.errors import UserError
from sagan.training.start import settle


@dataclass(frozen=True)
class PlannedCost:
    """A run whose cost is asked for: its name, its settings, and the steps that are left of it."""

    name: str
    config: Config
    steps: int


def check_classes(model: ModelConfig) -> None:
    """Raises UserError where the number of classes would follow from images, of which none are opened."""
    if model.num_classes == "auto":
        raise UserError(
            "--num_classes must be a number here: how many the images have is found out when they are opened"
        )


def describe_run(config: Config, device: torch.device) -> list[str]:
    """What a run takes and how long, as lines for a person."""
    return [*describe_cost(config, device), measured_pace(config, device).describe()]


def describe_runs(runs: Sequence[PlannedCost], jobs: int = 1) -> Iterator[str]:
    """What several runs take and how long, ``jobs`` of them at a time, as lines for a person: once for those of one
    cost. Raises UserError for classes that are still to be found out."""
    configs = [_settled(run.config) for run in runs]
    alike: dict[tuple[Cost, int], list[int]] = {}  # numbers of runs of one cost and batch
    counted: dict[Config, tuple[Cost, int]] = {}
    for number, config in enumerate(configs):
        check_classes(config.model)
        if config not in counted:
            counted[config] = (count_cost(config, choose_device(config.run.device)), config.game.batch_size)
        alike.setdefault(counted[config], []).append(number)
    seconds = [0.0] * len(runs)
    for numbers in alike.values():
        config = configs[numbers[0]]
        others = f" (the same for {len(numbers) - 1} more)" if len(numbers) > 1 else ""
        yield f"{runs[numbers[0]].name}{others}:"
        device = choose_device(config.run.device)
        for line in describe_cost(config, device):
            if line not in describe_attention(config.model):  # which runs of one cost need not share
                yield f"  {line}"
        pace = measured_pace(config, device)
        yield f"  {pace.describe()}"
        for number in numbers:
            seconds[number] = runs[number].steps * pace.seconds_per_step
    yield from dict.fromkeys("\n".join(describe_attention(config.model)) for config in configs)
    yield f"all: about {duration(sum(seconds))} one run at a time, without samples, checkpoints and scores"
    if jobs > 1:
        yield f"with --jobs {jobs}: {duration(max(sum(seconds) / jobs, *seconds))} at the very best"
    yield f"disk: {binary(sum(map(run_bytes, configs)))} for all runs"


def _settled(config: Config) -> Config:
    """What decides the cost of a run."""
    return override(settle(config, choose_device(config.run.device)), {"seed": 0, "run_dir": None})
