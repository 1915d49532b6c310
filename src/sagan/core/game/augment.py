"""DiffAugment: the discriminator sees real and generated images through the same random, differentiable changes.

Zhao et al., arXiv 2006.10738: with few images the discriminator learns them by heart; augmenting real images alone
would teach the generator the augmentations, so every image that the discriminator sees is augmented, in its own step
and in the generator's.

Drawing and augmenting are apart. `draw` makes a few numbers for each image on the CPU, so that a step is augmented
alike on every device; `augment` is tensor code alone: it waits for nothing, can be captured in a CUDA graph, and can be
differentiated any number of times (R1 through augmented images).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sagan.system.errors import UserError

TRANSLATION = 0.125
"""The furthest an image moves, as a share of its side."""
CUTOUT = 0.5
"""The side of the square that is cut out, as a share of the image's."""


class Augmentation(NamedTuple):
    """One policy: how many numbers it needs for an image, and what it makes of images and of those numbers."""

    numbers: int
    apply: Callable[[Tensor, Tensor], Tensor]  # images (batch, c, h, w) and uniforms (batch, numbers) -> images


def draw(policies: Sequence[str], batch: int, generator: torch.Generator) -> Tensor:
    """The random numbers that `augment` needs: uniform from 0 to 1, float32 (batch, numbers of all the policies), CPU.

    The numbers of a policy do not depend on which others there are. UserError for a name not in ``AUGMENTATIONS``.
    """
    _check_policies(policies)
    # those of every policy are drawn, in the order of the table, so that none moves another's
    drawn = {name: torch.rand(batch, policy.numbers, generator=generator) for name, policy in AUGMENTATIONS.items()}
    return torch.cat([torch.empty(batch, 0), *(drawn[name] for name in policies)], dim=1)


def augment(images: Tensor, policies: Sequence[str], uniforms: Tensor) -> Tensor:
    """Images (batch, channels, h, w) under these policies, one after the other, in the same dtype and memory format;
    those in [-1, 1] may leave it.

    ``uniforms`` are `draw`'s for the same policies, on the images' device. UserError when they do not fit.
    """
    _check_policies(policies)
    numbers = [AUGMENTATIONS[name].numbers for name in policies]
    if uniforms.shape != (len(images), sum(numbers)):
        raise UserError(
            f"uniforms must be {(len(images), sum(numbers))} for these images and policies, got {tuple(uniforms.shape)}"
        )
    for name, part in zip(policies, uniforms.split(numbers, dim=1), strict=True):
        images = AUGMENTATIONS[name].apply(images, part)
    return images


def _change_color(images: Tensor, uniforms: Tensor) -> Tensor:
    """Brightness by -0.5 to 0.5, then saturation by a factor of 0 to 2, then contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = uniforms.to(images.dtype)[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    images = _spread(images, 2 * saturation, dims=(1,))
    return _spread(images, contrast + 0.5, dims=(1, 2, 3))


def _spread(images: Tensor, factor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Each image's differences from its mean over ``dims``, times its factor."""
    return torch.lerp(images.mean(dims, keepdim=True), images, factor)


def _translate(images: Tensor, uniforms: Tensor) -> Tensor:
    """Moves each image by whole pixels, up to ``TRANSLATION`` of its side along each axis; what comes in is 0."""
    height, width = images.shape[2:]
    rows, columns = (
        torch.arange(size, device=images.device) - _whole(uniform, -furthest, furthest)
        for size, uniform, furthest in (
            (height, uniforms[:, :1], int(height * TRANSLATION + 0.5)),
            (width, uniforms[:, 1:], int(width * TRANSLATION + 0.5)),
        )
    )  # the row and the column that each row and column of the result is taken from, (batch, height) and (batch, width)
    outside = _outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width)).logical_not_()
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    moved = images.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    return _in_format_of(images, torch.where(outside, 0, moved.view(images.shape)))


def _cut_out(images: Tensor, uniforms: Tensor) -> Tensor:
    """Makes a square of ``CUTOUT`` of the side 0, wherever its centre falls; what lies over the border is cut off."""
    inside = []
    for size, uniform in zip(images.shape[2:], uniforms.split(1, dim=1), strict=True):
        side = int(size * CUTOUT + 0.5)
        first = _whole(uniform, 0, size - side % 2) - side // 2
        pixels = torch.arange(size, device=images.device)
        inside.append((pixels >= first) & (pixels < first + side))
    return torch.where(_outer(*inside), 0, images)  # masked_fill would lose the memory format


def _flip(images: Tensor, uniforms: Tensor) -> Tensor:
    """Mirrors half of the images, left to right."""
    return torch.where(uniforms[:, :, None, None] < 0.5, images.flip(3), images)


AUGMENTATIONS = {
    "color": Augmentation(3, _change_color),
    "translation": Augmentation(2, _translate),
    "cutout": Augmentation(2, _cut_out),
    "flip": Augmentation(1, _flip),  # not DiffAugment's; a new policy comes last, so that it moves no other's numbers
}


def _check_policies(policies: Sequence[str]) -> None:
    for name in policies:
        if name not in AUGMENTATIONS:
            raise UserError(f"an augmentation must be one of {', '.join(AUGMENTATIONS)}, got {name!r}")


def _whole(uniform: Tensor, least: int, most: int) -> Tensor:
    """Uniform numbers from 0 to 1 as whole numbers, each from least to most equally likely: int64."""
    return (uniform * (most - least + 1)).long() + least


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels whose row and column are both chosen: bool (batch, height) and (batch, width) to (batch, 1, h, w)."""
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _in_format_of(images: Tensor, others: Tensor) -> Tensor:
    """``others`` in the memory format of ``images``."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return others.contiguous(memory_format=torch.channels_last) if channels_last else others
