"""Drawing images from a generator, so that an image depends on its z alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sagan.images import to_uint8
from sagan.precision import full_precision
from sagan.randomness import latents


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor, batch_size: int = 64) -> Tensor:
    """Images for latents z (n, z_dim), uint8 (n, 3, h, w) on z's device, from a generator in eval mode.

    Batch norm then uses its stored statistics: an image does not depend on its neighbours in the batch. Computed in
    plain float32 whatever the caller switched on, so that one z gives one image on every device. Raises
    ValueError for a generator in training mode, and for one whose images are not numbers.
    """
    if generator.training:
        raise ValueError("the generator must be in eval mode: in training mode an image depends on its whole batch")
    with full_precision(z.device):
        return torch.cat([to_uint8(_finite(generator(part))) for part in z.split(batch_size)])


def _finite(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise ValueError("the generator's images are NaN or infinite: its weights are of a training that diverged")
    return images


def numbered_images(
    generator: nn.Module, z_dim: int, seed: int, numbers: range, *, device: torch.device, batch_size: int = 64
) -> Iterator[tuple[int, Tensor]]:
    """Image number i of a seed, for each i of ``numbers``: (i, uint8 (3, h, w)); z is drawn from (seed, i) alone."""
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        z = torch.cat([latents(seed, "sample", 1, z_dim, step=number) for number in some]).to(device)
        yield from zip(some, generate(generator, z, batch_size).cpu(), strict=True)
