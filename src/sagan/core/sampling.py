"""Drawing images from a generator, each of which depends only on its z (and class)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from sagan.core.latents import truncated_normal
from sagan.core.networks.interface import Generator
from sagan.system.errors import UserError
from sagan.system.images import to_uint8
from sagan.system.precision import full_precision
from sagan.system.randomness import generator as random_generator


@torch.no_grad()
def generate(generator: Generator, z: Tensor, labels: Tensor | None = None, batch_size: int = 64) -> Tensor:
    """Images for latents z (n, z_dim), uint8 (n, *shape) on z's device, from a generator in eval mode.

    ``labels`` (n,) are their classes, for a conditional generator (see `classes_in_turn`). In eval mode batch norm uses
    its stored statistics, so an image does not depend on the rest of its batch. Computed in plain float32, whatever the
    caller has enabled, so that a z gives the same image on every device. Raises UserError for a generator in training
    mode, for one whose images are not finite, and for z or labels that do not fit it.
    """
    if generator.training:
        raise UserError("the generator must be in eval mode: in training mode an image depends on its whole batch")
    _check_batch_size(batch_size)
    if isinstance(z, Tensor) and isinstance(labels, Tensor) and not labels.is_meta:
        labels = labels.to(z.device)
    generator.check(z, labels)
    with full_precision(z.device):
        parts = zip(z.split(batch_size), _split(labels, batch_size), strict=False)
        return torch.cat([to_uint8(_finite(generator(*part))) for part in parts])


def _split(whole: Tensor | None, batch_size: int) -> Iterable[Tensor | None]:
    parts: Iterable[Tensor | None] = itertools.repeat(None) if whole is None else whole.split(batch_size)
    return parts


def _check_batch_size(batch_size: int) -> None:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size must be a whole number, 1 or more, got {batch_size!r}")


def _finite(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise UserError("the generator's images are NaN or infinite: its weights come from a training that diverged")
    return images


def classes_in_turn(numbers: range, num_classes: int | str) -> Tensor | None:
    """The classes of images by number, int64 (n,), cycling through 0, 1, 2 ...; None if there are no classes.

    So an image's class depends only on its number, and the classes have equally many images.
    """
    return torch.tensor(numbers, dtype=torch.int64, device="cpu") % int(num_classes) if num_classes else None


def numbered_latents(
    generator: Generator, seed: int, numbers: range, label: int | None = None, truncation: float | None = None
) -> tuple[Tensor, Tensor | None]:
    """The latents z (n, z_dim) of images by number, each a function of (seed, number), and their classes.

    A conditional generator's classes come in turn, or are all ``label``. ``truncation``: see `truncated_normal`. Raises
    UserError for a class that it does not have, and for a truncation too small.
    """
    classes = generator.num_classes
    if label is not None and not 0 <= label < classes:
        known = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise UserError(f"this generator has {known}, got label {label}")
    draws = [random_generator(seed, "sample", step=number) for number in numbers]
    z = torch.cat([truncated_normal((1, generator.z_dim), draw, truncation) for draw in draws])
    return z, classes_in_turn(numbers, classes) if label is None else torch.full((len(numbers),), label, device="cpu")


def numbered_images(
    generator: Generator,
    seed: int,
    numbers: range,
    *,
    device: torch.device,
    batch_size: int = 64,
    label: int | None = None,
    truncation: float | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yields (i, image i of this seed), uint8 of the generator's shape, for each i of ``numbers``; see
    `numbered_latents`."""
    _check_batch_size(batch_size)
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        z, labels = numbered_latents(generator, seed, some, label, truncation)
        yield from zip(some, generate(generator, z.to(device), labels, batch_size).cpu(), strict=True)
