"""A training step on this machine, beside the most that the machine can do, measured in the same minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sagan.bench.cost import amount, count_cost
from sagan.bench.memory import peak_memory
from sagan.bench.pace import batches_of, noise, warm_up
from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.timing import time_in_turns
from sagan.run.config import override
from sagan.system.callbacks import Progress
from sagan.system.sentences import binary
from sagan.training.loop import exact_convolutions
from sagan.training.trainer import Trainer

Ceiling = tuple[Callable[[], object], int]  # a call, and the operations or bytes in it


def measure_step(settings: BenchSettings, progress: Progress) -> Result:
    """Seconds and images a second of the step, the least time it could take, and its share of the ceiling.

    The floor is the larger of two times: its operations at the speed of a large matrix product, and the fewest bytes it
    can read and write at the speed of a copy. The share of the ceiling is floor / step.
    """
    config = settings.config()
    cost = count_cost(config, settings.device)
    training = Trainer(config, settings.device)
    batches = batches_of(noise(config), config, settings.device)
    ceilings = {"matmul": _matmul(settings), "copy": _copy(settings)}
    ways = {"step": lambda: training.advance(batches)} | {name: call for name, (call, _) in ceilings.items()}
    with exact_convolutions(config.run.precision):
        warm_up(training, batches)
        timings = time_in_turns(ways, settings.device, on_round=progress)
        # a CUDA graph has memory of its own, which is not counted: an eager step of the same kind
        plain = Trainer(override(config, {"cuda_graphs": False}), settings.device)
        plain.advance(batches)
        memory = peak_memory(lambda: plain.advance(batches), settings.device, tensors_of(plain))
    rates = {name: size / timings[name].median for name, (_, size) in ceilings.items()}
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


def _matmul(settings: BenchSettings) -> Ceiling:
    """A product of two large square matrices in the precision of the step; two operations for a multiply and add."""
    size = 8192 if settings.on_gpu else 1024 if settings.quick else 2048
    a, b = (torch.randn(size, size, device=settings.device).to(settings.dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2 * size**3


def _copy(settings: BenchSettings) -> Ceiling:
    """A copy of more bytes than any cache holds; each is read and written."""
    size = 2**30 if settings.on_gpu else 2**27 if settings.quick else 2**28
    source = torch.zeros(size, dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * size


def tensors_of(training: Trainer) -> Iterator[Tensor]:
    """Everything that exists between two steps; an iterator, since a list would keep the gradients alive."""
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
        ["floor", f"{result['floor_seconds'] * 1e3:.4g} ms, set by its {result['floor']}"],
        ["share of the ceiling", f"{result['share_of_ceiling']:.0%}"],
        ["peak memory", f"{memory} ({binary(result['counted_memory'])} counted in advance)"],
    ]
