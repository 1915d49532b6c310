"""The EMA of the generator's weights, which samples are drawn from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from sagan.core.layers.spectral_norm import power_iterate
from sagan.core.networks.interface import Generator
from sagan.core.sampling import classes_in_turn
from sagan.system.randomness import latents

_RAMP = 0.05  # early on the half-life is this share of the images seen, so that the first weights are soon forgotten
_BATCHES, _BATCH_SIZE = 16, 64  # of z, that batch norm's statistics are measured over


class AveragedGenerator:
    """An exponential moving average (EMA) of a generator's weights, held in a separate module in eval mode.

    Only the raw weights are averaged. What depends on them is recomputed for the averaged weights: spectral norm runs
    its power iteration on them, and `measure_batch_norm` measures batch norm's statistics. (Averaging those as well
    gives layers of norm 1.5 and statistics of networks that no longer exist.)

    Args:
        generator: copied, on its device.
        halflife: the number of images after which a past value's weight is halved; 0 keeps only the latest weights.
    """

    def __init__(self, generator: Generator, halflife: int):
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.halflife = halflife

    def decay(self, images_seen: int, batch_size: int) -> float:
        """The weight of the old average in the update after a step on ``batch_size`` images, the last of
        ``images_seen``."""
        halflife = min(self.halflife, _RAMP * images_seen)
        return 0.5 ** (batch_size / halflife) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, generator: Generator, shares: Tensor) -> None:
        """Updates the average with the generator's current weights.

        ``shares`` (2,), on its device, are the weights of the old average and of the generator; a tensor, so that a
        captured step can be replayed with other values.
        """
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(generator.parameters())
        torch._foreach_mul_(averages, shares[0])
        torch._foreach_add_(averages, list(torch._foreach_mul(weights, shares[1])))
        power_iterate(self.module)

    def shares(self, images_seen: int, batch_size: int) -> Tensor:
        """The shares for `update`, from `decay`: float32 (2,)."""
        decay = self.decay(images_seen, batch_size)
        return torch.tensor([decay, 1 - decay])


def batch_norm_latents(generator: Generator, seed: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The batches of z, with their classes, that batch norm's statistics are measured over: the same for every step."""
    device = next(generator.parameters()).device
    for number in range(_BATCHES):
        z = latents(seed, "z for batch norm", _BATCH_SIZE, generator.z_dim, step=number)
        labels = classes_in_turn(range(_BATCH_SIZE), generator.num_classes)
        yield z.to(device), None if labels is None else labels.to(device)


@torch.no_grad()
def measure_batch_norm(generator: Generator, batches: Iterable[tuple[Tensor, Tensor | None]]) -> None:
    """Replaces batch norm's statistics by those of the generator's weights over batches of z.

    Each z comes with its classes, or None for an unconditional network.
    """
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for z, labels in batches:
        generator(z, labels)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
