"""What a run costs, counted before it starts, without the time or the memory that it will take.

A step is taken on fake tensors, which have shapes and no values, and torch counts the operations of its products and
convolutions. Attention is counted as it is defined, scores and weighted sum: other ways to compute it do more
operations to hold less memory. Excluding the square does not change the count; pooled keys divide it by pool * pool.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from sagan.bench.memory import HeldBytes, SavedBytes
from sagan.core.attention import Full, Pattern
from sagan.core.attention.dispatch import choose_backend
from sagan.core.attention.reference import attention_backward, product_dtype, softmax_dtype
from sagan.core.layers.self_attention import SelfAttention2d
from sagan.data.batches import ALL, Batches
from sagan.run.build import describe_attention
from sagan.run.config import Config, override
from sagan.run.keeping import (
    checkpoint_bytes,
    kept_snapshots,
    parameter_counts,
    run_bytes,
    snapshot_bytes,
    written_snapshots,
)
from sagan.system.sentences import binary, plural
from sagan.training.trainer import Trainer, build_networks, steps_by_kind

_BYTES = 4  # weights, gradients and averages are float32 in every precision

Attend = Callable[[Tensor, Tensor, Tensor, Pattern], Tensor]


@dataclass(frozen=True)
class Cost:
    """What a generator step with its discriminator steps takes, in operations and bytes.

    Where only some steps have a gradient penalty, operations and ``fewest_bytes`` are averages over all of them, and
    activations those of a step with one.
    """

    generator_parameters: int
    discriminator_parameters: int
    operations: int
    """Of products and convolutions, two for a multiply and add."""
    attention_operations: int
    """The part of attention: its scores and weighted sums."""
    fewest_bytes: int
    """The fewest that must be read and written: what the backward pass needs, once each, and the weights."""
    weights: int
    """Bytes of both networks with their buffers, and of the averaged generator."""
    gradients: int
    optimizer: int
    activations: int
    """The peak of everything else, without the workspaces of the kernels."""

    @property
    def memory(self) -> int:
        """The most bytes that tensors hold."""
        return self.weights + self.gradients + self.optimizer + self.activations


class TakesTooLong(Exception):
    """A cost was not counted in the time that there was."""


def count_cost(config: Config, device: torch.device | str = "cpu", seconds: float = math.inf) -> Cost:
    """The cost of a step, with the memory of the attention backends that the device would use.

    Raises TakesTooLong where it is not counted after so many seconds, as for large networks on a busy machine.
    """
    with _fake_steps(config, time.monotonic() + seconds) as take:
        thin, dense, as_run = take(_thin), take(_dense), take(_as_on(device))
    generator, discriminator = parameter_counts(config)
    gradients = (generator + discriminator) * _BYTES
    moves = generator + config.game.n_critic * discriminator  # of parameters
    return Cost(
        generator_parameters=generator,
        discriminator_parameters=discriminator,
        operations=dense.operations,
        attention_operations=dense.operations - thin.operations,
        # a parameter is read forward, backward and by Adam; its gradient and two moments are written and read
        fewest_bytes=2 * thin.saved + 10 * _BYTES * moves,
        weights=as_run.weights,
        gradients=gradients,
        optimizer=2 * gradients,
        activations=as_run.peak - as_run.weights - 3 * gradients,
    )


def count_memory(config: Config, device: torch.device | str = "cpu") -> int:
    """Only `Cost.memory`, which takes less time to count."""
    with _fake_steps(config) as take:
        take(_thin)  # makes Adam's moments
        return take(_as_on(device)).peak


def describe_cost(config: Config, device: torch.device | str = "cpu", cost: Cost | None = None) -> list[str]:
    """The cost of a run as lines of text: parameters, operations, memory, visible keys, disk. ``cost``: the result of
    `count_cost`, if it was called before."""
    cost = count_cost(config, device) if cost is None else cost
    steps = "a step" if config.game.n_critic == 1 else f"a step ({config.game.n_critic} of the discriminator)"
    steps += " on average" if len(steps_by_kind(config.game)) > 1 else ""
    share = cost.attention_operations / cost.operations
    return [
        f"parameters: generator {cost.generator_parameters:,}, discriminator {cost.discriminator_parameters:,}",
        f"operations: {amount(cost.operations, 'FLOP')} {steps} of {plural(config.game.batch_size, 'image')}, "
        f"{share:.0%} of it attention",
        f"memory: {binary(cost.memory)} of tensors (weights and average {binary(cost.weights)}, gradients "
        f"{binary(cost.gradients)}, Adam {binary(cost.optimizer)}, activations {binary(cost.activations)}); "
        "the kernels' workspaces and the libraries need some more",
        *describe_attention(config.model),
        describe_disk(config),
    ]


def describe_disk(config: Config) -> str:
    """What a run writes, as a line of text."""
    written = written_snapshots(config.run)
    kept = kept_snapshots(config.run, written)
    some = f" (of {written:,} at most {kept:,} are kept, more with several kinds of scores)" if kept < written else ""
    return (
        f"disk: {binary(snapshot_bytes(config))} a snapshot{some}, {binary(checkpoint_bytes(config))} the checkpoint, "
        f"{binary(run_bytes(config))} the whole run, and {binary(image_bytes(config))} for each 1,000 prepared images"
    )


# ---- disk


def image_bytes(config: Config, count: int = 1000) -> int:
    """Bytes of that many prepared images."""
    return count * config.model.shape.numel


# ---- the step on fake tensors


@dataclass(frozen=True)
class _Count:
    weights: int  # bytes of both networks and of the average
    operations: int  # averaged over the kinds of steps, as is ``saved``
    saved: int  # bytes, for the backward passes
    peak: int  # bytes; Adam makes its moments in the first step, so the first count lacks them


@contextlib.contextmanager
def _fake_steps(config: Config, until: float = math.inf) -> Iterator[Callable[[Attend], _Count]]:
    """Gives a function that takes a step of each kind, with attention computed by the function it is given, and counts.

    The networks are built on the meta device and become fake tensors of the CPU, since a step needs a real device.
    """
    cpu, meta = torch.device("cpu"), torch.device("meta")
    with meta:
        networks = generator, discriminator, average = build_networks(config, meta)
    with FakeTensorMode(allow_non_fake_inputs=True), _HeldByFakes(until) as held:
        for network in (generator, discriminator, average.module):
            network.to_empty(device=cpu)
        weights = held.now
        training = Trainer(override(config, {"compile": False, "cuda_graphs": False}), cpu, networks=networks)
        batches = cast(Batches, _FakeBatches(config))
        kinds = list(steps_by_kind(config.game).values())
        period = sum(map(len, kinds))

        def take(attend: Attend) -> _Count:
            for layer in (*generator.attention.values(), *discriminator.attention.values()):
                cast(SelfAttention2d, layer).attend = attend
            held.peak = held.now
            operations = saved_bytes = 0
            for steps in kinds:
                saved = SavedBytes(without=_tensors(training))
                with _Operations() as counter, saved:
                    training.advance(batches, steps[0])
                operations += len(steps) * counter.get_total_flops()
                saved_bytes += len(steps) * saved.total
            return _Count(weights, round(operations / period), round(saved_bytes / period), held.peak)

        yield take


def _tensors(training: Trainer) -> Iterator[Tensor]:
    for network in training.networks().values():
        yield from network.parameters()
        yield from network.buffers()


class _HeldByFakes(HeldBytes):
    """Fake tensors have no values: a check that reads one gets 0. Raises TakesTooLong after ``until``."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if time.monotonic() > self.until:
            raise TakesTooLong
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0 if args[0].is_floating_point() else 0
        return super().__torch_dispatch__(func, types, args, kwargs)


class _Operations(FlopCounterMode):
    """torch's counter of operations, which by itself splits them by module: its hooks forbid the penalties'
    `torch.autograd.grad`."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker = _NoHooks()


class _NoHooks(ModuleTracker):
    def __enter__(self) -> _NoHooks:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class _FakeBatches:
    """Replaces the batches of a store inside a fake mode."""

    batches_per_epoch = 1_000_000

    def __init__(self, config: Config):
        self.images, self.shape = range(config.game.batch_size), config.model.shape

    def batch(self, index: int, part: slice = ALL) -> Tensor:
        return torch.empty((len(self.images[part]), *self.shape.chw), memory_format=torch.channels_last)

    def labels(self, index: int, part: slice = ALL) -> Tensor:
        return torch.empty(len(self.images[part]), dtype=torch.int64)


def _thin(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    """An output of attention's shape that depends on q, k and v and costs next to nothing."""
    return v.mean(2, keepdim=True) + q.mean(3, keepdim=True) + k.mean()


def _dense(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    """Attention with the products and matrices of the reference, and a mask without values."""
    with unset_fake_temporarily():
        hidden_after = pattern.masking == "after" and pattern.visible_share() < 1
    with torch.autocast(q.device.type, enabled=False):
        dtype = softmax_dtype(q)
        weights = torch.bmm(q.flatten(0, 1).to(dtype), k.flatten(0, 1).to(dtype).transpose(1, 2)).softmax(-1)
        if hidden_after:
            weights = weights.masked_fill(torch.empty(pattern.queries, pattern.keys, dtype=torch.bool), 0)
        out = torch.bmm(weights.to(product_dtype(v)), v.flatten(0, 1).to(product_dtype(v)))
        return out.to(v.dtype).reshape(*q.shape[:3], v.shape[3])


class _InTiles(torch.autograd.Function):
    """Attention that holds no matrix of weights, except in a second derivative."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.pattern = Full(pattern.height, pattern.width, pattern.pool)  # masks are shared, so they are not counted
        return v.new_empty(*q.shape[:3], v.shape[3])

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *attention_backward(grad_out, q, k, v, ctx.pattern), None
        return *map(torch.empty_like, (q, k, v)), None


def _as_on(device: torch.device | str) -> Attend:
    """Attention that holds what `attend` would hold on a device."""

    def compute(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
        with unset_fake_temporarily():
            q_like, k_like, v_like = (torch.empty(1, dtype=x.dtype, device=device).expand(x.shape) for x in (q, k, v))
            backend = choose_backend(q_like, k_like, v_like, pattern)
        if backend == "reference":
            return _dense(q, k, v, pattern)
        out: Tensor = _InTiles.apply(q, k, v, pattern)  # type: ignore[no-untyped-call]
        return out

    return compute


# ---- words


def amount(number: float, unit: str) -> str:
    """A number with the prefix that suits its size: 221 GFLOP."""
    prefixes = iter("kMGTP")
    prefix = ""
    while number >= 999.5:
        number, prefix = number / 1000, next(prefixes)
    return f"{number:.3g} {prefix}{unit}"
