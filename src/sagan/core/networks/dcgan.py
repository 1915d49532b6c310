"""The published program's networks: a DCGAN with spectral norm and self-attention, for images of many sizes.

At 64x64, width 64, layer for layer (maps are height = width):

    generator                                              discriminator
    z 128          -> 4x4x512    transposed conv 4, BN, ReLU    64x64x3   -> 32x32x64   conv 4 stride 2, LeakyReLU 0.1
    4x4x512        -> 8x8x256    the same, stride 2             32x32x64  -> 16x16x128  the same
    8x8x256        -> 16x16x128  the same, then attention       16x16x128 -> 8x8x256    the same, then attention
    16x16x128      -> 32x32x64   the same, then attention       8x8x256   -> 4x4x512    the same, then attention
    32x32x64       -> 64x64x3    transposed conv 4, tanh        4x4x512   -> one logit  conv 4

Every convolution but each network's last is spectrally normalised; the attention layers are not. Another size has more
or fewer of the middle layers, and a first map of its own aspect (`sagan.core.shapes.ImageShape`): every layer but the
first and the last of these tables is the same for a map of any height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagan.core.attention import Pattern
from sagan.core.layers.conditional_batch_norm import ConditionalBatchNorm2d
from sagan.core.layers.folding import fold_batch_norm
from sagan.core.layers.self_attention import attention_layers
from sagan.core.layers.spectral_norm import NormAxis, SpectralConv2d, SpectralConvTranspose2d, SpectralEmbedding
from sagan.core.networks import interface
from sagan.core.networks.interface import check_labels
from sagan.core.shapes import ImageShape
from sagan.core.transforms import channels_last, without_autocast


def map_sizes(shape: ImageShape, network: Literal["generator", "discriminator"]) -> tuple[int, ...]:
    """The sizes of a network's hidden maps in order of computation: (4, 8, 16, 32) for a generator of 64x64 images.

    Raises UserError for a shape that networks are not built for.
    """
    sizes = tuple(shape.shorter >> left for left in range(shape.doublings, 0, -1))
    return sizes if network == "generator" else sizes[::-1]


class Generator(interface.Generator):
    """The published generator; with classes its batch norm is conditional.

    ``norm_axis`` says which channels spectral norm takes as rows: the published program's checkpoints need "input". The
    other arguments are described in `interface.Generator`.
    """

    def __init__(
        self,
        shape: ImageShape,
        z_dim: int = 128,
        width: int = 64,
        attention: Mapping[int, Pattern] | None = None,
        norm_axis: NormAxis = "output",
        num_classes: int = 0,
    ):
        super().__init__()
        self.shape, self.z_dim, self.num_classes = shape, z_dim, num_classes
        sizes = map_sizes(shape, "generator")
        channels = {size: width * shape.shorter // (2 * size) for size in sizes}
        self.stages = nn.ModuleDict()
        for size in sizes:
            first = size == sizes[0]
            convolution = SpectralConvTranspose2d(
                z_dim if first else channels[size // 2],
                channels[size],
                shape.grid(size) if first else 4,
                stride=1 if first else 2,
                padding=0 if first else 1,
                norm_axis=norm_axis,
            )
            self.stages[str(size)] = Stage(convolution, channels[size], num_classes)
        self.attention = attention_layers(channels, attention)
        self.last = nn.ConvTranspose2d(width, shape.channels, 4, stride=2, padding=1, dtype=torch.float32)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check(z, labels)
        x = z[:, :, None, None]
        for size, stage in self.stages.items():
            x = channels_last(stage(x, labels))
            if size in self.attention:
                x = self.attention[size](x)
        with without_autocast(x.device):  # pixels are not rounded
            return torch.tanh(self.last(x.to(self.last.weight.dtype)))

    def first_matrix(self) -> Tensor:
        stage = next(iter(self.stages.values()))
        assert isinstance(stage, Stage)
        convolution = stage[0]
        assert isinstance(convolution, SpectralConvTranspose2d)
        return convolution.normalized_weight().flatten(1).T  # from (z_dim, channels, height, width)


class Stage(nn.ModuleList):
    """A convolution, batch norm (conditional if there are classes), and ReLU."""

    def __init__(self, convolution: SpectralConvTranspose2d, channels: int, num_classes: int):
        plain = partial(nn.BatchNorm2d, dtype=torch.float32)
        norm = ConditionalBatchNorm2d(channels, num_classes) if num_classes else plain(channels)
        super().__init__([convolution, norm])

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        convolution, norm = self
        x = convolution(x)
        return F.relu(norm(x) if labels is None else norm(x, labels))

    def fold(self) -> None:
        """Folds batch norm into the convolution before it."""
        convolution, norm = self
        assert isinstance(convolution, SpectralConvTranspose2d)
        self[1] = fold_batch_norm(convolution, norm)


class Discriminator(interface.Discriminator):
    """The published discriminator; with classes it is a projection discriminator (arXiv 1802.05637, equation 3).

    The arguments are described in `interface.Generator`.
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
        sizes = map_sizes(shape, "discriminator")
        channels = {size: width * shape.shorter // (2 * size) for size in sizes}
        self.stages = nn.ModuleDict()
        for size in sizes:
            self.stages[str(size)] = nn.Sequential(
                SpectralConv2d(channels.get(2 * size, shape.channels), channels[size], 4, stride=2, padding=1),
                nn.LeakyReLU(0.1),
            )
        self.attention = attention_layers(channels, attention)
        features = channels[sizes[-1]]
        self.last = nn.Conv2d(features, 1, shape.grid(sizes[-1]), dtype=torch.float32)
        self.embedding = SpectralEmbedding(num_classes, features) if num_classes else None

    def features(self, images: Tensor) -> Tensor:
        x = channels_last(images)
        for size, stage in self.stages.items():
            x = stage(x)
            if size in self.attention:
                x = self.attention[size](x)
        return x

    def judge(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        check_labels(labels, features, self.num_classes)
        with without_autocast(features.device):  # logits are not rounded
            features = features.to(self.last.weight.dtype)
            logits: Tensor = self.last(features).flatten()
            if self.embedding is not None:
                logits = logits + (self.embedding(labels) * features.sum((2, 3))).sum(1)
            return logits
