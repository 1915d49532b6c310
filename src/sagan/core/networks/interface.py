"""What every generator and every discriminator is: two base classes that say it and compute nothing.

They are base classes and not protocols because a network is also a `torch.nn.Module`, which optimisers, averages and
compilers take, and a protocol cannot say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sagan.core.shapes import ImageShape
from sagan.system.errors import UserError


class Generator(nn.Module):
    """Latent vectors z (batch, z_dim), and classes if there are any, to images (batch, *shape) in [-1, 1].

    ``num_classes`` is 0 for a network without classes, which takes ``labels=None``; another takes int64 (batch,), each
    image's class from 0. ``attention`` holds its attention layers by the size of the map that they follow.
    """

    shape: ImageShape
    z_dim: int
    num_classes: int
    attention: nn.ModuleDict

    if TYPE_CHECKING:

        def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor: ...

        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor: ...


class Discriminator(nn.Module):
    """Images (batch, *shape) in [-1, 1], and their classes if there are any, to logits (batch,); high means real.

    Labels and ``attention`` are as for `Generator`.
    """

    shape: ImageShape
    num_classes: int
    attention: nn.ModuleDict

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor: ...

        def features(self, images: Tensor) -> Tensor:
            """What the network makes of the images before its last layers: (batch, channels, height, width)."""

        def judge(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
            """The logits (batch,) of images that have these features, and of these classes if there are any."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.judge(self.features(images), labels)


def check_labels(labels: Tensor | None, batch: int, num_classes: int) -> None:
    """Raises UserError unless the labels are those that a network with ``num_classes`` classes takes."""
    if labels is None:
        if num_classes:
            raise UserError(
                f"labels are missing: this network has {num_classes} classes and needs int64 ({batch},), "
                "the class of each image"
            )
        return
    if not num_classes:
        raise UserError("this network is unconditional, so it takes no labels; build it with num_classes to have them")
    if labels.dtype != torch.int64 or labels.shape != (batch,):
        raise UserError(
            f"labels must be int64 of shape ({batch},), one for each image, got {labels.dtype} {tuple(labels.shape)}"
        )
    # on a GPU this would make the host wait; there an unknown class fails in the lookup
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and batch:
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= num_classes:
            raise UserError(f"labels must be 0 to {num_classes - 1}, got {least if least < 0 else most}")
