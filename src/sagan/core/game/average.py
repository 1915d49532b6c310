"""The average of the generator's past weights: what samples are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.networks.interface import Generator

_RAMP = 0.05  # early on, the half-life is this share of the images seen, so that the first weights are soon forgotten


class AveragedGenerator:
    """An exponential moving average of a generator's weights, as a module of its own in eval mode.

    What is averaged is the raw weights. What follows from weights is not averaged but made right for the averaged ones:
    spectral norm iterates on them, and batch norm's statistics are measured on them by `measure_batch_norm`. (Averaging
    those too gives layers of norm 1.5 and statistics of networks that no longer exist.)

    Args:
        generator: copied, on its device.
        halflife: after this many images an old weight counts half; 0 keeps no average, only the last weights.
    """

    def __init__(self, generator: Generator, halflife: int):
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.halflife = halflife

    def decay(self, images_seen: int, batch_size: int) -> float:
        """How much of the average stays in the update after a step on ``batch_size`` images that brings the images
        seen to ``images_seen``."""
        halflife = min(self.halflife, _RAMP * images_seen)
        return 0.5 ** (batch_size / halflife) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, generator: Generator, shares: Tensor) -> None:
        """Takes the generator's present weights into the average.

        ``shares`` (2,), on its device: how much of the average stays and how much of the generator comes in; a tensor,
        so that a captured step can be played with others.
        """
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(generator.parameters())
        torch._foreach_mul_(averages, shares[0])
        torch._foreach_add_(averages, list(torch._foreach_mul(weights, shares[1])))
        power_iterate(self.module)

    def shares(self, images_seen: int, batch_size: int) -> Tensor:
        """`update`'s shares after a step on ``batch_size`` images that brings the images seen to ``images_seen``."""
        decay = self.decay(images_seen, batch_size)
        return torch.tensor([decay, 1 - decay])

    @torch.no_grad()
    def measure_batch_norm(self, latents: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Sets batch norm's statistics to those of the averaged weights over batches of z, forgetting older ones.

        With each z come its classes, or None for a network without classes.
        """
        norms = [module for module in self.module.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        for z, labels in latents:
            self.module(z, labels)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
