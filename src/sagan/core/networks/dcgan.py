"""The published program's networks: a DCGAN with spectral norm and self-attention, for any power of two from 16 up.

At 64x64, width 64, layer for layer (maps are height = width):

    generator                                              discriminator
    z 128          -> 4x4x512    transposed conv 4, BN, ReLU    64x64x3   -> 32x32x64   conv 4 stride 2, LeakyReLU 0.1
    4x4x512        -> 8x8x256    the same, stride 2             32x32x64  -> 16x16x128  the same
    8x8x256        -> 16x16x128  the same, then attention       16x16x128 -> 8x8x256    the same, then attention
    16x16x128      -> 32x32x64   the same, then attention       8x8x256   -> 4x4x512    the same, then attention
    32x32x64       -> 64x64x3    transposed conv 4, tanh        4x4x512   -> one logit  conv 4

Every convolution but each network's last is spectrally normalised; the attention layers are not. Another size has more
or fewer of the middle layers: the widest map is always 4x4 with ``width * image_size / 8`` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sagan.core.attention import Pattern
from sagan.core.layers.self_attention import attention_layers
from sagan.core.layers.spectral_norm import NormAxis, SpectralConv2d, SpectralConvTranspose2d
from sagan.system.errors import UserError

SMALLEST_IMAGE = 16


def map_sizes(image_size: int, network: Literal["generator", "discriminator"]) -> tuple[int, ...]:
    """The sizes of a network's hidden maps in the order it makes them: (4, 8, 16, 32) for a generator of 64x64 images.

    Raises UserError unless the image size is a power of two, 16 or more.
    """
    if image_size < SMALLEST_IMAGE or image_size & (image_size - 1):
        raise UserError(f"imsize must be a power of two, {SMALLEST_IMAGE} or more, got {image_size}")
    sizes = tuple(2**power for power in range(2, image_size.bit_length() - 1))
    return sizes if network == "generator" else sizes[::-1]


class Generator(nn.Module):
    """Latent vectors z (batch, z_dim) to images (batch, 3, image_size, image_size) in [-1, 1].

    Args:
        image_size: a power of two, 16 or more.
        z_dim: length of z, drawn from a standard normal distribution.
        width: channels of the largest hidden map.
        attention: pattern of the attention layer after a map, by the map's size; none by default.
        norm_axis: which channels spectral norm takes as rows; the published program's checkpoints need "input".
    """

    def __init__(
        self,
        image_size: int = 64,
        z_dim: int = 128,
        width: int = 64,
        attention: Mapping[int, Pattern] | None = None,
        norm_axis: NormAxis = "output",
    ):
        super().__init__()
        self.image_size, self.z_dim = image_size, z_dim
        sizes = map_sizes(image_size, "generator")
        channels = {size: width * image_size // (2 * size) for size in sizes}
        self.stages = nn.ModuleDict()
        for size in sizes:
            first = size == sizes[0]
            self.stages[str(size)] = nn.Sequential(
                SpectralConvTranspose2d(
                    z_dim if first else channels[size // 2],
                    channels[size],
                    4,
                    stride=1 if first else 2,
                    padding=0 if first else 1,
                    norm_axis=norm_axis,
                ),
                nn.BatchNorm2d(channels[size]),
                nn.ReLU(),
            )
        self.attention = attention_layers(channels, attention)
        self.last = nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = z[:, :, None, None]
        for size, stage in self.stages.items():
            x = stage(x).contiguous(memory_format=torch.channels_last)
            if size in self.attention:
                x = self.attention[size](x)
        return torch.tanh(_in_float32(self.last, x))


class Discriminator(nn.Module):
    """Images (batch, 3, image_size, image_size) in [-1, 1] to logits (batch,); high means real.

    Args:
        image_size: a power of two, 16 or more.
        width: channels of the largest hidden map.
        attention: pattern of the attention layer after a map, by the map's size; none by default.
    """

    def __init__(self, image_size: int = 64, width: int = 64, attention: Mapping[int, Pattern] | None = None):
        super().__init__()
        self.image_size = image_size
        sizes = map_sizes(image_size, "discriminator")
        channels = {size: width * image_size // (2 * size) for size in sizes}
        self.stages = nn.ModuleDict()
        for size in sizes:
            self.stages[str(size)] = nn.Sequential(
                SpectralConv2d(channels.get(2 * size, 3), channels[size], 4, stride=2, padding=1),
                nn.LeakyReLU(0.1),
            )
        self.attention = attention_layers(channels, attention)
        self.last = nn.Conv2d(channels[sizes[-1]], 1, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.judge(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """What the network makes of the images before its last layer: (batch, channels, 4, 4)."""
        x = images.contiguous(memory_format=torch.channels_last)
        for size, stage in self.stages.items():
            x = stage(x)
            if size in self.attention:
                x = self.attention[size](x)
        return x

    def judge(self, features: Tensor) -> Tensor:
        """The logits (batch,) of images that have these features."""
        return _in_float32(self.last, features).flatten()


def _in_float32(last: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A network's last layer, in its weights' precision also under autocast: pixels and logits are not rounded."""
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = last(x.to(last.weight.dtype))
    return out
