"""The networks of the paper's own code: residual, conditional or not, for images of many sizes.

At 128x128, width 64, block for block (maps are height = width; the paper's code attends at 32 in both networks):

    generator                                            discriminator
    z 128        -> 4x4x1024     linear                  128x128x3   -> 64x64x64     DownBlock
    4x4x1024     -> 8x8x1024     UpBlock                 64x64x64    -> 32x32x128    DownBlock, then attention
    8x8x1024     -> 16x16x512    UpBlock                 32x32x128   -> 16x16x256    DownBlock
    16x16x512    -> 32x32x256    UpBlock, then attention 16x16x256   -> 8x8x512      DownBlock
    32x32x256    -> 64x64x128    UpBlock                 8x8x512     -> 4x4x1024     DownBlock
    64x64x128    -> 128x128x64   UpBlock                 4x4x1024    -> 4x4x1024     SameBlock
    128x128x64   -> 128x128x3    BN, ReLU, conv 3, tanh  4x4x1024    -> h 1024       ReLU, sum over pixels
                                                         h, class y  -> one logit    w h + b + <e_y, h>

Images of another aspect have a first map of theirs (`sagan.core.shapes.ImageShape`), which is 4x4 here. With 1000
classes and that attention these are 42,078,852 and 39,463,618 parameters. A map of size s has
``width * min(16, image_size / s)`` channels in a generator and ``width * min(16, image_size / 2s)`` in a discriminator.
So a larger image has more blocks of the widest maps, and a smaller one has fewer and narrower ones:

    image    generator, from 4x4 up                      discriminator, from the image down (and again the last)
       32    512 256 128 64                              64 128 256
       64    1024 512 256 128 64                         64 128 256 512
      128    1024 1024 512 256 128 64                    64 128 256 512 1024
      256    1024 1024 1024 512 256 128 64               64 128 256 512 1024 1024

Every weight but batch norm's and gamma is spectrally normalised, including the linear layers, the class embedding and
the attention layers; weights start Xavier uniform, biases 0. Where the paper and its code disagree (the width of the
values, pooled keys) the code is followed; see `sagan.core.layers.self_attention`. The code runs a power iteration in
every pass of the generator, sampling included, and in the discriminator's pass over real images; here there is one
for each training step of a network (`sagan.core.layers.spectral_norm`). The generator's last batch norm averages over
about 10,000 batches there, and has torch's momentum here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagan.core.attention import Pattern
from sagan.core.layers.residual import DownBlock, SameBlock, UpBlock
from sagan.core.layers.self_attention import SpectralSelfAttention2d, attention_layers
from sagan.core.layers.spectral_norm import SpectralConv2d, SpectralEmbedding, SpectralLinear, SpectralNorm
from sagan.core.networks import dcgan, interface
from sagan.core.networks.interface import check_labels
from sagan.core.shapes import ImageShape
from sagan.core.transforms import channels_last, without_autocast

_WIDEST = 16  # in units of the width


def map_sizes(shape: ImageShape, network: Literal["generator", "discriminator"]) -> tuple[int, ...]:
    """The sizes of a network's hidden maps in order of computation: (4, 8, 16, 32, 64) for a generator of 64x64 images,
    whose largest map is as large as the image, and (32, 16, 8, 4) for their discriminator.

    Raises UserError for a shape that networks are not built for.
    """
    sizes = dcgan.map_sizes(shape, network)
    return (*sizes, shape.shorter) if network == "generator" else sizes


class Generator(interface.Generator):
    """The residual generator; the arguments are described in `interface.Generator`.

    The paper's code has an attention layer at 32, with ``pool=2``.
    """

    def __init__(
        self,
        shape: ImageShape,
        z_dim: int = 128,
        width: int = 64,
        attention: Mapping[int, Pattern] | None = None,
        num_classes: int = 0,
    ):
        super().__init__()
        self.shape, self.z_dim, self.num_classes = shape, z_dim, num_classes
        image_size = shape.shorter
        smallest, *larger = map_sizes(shape, "generator")
        self.first_map = shape.grid(smallest)
        channels = {size: width * min(_WIDEST, image_size // size) for size in (smallest, *larger)}
        self.first = SpectralLinear(z_dim, math.prod(self.first_map) * channels[smallest])
        self.stages = nn.ModuleDict(
            {str(size): UpBlock(channels[size // 2], channels[size], num_classes) for size in larger}
        )
        self.attention = attention_layers(channels, attention, SpectralSelfAttention2d)
        self.norm = nn.BatchNorm2d(width, dtype=torch.float32)
        self.last = SpectralConv2d(width, shape.channels, 3, padding=1)
        _start_as_xavier(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check(z, labels)
        x = self.first(z).unflatten(1, (*self.first_map, -1)).permute(0, 3, 1, 2)  # channels_last
        x = self._attend(str(min(self.first_map)), x)
        for size, stage in self.stages.items():
            x = self._attend(size, stage(x, labels))
        x = F.relu(self.norm(x))
        with without_autocast(x.device):  # pixels are not rounded
            return torch.tanh(self.last(x.to(self.last.weight.dtype)))

    def first_matrix(self) -> Tensor:
        return self.first.normalized_weight()

    def _attend(self, size: str, x: Tensor) -> Tensor:
        out: Tensor = self.attention[size](x) if size in self.attention else x
        return out


class Discriminator(interface.Discriminator):
    """The residual discriminator; with classes it is a projection discriminator (arXiv 1802.05637, equation 3).

    The arguments are described in `interface.Generator`. An attention layer at the smallest map comes before
    the last block; the paper's code has one at 32, with ``pool=2``.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int = 64,
        attention: Mapping[int, Pattern] | None = None,
        num_classes: int = 0,
    ):
        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        image_size = shape.shorter
        sizes = map_sizes(shape, "discriminator")
        channels = {size: width * min(_WIDEST, image_size // (2 * size)) for size in sizes}
        self.stages = nn.ModuleDict(
            {
                str(size): DownBlock(channels.get(2 * size, shape.channels), channels[size], first=size == sizes[0])
                for size in sizes
            }
        )
        self.attention = attention_layers(channels, attention, SpectralSelfAttention2d)
        features = channels[sizes[-1]]
        self.last_block = SameBlock(features)
        self.last = SpectralLinear(features, 1)
        self.embedding = SpectralEmbedding(num_classes, features) if num_classes else None
        _start_as_xavier(self)

    def features(self, images: Tensor) -> Tensor:
        x = channels_last(images)
        for size, stage in self.stages.items():
            x = stage(x)
            if size in self.attention:
                x = self.attention[size](x)
        return F.relu(self.last_block(x))

    def judge(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, features, self.num_classes)
        with without_autocast(features.device):  # logits are not rounded
            summed = features.to(self.last.weight.dtype).sum((2, 3))
            logits: Tensor = self.last(summed).flatten()
            if self.embedding is not None:
                logits = logits + (self.embedding(labels) * summed).sum(1)
            return logits


def _start_as_xavier(network: nn.Module) -> None:
    """Xavier uniform weights and zero biases in every spectrally normalised layer, whose norm is estimated again."""
    for module in network.modules():
        if isinstance(module, SpectralNorm):
            nn.init.xavier_uniform_(module.weight)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.zeros_(bias)
            module.restart()
