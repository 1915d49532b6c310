"""What every generator and every discriminator provides: two base classes.

They are base classes and not protocols because a network is also a `torch.nn.Module`, which a protocol cannot say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sagan.core.shapes import ImageShape
from sagan.core.transforms import may_read
from sagan.system.errors import UserError


class Generator(nn.Module):
    """Latents z (batch, z_dim), and classes for a conditional network, to images ``(batch, *shape)`` in [-1, 1].

    Every network is built from some of these:

    * shape: of the images; `ImageShape` says which sides there may be.
    * z_dim: length of z, which is drawn from a standard normal distribution.
    * width: channels of the largest hidden map.
    * attention: for the size (the shorter side) of each map that an attention layer follows, the layer's pattern; none
      by default. As an attribute, the layers themselves, by that size.
    * num_classes: 0 for an unconditional network, which takes ``labels=None``; otherwise labels are int64 (batch,),
      from 0.
    """

    shape: ImageShape
    z_dim: int
    num_classes: int
    attention: nn.ModuleDict
    last: nn.ConvTranspose2d | nn.Conv2d

    def first_matrix(self) -> Tensor:
        """The weight of the first layer as a matrix (outputs, z_dim), of a folded generator."""
        raise NotImplementedError

    def check(self, z: Tensor, labels: Tensor | None = None) -> None:
        """Raises UserError unless images can be drawn from z and the labels."""
        _check("z", z, (self.z_dim,), self.last.weight)
        check_labels(labels, z, self.num_classes)

    if TYPE_CHECKING:

        def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor: ...

        def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor: ...


class Discriminator(nn.Module):
    """Images ``(batch, *shape)`` in [-1, 1], and classes for a conditional network, to logits (batch,); high: real.

    It is built from the same values as a `Generator`. A logit is `judge` of `features`.
    """

    shape: ImageShape
    num_classes: int
    attention: nn.ModuleDict
    last: nn.Conv2d | nn.Linear

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor: ...

        def features(self, images: Tensor) -> Tensor:
            """The last feature map of the images: (batch, channels, height, width), as small as the
            generator's first."""

        def judge(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
            """The logits (batch,) of images with these features, and of these classes for a conditional network."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        _check("images", images, self.shape.chw, self.last.weight)
        return self.judge(self.features(images), labels)


def _check(name: str, x: Tensor, shape: tuple[int, ...], weight: Tensor) -> None:
    """Raises UserError unless x is a batch of this shape for a network with such weights; autocast casts by itself."""
    dense = isinstance(x, Tensor) and x.layout == torch.strided
    if not dense or x.shape[1:] != shape or x.ndim != len(shape) + 1 or not x.is_floating_point():
        found = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        found += f" and layout {x.layout}" if isinstance(x, Tensor) and not dense else ""
        wanted = f"(batch, {', '.join(map(str, shape))})"
        raise UserError(f"{name} must be a floating-point tensor of shape {wanted}, got {found}")
    if x.device != weight.device:
        raise UserError(f"{name} must be on the network's device, {weight.device}, got {x.device}: move one of them")
    if x.dtype != weight.dtype and (x.is_meta or not torch.is_autocast_enabled(x.device.type)):
        raise UserError(f"{name} must have the dtype of the network, {weight.dtype}, got {x.dtype}: convert it")


def check_labels(labels: Tensor | None, x: Tensor, num_classes: int) -> None:
    """Raises UserError unless the labels are valid for x (batch, ...) and a network with ``num_classes`` classes."""
    batch = x.shape[0]
    if labels is None:
        if num_classes:
            raise UserError(
                f"labels are missing: this network has {num_classes} classes and needs int64 ({batch},), "
                "the class of each image"
            )
        return
    if not num_classes:
        raise UserError("this network is unconditional, so it takes no labels; build it with num_classes to have them")
    if not isinstance(labels, Tensor):
        raise UserError(f"labels must be an int64 tensor of shape ({batch},), got {type(labels).__name__}")
    if labels.dtype != torch.int64 or labels.shape != (batch,):
        raise UserError(
            f"labels must be int64 of shape ({batch},), one for each image, got {labels.dtype} {tuple(labels.shape)}"
        )
    if labels.device != x.device:
        raise UserError(f"labels must be on the device of the batch, {x.device}, got {labels.device}")
    # on a GPU this would make the host wait; there an invalid class fails in the embedding
    if labels.device.type == "cpu" and may_read(labels) and batch:
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= num_classes:
            raise UserError(f"labels must be 0 to {num_classes - 1}, got {least if least < 0 else most}")
