"""The Inception-v3 of 2015 whose features define the FID, in the layout of its published PyTorch weights.

Szegedy et al., "Rethinking the Inception Architecture" (arXiv 1512.00567), as in the TensorFlow graph
``inception-2015-12-05`` that Heusel et al. (arXiv 1706.08500) took. It differs from the later Inception-v3 of
torchvision: 1008 classes, averages that leave padding out of the count, and a maximum in the last block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Branch:
    """One path through a mixed block: a pool if any, then ``units`` in a row, each (channels out, height, width of the
    kernel), the last with ``stride``. Where it forks, a 1x3 and a 3x1 unit of 384 channels follow side by side."""

    def __init__(
        self, name: str, *units: tuple[int, int, int], stride: int = 1, pool: Pool | None = None, forks: bool = False
    ) -> None:
        strides = [1] * (len(units) - 1) + [stride]
        several = len(units) > 1 or forks
        names = [f"{name}_{number}" if several else name for number in range(1, len(units) + 1)]
        after = f"{name}_{len(units) + 1}"
        self.pool = pool
        self.units = {name: (*unit, each) for name, unit, each in zip(names, units, strides, strict=False)}
        self.fork = {f"{after}a": (384, 1, 3, 1), f"{after}b": (384, 3, 1, 1)} if forks else {}


class Mixed(nn.Module):
    """Branches over one map, joined along the channels; ``width`` channels come out."""

    def __init__(self, channels: int, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.width = 0
        for branch in branches:
            width = channels
            for name, unit in branch.units.items():
                self.add_module(name, _unit(width, *unit))
                width = unit[0]
            for name, unit in branch.fork.items():
                self.add_module(name, _unit(width, *unit))
            self.width += sum(unit[0] for unit in branch.fork.values()) or width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([map_ for branch in self.branches for map_ in self._follow(branch, x)], 1)

    def _follow(self, branch: Branch, x: Tensor) -> list[Tensor]:
        x = branch.pool(x) if branch.pool else x
        for name in branch.units:
            x = self.get_submodule(name)(x)
        return [self.get_submodule(name)(x) for name in branch.fork] or [x]


def _unit(channels: int, out: int, height: int, width: int, stride: int) -> Unit:
    """A unit of a mixed block: with stride 1 it keeps the size of the map, with stride 2 it has no padding."""
    padding = (height // 2, width // 2) if stride == 1 else (0, 0)
    return Unit(channels, out, (height, width), stride, padding)


def _block_35(pooled: int) -> list[Branch]:
    """35 x 35 maps (block A): 1x1, 5x5, twice 3x3, average."""
    return [
        Branch("branch1x1", (64, 1, 1)),
        Branch("branch5x5", (48, 1, 1), (64, 5, 5)),
        Branch("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        Branch("branch_pool", (pooled, 1, 1), pool=average),
    ]


def _block_35_to_17() -> list[Branch]:
    """Block B."""
    return [
        Branch("branch3x3", (384, 3, 3), stride=2),
        Branch("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3), stride=2),
        Branch("branch_pool", pool=halve),
    ]


def _block_17(width: int) -> list[Branch]:
    """17 x 17 maps (block C): 1x1, 7x7 and twice 7x7 as rows and columns, average."""
    return [
        Branch("branch1x1", (192, 1, 1)),
        Branch("branch7x7", (width, 1, 1), (width, 1, 7), (192, 7, 1)),
        Branch("branch7x7dbl", (width, 1, 1), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7)),
        Branch("branch_pool", (192, 1, 1), pool=average),
    ]


def _block_17_to_8() -> list[Branch]:
    """Block D."""
    return [
        Branch("branch3x3", (192, 1, 1), (320, 3, 3), stride=2),
        Branch("branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3), stride=2),
        Branch("branch_pool", pool=halve),
    ]


def _block_8(pool: Pool) -> list[Branch]:
    """8 x 8 maps (block E): 1x1, 3x3 and twice 3x3 ending in a row beside a column, a pool."""
    return [
        Branch("branch1x1", (320, 1, 1)),
        Branch("branch3x3", (384, 1, 1), forks=True),
        Branch("branch3x3dbl", (448, 1, 1), (384, 3, 3), forks=True),
        Branch("branch_pool", (192, 1, 1), pool=pool),
    ]


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
