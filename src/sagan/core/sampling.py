"""Drawing images from a generator, so that an image depends on its z alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sagan.core.networks.interface import Generator
from sagan.system.errors import UserError
from sagan.system.images import to_uint8
from sagan.system.precision import full_precision
from sagan.system.randomness import latents


@torch.no_grad()
def generate(generator: Generator, z: Tensor, labels: Tensor | None = None, batch_size: int = 64) -> Tensor:
    """Images for latents z (n, z_dim), uint8 (n, *shape) on z's device, from a generator in eval mode.

    ``labels`` (n,) are their classes, for a generator with classes (see `classes_in_turn`).

    Batch norm then uses its stored statistics: an image does not depend on its neighbours in the batch. Computed in
    plain float32 whatever the caller switched on, so that one z gives one image on every device. Raises
    UserError for a generator in training mode, and for one whose images are not finite.
    """
    if generator.training:
        raise UserError("the generator must be in eval mode: in training mode an image depends on its whole batch")
    with full_precision(z.device):
        parts = zip(z.split(batch_size), _split(labels, z, batch_size), strict=True)
        return torch.cat([to_uint8(_finite(generator(*part))) for part in parts])


def _split(labels: Tensor | None, z: Tensor, batch_size: int) -> Sequence[Tensor | None]:
    if labels is None:
        return [None] * -(-z.shape[0] // batch_size)
    parts: Sequence[Tensor] = labels.to(z.device).split(batch_size)
    return parts


def _finite(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise UserError("the generator's images are NaN or infinite: its weights come from a training that diverged")
    return images


def classes_in_turn(numbers: range, num_classes: int | str) -> Tensor | None:
    """The class of each image of these numbers, int64 (n,): 0, 1, 2 ... and again; None where there are none.

    So an image's class follows from its number alone, and each class has equally many.
    """
    return torch.tensor(numbers) % int(num_classes) if num_classes else None


def numbered_latents(
    generator: Generator, seed: int, numbers: range, label: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """What images of these numbers are drawn from: z (n, z_dim), each from (seed, number) alone, and their classes.

    A generator with classes makes them in turn, or all of the class ``label``. Raises UserError for a class that it
    does not have.
    """
    classes = generator.num_classes
    if label is not None and not 0 <= label < classes:
        known = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise UserError(f"this generator has {known}, got label {label}")
    z = torch.cat([latents(seed, "sample", 1, generator.z_dim, step=number) for number in numbers])
    return z, classes_in_turn(numbers, classes) if label is None else torch.full((len(numbers),), label)


def numbered_images(
    generator: Generator,
    seed: int,
    numbers: range,
    *,
    device: torch.device,
    batch_size: int = 64,
    label: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Image number i of a seed, for each i of ``numbers``: (i, uint8 of the generator's shape); see
    `numbered_latents`."""
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        z, labels = numbered_latents(generator, seed, some, label)
        yield from zip(some, generate(generator, z.to(device), labels, batch_size).cpu(), strict=True)
