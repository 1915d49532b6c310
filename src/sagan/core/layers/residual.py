"""The residual blocks of the paper's generator and discriminator, every convolution spectrally normalised.

A block adds the output of two 3x3 convolutions to a 1x1 convolution of its input, the shortcut. The shortcut's
convolution is applied to the smaller map, before upsampling or after pooling: a 1x1 convolution commutes with repeating
and with averaging pixels, so the function is that of the paper's code, which applies it to the larger map at four times
the cost.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sagan.core.layers.conditional_batch_norm import ConditionalBatchNorm2d
from sagan.core.layers.folding import fold_batch_norm
from sagan.core.layers.spectral_norm import SpectralConv2d


class UpBlock(nn.Module):
    """A generator block: a map (batch, in, h, w) to one of twice the size, (batch, out, 2h, 2w).

    Batch norm - ReLU - nearest-neighbour x2 - conv 3x3 - batch norm - ReLU - conv 3x3, plus the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, num_classes: int = 0):
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(in_channels, num_classes)
        self.conv1 = SpectralConv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = ConditionalBatchNorm2d(out_channels, num_classes)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = SpectralConv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        out = self.conv1(_upsample(F.relu(self.norm1(x, labels))))
        out = self.conv2(F.relu(self.norm2(out, labels)))
        return _upsample(self.shortcut(x)).add(out)

    def fold(self) -> None:
        """Folds the batch norm that follows a convolution into it; the first one follows a sum, and stays."""
        left = fold_batch_norm(self.conv1, self.norm2)
        assert isinstance(left, ConditionalBatchNorm2d)
        self.norm2 = left


class DownBlock(nn.Module):
    """A discriminator block: a map (batch, in, h, w) to one of half the size, (batch, out, h / 2, w / 2).

    ReLU - conv 3x3 - ReLU - conv 3x3 - 2x2 average pooling, plus the shortcut. The first block sees the image itself
    and has no ReLU before its first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, first: bool = False):
        super().__init__()
        self.first = first
        self.conv1 = SpectralConv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = SpectralConv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x if self.first else F.relu(x))
        out = self.conv2(F.relu(out))
        return F.avg_pool2d(out, 2).add(self.shortcut(F.avg_pool2d(x, 2)))


class SameBlock(nn.Module):
    """A discriminator's last block: ReLU - conv 3x3 - ReLU - conv 3x3, plus its input, of the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = SpectralConv2d(channels, channels, 3, padding=1)
        self.conv2 = SpectralConv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x.add(self.conv2(F.relu(self.conv1(F.relu(x)))))


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
