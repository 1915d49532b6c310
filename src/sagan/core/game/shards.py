"""The gradient of a batch from those of its shards, the same bits whoever computed them.

Each shard has its own loss, and batch norm its own statistics of it. The gradients of all shards are added in the fixed
order of `tree_sum` and divided by their number; so are the measured values, and the running statistics of batch norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sagan.core.game.step import Gradient
from sagan.core.networks.interface import Generator
from sagan.system.world import tree_sum

AddUp = Callable[[Tensor, Tensor], None]  # (rows of this process, total to fill): as `World.add_up`


def mean_gradient(
    network: nn.Module, generator: Generator, gradients: Sequence[Gradient], shards: int, add_up: AddUp | None
) -> dict[str, Tensor]:
    """Leaves the gradient of the whole batch in a network's ``.grad``; returns the means of what was measured.

    Args:
        generator: the network with batch norm, which each gradient runs in training mode.
        gradients: compute those of this process's shards, in order.
        shards: their number over all processes.
        add_up: adds the rows of all processes; None if there is only this one.
    """
    if shards == 1:
        return gradients[0]()
    statistics = [norm for norm in generator.modules() if isinstance(norm, nn.BatchNorm2d)]
    kept = [(buffer, buffer.clone()) for norm in statistics for buffer in norm.buffers()]
    rows = []
    for number, gradient in enumerate(gradients):
        if number:
            network.zero_grad(set_to_none=True)
            for buffer, before in kept:
                buffer.copy_(before)
        measured = gradient()
        parts = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        parts += [buffer for buffer, _ in kept if buffer.is_floating_point()]
        rows.append(torch.cat([part.flatten() for part in [*parts, *measured.values()]]))
    if add_up is None:
        total = tree_sum(rows)
    else:
        added = len(rows) & (len(rows) - 1) == 0  # a block that the tree adds by itself
        total = torch.empty_like(rows[0])
        add_up(torch.stack([tree_sum(rows)] if added else rows), total)
    total = total / shards
    values = [*parts, *measured.values()]
    for value, mean in zip(values, total.split([value.numel() for value in values]), strict=True):
        value.copy_(mean.view_as(value))
    return measured
