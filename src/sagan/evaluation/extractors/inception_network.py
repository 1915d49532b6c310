"""The Inception-v3 of 2015 whose features define the FID, in the layout of its published PyTorch weights.

Szegedy et al., "Rethinking the Inception Architecture" (arXiv 1512.00567), as in the TensorFlow graph
``inception-2015-12-05`` that Heusel et al. (arXiv 1706.08500) took. It differs from the later Inception-v3 of
torchvision: 1008 classes, averages that leave padding out of the count, and a maximum in the last block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = (299, 299)
FEATURES = 2048
CLASSES = 1008

Pool = Callable[[Tensor], Tensor]
average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halve = partial(F.max_pool2d, kernel_size=3, stride=2)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, channels: int, out: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


@dataclass(frozen=True)
class Layer:
    """A ``Unit`` in a mixed block; with stride 1 it keeps the size of the map, with stride 2 it pads nothing."""

    name: str
    out: int
    kernel: tuple[int, int]
    stride: int = 1

    def build(self, channels: int) -> Unit:
        keep = (self.kernel[0] // 2, self.kernel[1] // 2)
        return Unit(channels, self.out, self.kernel, self.stride, keep if self.stride == 1 else (0, 0))


@dataclass(frozen=True)
class Branch:
    """One path through a mixed block: a pool if any, ``layers`` in a row, then ``fork`` side by side, if any."""

    layers: tuple[Layer, ...] = ()
    fork: tuple[Layer, ...] = ()
    pool: Pool | None = None


class Mixed(nn.Module):
    """Branches over one map, joined along the channels; ``width`` channels come out."""

    def __init__(self, channels: int, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.width = 0
        for branch in branches:
            width = channels
            for layer in branch.layers:
                self.add_module(layer.name, layer.build(width))
                width = layer.out
            for layer in branch.fork:
                self.add_module(layer.name, layer.build(width))
            self.width += sum(layer.out for layer in branch.fork) or width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([map_ for branch in self.branches for map_ in self._follow(branch, x)], 1)

    def _follow(self, branch: Branch, x: Tensor) -> list[Tensor]:
        x = branch.pool(x) if branch.pool else x
        for layer in branch.layers:
            x = self.get_submodule(layer.name)(x)
        return [self.get_submodule(layer.name)(x) for layer in branch.fork] or [x]


def _block_35(pooled: int) -> list[Branch]:
    """35 x 35 maps (block A): 1x1, 5x5, twice 3x3, average."""
    return [
        Branch((Layer("branch1x1", 64, (1, 1)),)),
        Branch((Layer("branch5x5_1", 48, (1, 1)), Layer("branch5x5_2", 64, (5, 5)))),
        Branch(_twice_3x3()),
        Branch((Layer("branch_pool", pooled, (1, 1)),), pool=average),
    ]


def _block_35_to_17() -> list[Branch]:
    """Block B."""
    return [Branch((Layer("branch3x3", 384, (3, 3), stride=2),)), Branch(_twice_3x3(stride=2)), Branch(pool=halve)]


def _twice_3x3(stride: int = 1) -> tuple[Layer, ...]:
    first, second = Layer("branch3x3dbl_1", 64, (1, 1)), Layer("branch3x3dbl_2", 96, (3, 3))
    return first, second, Layer("branch3x3dbl_3", 96, (3, 3), stride)


def _block_17(width: int) -> list[Branch]:
    """17 x 17 maps (block C): 1x1, 7x7 and twice 7x7 as rows and columns, average."""
    seven = (
        Layer("branch7x7_1", width, (1, 1)),
        Layer("branch7x7_2", width, (1, 7)),
        Layer("branch7x7_3", 192, (7, 1)),
    )
    double = (
        Layer("branch7x7dbl_1", width, (1, 1)),
        Layer("branch7x7dbl_2", width, (7, 1)),
        Layer("branch7x7dbl_3", width, (1, 7)),
        Layer("branch7x7dbl_4", width, (7, 1)),
        Layer("branch7x7dbl_5", 192, (1, 7)),
    )
    return [
        Branch((Layer("branch1x1", 192, (1, 1)),)),
        Branch(seven),
        Branch(double),
        Branch((Layer("branch_pool", 192, (1, 1)),), pool=average),
    ]


def _block_17_to_8() -> list[Branch]:
    """Block D."""
    three = (Layer("branch3x3_1", 192, (1, 1)), Layer("branch3x3_2", 320, (3, 3), stride=2))
    seven = (
        Layer("branch7x7x3_1", 192, (1, 1)),
        Layer("branch7x7x3_2", 192, (1, 7)),
        Layer("branch7x7x3_3", 192, (7, 1)),
        Layer("branch7x7x3_4", 192, (3, 3), stride=2),
    )
    return [Branch(three), Branch(seven), Branch(pool=halve)]


def _block_8(pool: Pool) -> list[Branch]:
    """8 x 8 maps (block E): 1x1, 3x3 and twice 3x3 ending in a row beside a column, a pool."""
    double = (Layer("branch3x3dbl_1", 448, (1, 1)), Layer("branch3x3dbl_2", 384, (3, 3)))
    return [
        Branch((Layer("branch1x1", 320, (1, 1)),)),
        Branch((Layer("branch3x3_1", 384, (1, 1)),), fork=_row_and_column("branch3x3_2")),
        Branch(double, fork=_row_and_column("branch3x3dbl_3")),
        Branch((Layer("branch_pool", 192, (1, 1)),), pool=pool),
    ]


def _row_and_column(name: str) -> tuple[Layer, ...]:
    return Layer(f"{name}a", 384, (1, 3)), Layer(f"{name}b", 384, (3, 1))


MIXED = {
    "Mixed_5b": _block_35(pooled=32),
    "Mixed_5c": _block_35(pooled=64),
    "Mixed_5d": _block_35(pooled=64),
    "Mixed_6a": _block_35_to_17(),
    "Mixed_6b": _block_17(width=128),
    "Mixed_6c": _block_17(width=160),
    "Mixed_6d": _block_17(width=160),
    "Mixed_6e": _block_17(width=192),
    "Mixed_7a": _block_17_to_8(),
    "Mixed_7b": _block_8(average),
    "Mixed_7c": _block_8(maximum),  # where the paper has an average; every FID has been measured with the maximum
}


class FidInception(nn.Module):
    """Grey levels, float32 (n, 3, 299, 299) in 0..255, to features (n, 2048) and logits without bias (n, 1008).

    The features are the mean over the last 8 x 8 map. The logits leave the last layer's bias out, as the inception
    score always has. State-dict names and shapes are those of ``pt_inception-2015-12-05-6726825d.pth``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = Unit(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = Unit(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Unit(80, 192, (3, 3))
        channels = 192
        for name, branches in MIXED.items():
            block = Mixed(channels, branches)
            self.add_module(name, block)
            channels = block.width
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = (images - 128) / 128
        x = self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))  # 147 x 147
        x = halve(self.Conv2d_2b_3x3(x))  # 73 x 73
        x = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # 35 x 35
        for name in MIXED:
            x = self.get_submodule(name)(x)
        features = x.mean((2, 3))
        return features, F.linear(features, self.fc.weight)
