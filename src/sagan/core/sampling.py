"""Drawing images from a generator, so that an image depends on its z alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sagan.system.errors import UserError
from sagan.system.images import to_uint8
from sagan.system.precision import full_precision
from sagan.system.randomness import latents


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor, labels: Tensor | None = None, batch_size: int = 64) -> Tensor:
    """Images for latents z (n, z_dim), uint8 (n, 3, h, w) on z's device, from a generator in eval mode.

    ``labels`` (n,) are their classes, for a generator that knows classes (see `classes_in_turn`).

    Batch norm then uses its stored statistics: an image does not depend on its neighbours in the batch. Computed in
    plain float32 whatever the caller switched on, so that one z gives one image on every device. Raises
    UserError for a generator in training mode, and for one whose images are not numbers.
    """
    if generator.training:
        raise UserError("the generator must be in eval mode: in training mode an image depends on its whole batch")
    with full_precision(z.device):
        parts = (
            [z.split(batch_size)] if labels is None else [z.split(batch_size), labels.to(z.device).split(batch_size)]
        )
        return torch.cat([to_uint8(_finite(generator(*part))) for part in zip(*parts, strict=True)])


def _finite(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise UserError("the generator's images are NaN or infinite: its weights are of a training that diverged")
    return images


def classes_in_turn(numbers: range, num_classes: int | str) -> Tensor | None:
    """The class of each image of these numbers, int64 (n,): 0, 1, 2 ... and again; None where there are none.

    So an image's class follows from its number alone, and each class has equally many.
    """
    return torch.tensor(numbers) % int(num_classes) if num_classes else None


def check_label(label: int | None, classes: int) -> None:
    """Raises UserError for a class that a generator of so many does not have; None asks for all in turn."""
    if label is not None and not 0 <= label < classes:
        known = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise UserError(f"this generator has {known}, got label {label}")


def numbered_images(
    generator: nn.Module,
    z_dim: int,
    seed: int,
    numbers: range,
    *,
    device: torch.device,
    batch_size: int = 64,
    label: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Image number i of a seed, for each i of ``numbers``: (i, uint8 (3, h, w)); z is drawn from (seed, i) alone.

    A generator that knows classes makes them in turn, or all of the class ``label``.
    """
    classes = getattr(generator, "num_classes", 0)
    check_label(label, classes)
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        z = torch.cat([latents(seed, "sample", 1, z_dim, step=number) for number in some]).to(device)
        labels = classes_in_turn(some, classes) if label is None else torch.full((len(some),), label)
        yield from zip(some, generate(generator, z, labels, batch_size).cpu(), strict=True)
