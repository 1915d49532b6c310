"""A training step on this machine, beside what the machine can do at most, measured in the same minute."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.utils._pytree import tree_leaves

from sagan.bench.ceiling import copy, matmul
from sagan.bench.cost import amount, binary, count_cost
from sagan.bench.pace import batches_of, noise, warm_up
from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.tally import peak_memory
from sagan.bench.timing import time_in_turns
from sagan.run.config import override
from sagan.system.callbacks import Progress
from sagan.training.loop import exact_convolutions
from sagan.training.trainer import Trainer


def measure_step(settings: BenchSettings, progress: Progress) -> Result:
    """Seconds and images a second of the step, the floor under it, and its share of the ceiling.

    The floor is the larger of two times: its operations at the speed of a large matrix product, and the fewest bytes it
    can read and write at the speed of a copy. The share of the ceiling is floor / step.
    """
    config = settings.config()
    cost = count_cost(config, settings.device)
    training = Trainer(config, settings.device)
    batches = batches_of(noise(config), config, settings.device)
    ceilings = {"matmul": matmul(settings), "copy": copy(settings)}
    ways = {"step": lambda: training.advance(batches)} | {name: each.action for name, each in ceilings.items()}
    with exact_convolutions(config.run.precision):
        warm_up(training, batches)
        timings = time_in_turns(ways, settings.device, on_round=progress)
        # what a captured step uses is the graph's own, and not counted: the same step as it is written
        plain = Trainer(override(config, {"cuda_graphs": False}), settings.device)
        plain.advance(batches)
        memory = peak_memory(lambda: plain.advance(batches), settings.device, tensors_of(plain))
    rates = {name: each.amount / timings[name].median for name, each in ceilings.items()}
    floors = {"operations": cost.operations / rates["matmul"], "bytes": cost.fewest_bytes / rates["copy"]}
    floor = max(floors, key=lambda name: floors[name])
    step = timings["step"]
    return {
        "seconds": step.to_dict(),
        "images_per_second": settings.batch_size / step.median,
        "operations": cost.operations,
        "fewest_bytes": cost.fewest_bytes,
        "operations_per_second": cost.operations / step.median,
        "matmul_per_second": rates["matmul"],
        "bytes_per_second": rates["copy"],
        "floor_seconds": floors[floor],
        "floor": floor,
        "share_of_ceiling": floors[floor] / step.median,
        "memory": memory,
        "counted_memory": cost.memory,
        "notes": [],
    }


def tensors_of(training: Trainer) -> Iterator[Tensor]:
    """Everything that is there between two steps; one by one, for a list would keep the gradients longer."""
    yield from (leaf for leaf in tree_leaves(vars(training.state())) if isinstance(leaf, Tensor))
    for network in training.networks().values():
        yield from (parameter.grad for parameter in network.parameters() if parameter.grad is not None)


def step_rows(result: Result) -> Rows:
    seconds, memory = result["seconds"], f"{binary(result['memory'])} of tensors"
    least, median = (f"{seconds[name] * 1e3:.4g}" for name in ("least", "median"))
    rate = {name: amount(result[f"{name}_per_second"], "FLOP/s") for name in ("operations", "matmul")}
    return [
        ["what", "figure"],
        ["step", f"{median} ms (least {least}, spread {seconds['spread']:.0%})"],
        ["images", f"{result['images_per_second']:.4g} a second"],
        ["operations", f"{amount(result['operations'], 'FLOP')}, {rate['operations']}"],
        ["matrix product", f"{rate['matmul']}, measured in turns with the step"],
        ["memory copy", f"{amount(result['bytes_per_second'], 'B/s')} read and written, likewise"],
        ["floor", f"{result['floor_seconds'] * 1e3:.4g} ms, by its {result['floor']}"],
        ["share of the ceiling", f"{result['share_of_ceiling']:.0%}"],
        ["peak memory", f"{memory} ({binary(result['counted_memory'])} counted beforehand)"],
    ]
