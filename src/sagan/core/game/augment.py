"""DiffAugment: the discriminator sees real and generated images under the same random, differentiable augmentations.

Zhao et al., arXiv 2006.10738: with few images the discriminator memorises them. Augmenting only the real images would
teach the generator the augmentations, so every image that the discriminator sees is augmented, in its own step and in
the generator's.

Random numbers and augmentation are separate. `draw` makes a few numbers for each image on the CPU, so that a step is
augmented identically on every device; `augment` is pure tensor code: it never waits for the device, can be captured in
a CUDA graph, and can be differentiated any number of times (R1 through augmented images).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sagan.system.randomness import uniform as draw_uniform

_TRANSLATION = 0.125  # the largest shift of an image, as a fraction of its side
_CUTOUT = 0.5  # the side of the square that is cut out, as a fraction of the image's


class Augmentation(NamedTuple):
    """One policy: how many random numbers it needs for an image, and the function that applies it."""

    numbers: int
    apply: Callable[[Tensor, Tensor], Tensor]  # images (batch, c, h, w) and uniforms (batch, numbers) -> images


def draw(policies: Sequence[str], batch: int, generator: torch.Generator) -> Tensor:
    """The random numbers that `augment` needs: uniform from 0 to 1, float32 (batch, numbers of all the policies), CPU.

    The numbers of a policy do not depend on which others there are.
    """
    # the numbers of every policy are drawn, in the order of the table, so that no policy shifts another's
    drawn = {name: draw_uniform((batch, policy.numbers), generator) for name, policy in AUGMENTATIONS.items()}
    return torch.cat([draw_uniform((batch, 0), generator), *(drawn[name] for name in policies)], dim=1)


def augment(images: Tensor, policies: Sequence[str], uniforms: Tensor) -> Tensor:
    """Applies the policies, in order, to images (batch, channels, h, w); keeps their dtype and memory format.

    Values may leave [-1, 1]. ``uniforms`` are `draw`'s for the same policies, on the images' device.
    """
    numbers = [AUGMENTATIONS[name].numbers for name in policies]
    assert len(uniforms) == len(images)
    for name, part in zip(policies, uniforms.split(numbers, dim=1), strict=True):
        images = AUGMENTATIONS[name].apply(images, part)
    return images


def _change_color(images: Tensor, uniforms: Tensor) -> Tensor:
    """Brightness by -0.5 to 0.5, then saturation by a factor of 0 to 2, then contrast by 0.5 to 1.5; alpha stays."""
    if images.shape[1] == 4:
        colours, alpha = images.split([3, 1], dim=1)
        return _in_format_of(images, torch.cat([_change_color(colours, uniforms), alpha], dim=1))
    brightness, saturation, contrast = uniforms.to(images.dtype)[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    images = _spread(images, 2 * saturation, dims=(1,))
    return _spread(images, contrast + 0.5, dims=(1, 2, 3))


def _spread(images: Tensor, factor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Scales each image's deviation from its mean over ``dims`` by the image's factor."""
    return torch.lerp(images.mean(dims, keepdim=True), images, factor)


def _translate(images: Tensor, uniforms: Tensor) -> Tensor:
    """Shifts each image by whole pixels, up to ``_TRANSLATION`` of its side along each axis; zeros come in."""
    height, width = images.shape[2:]
    rows, columns = (
        torch.arange(size, device=images.device) - _whole(uniform, -furthest, furthest)
        for size, uniform, furthest in (
            (height, uniforms[:, :1], int(height * _TRANSLATION + 0.5)),
            (width, uniforms[:, 1:], int(width * _TRANSLATION + 0.5)),
        )
    )  # the source of each row and of each column of the result: (batch, height) and (batch, width)
    outside = _outer((rows >= 0) & (rows < height), (columns >= 0) & (columns < width)).logical_not_()
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    moved = images.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    return _in_format_of(images, torch.where(outside, 0, moved.view(images.shape)))


def _cut_out(images: Tensor, uniforms: Tensor) -> Tensor:
    """Zeroes a square with sides ``_CUTOUT`` of the image's, at a random centre, clipped at the border."""
    inside = []
    for size, uniform in zip(images.shape[2:], uniforms.split(1, dim=1), strict=True):
        side = int(size * _CUTOUT + 0.5)
        first = _whole(uniform, 0, size - side % 2) - side // 2
        pixels = torch.arange(size, device=images.device)
        inside.append((pixels >= first) & (pixels < first + side))
    return torch.where(_outer(*inside), 0, images)  # masked_fill would lose the memory format


def _flip(images: Tensor, uniforms: Tensor) -> Tensor:
    """Mirrors half of the images, left to right."""
    return torch.where(uniforms[:, :, None, None] < 0.5, images.flip(3), images)


AUGMENTATIONS = {  # a new policy comes last, so that it does not shift the others' numbers
    "color": Augmentation(3, _change_color),
    "translation": Augmentation(2, _translate),
    "cutout": Augmentation(2, _cut_out),
    "flip": Augmentation(1, _flip),  # not in DiffAugment
}


def _whole(uniform: Tensor, least: int, most: int) -> Tensor:
    """Uniform numbers in [0, 1) as int64 from least to most, each equally likely."""
    return (uniform * (most - least + 1)).long() + least


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    """True where row and column are both True: bool (batch, height) and (batch, width) to (batch, 1, h, w)."""
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _in_format_of(images: Tensor, others: Tensor) -> Tensor:
    """``others`` in the memory format of ``images``."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return others.contiguous(memory_format=torch.channels_last) if channels_last else others
