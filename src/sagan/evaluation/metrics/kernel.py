"""The kernel distance (KID, Bińkowski et al. 2018, arXiv 1801.01401): a squared MMD, unbiased at every sample size.

Being unbiased it is 0 on average between two samples of one distribution, so it may be a little below 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.moments import check_pair, float64_device, to_float64
from sagan.system.errors import UserError

BLOCK = 1024  # rows of one block of the kernel matrix


@dataclass(frozen=True)
class KernelDistance:
    """The kernel distance as published: over random subsets.

    mean: over the subsets. std: their spread (divided by the number of subsets), the uncertainty of one.
    standard_error: of the mean, over other images as well as other subsets (`error_over_subsets`): right when the two
    sets differ, up to twice too large when they hardly do. None where one subset, or subsets of all the images, cannot
    tell.
    """

    mean: float
    std: float
    standard_error: float | None


@dataclass(frozen=True)
class KernelEstimate:
    """The kernel distance from all pairs of images, and its standard error."""

    value: float
    standard_error: float


def kernel_distance(
    x: Tensor, y: Tensor, *, subsets: int = 100, subset_size: int = 1000, generator: torch.Generator
) -> KernelDistance:
    """The mean unbiased squared MMD over random subsets of x and y (n, dim) and (m, dim), kernel (x.y/dim + 1)^3.

    Per subset ``generator`` (a CPU one) draws a permutation of x, then one of y, and the first ``subset_size`` of each
    are compared: torchmetrics' order, so equal seeds give equal subsets. Raises UserError when a side has fewer images
    than ``subset_size``.
    """
    check_pair(x, y)
    smaller = min(len(x), len(y))
    if not 2 <= subset_size <= smaller:
        raise UserError(
            f"subset_size must be from 2 to the number of images on the smaller side, {smaller:,}, got "
            f"{subset_size:,}: score more images or take smaller subsets"
        )
    if subsets < 1:
        raise UserError(f"subsets must be 1 or more, got {subsets}")

    def drawn(features: Tensor) -> Tensor:
        order = torch.randperm(len(features), generator=generator)
        return features[order[:subset_size].to(features.device)]

    values = torch.tensor([squared_mmd(drawn(x), drawn(y)) for _ in range(subsets)], dtype=torch.float64)
    error = error_over_subsets(values, subset_size, smaller)
    return KernelDistance(values.mean().item(), values.std(correction=0).item(), error)


def error_over_subsets(values: Tensor, subset_size: int, count: int) -> float | None:
    """The standard error of the mean of ``values``, estimates from random subsets of ``count`` images, or None.

    The subsets share images: their spread around the estimate from all images goes as 1/size - 1/count, the spread of
    that one around the truth as 1/count. So std / sqrt(subsets), which falls to 0 with ever more subsets, is too small.
    """
    if len(values) == 1 or subset_size == count:
        return None
    share = 1 / len(values) + subset_size / (count - subset_size)
    return math.sqrt(values.var().item() * share)


def full_kernel_distance(x: Tensor, y: Tensor, *, block: int = BLOCK) -> KernelEstimate:
    """The unbiased squared MMD from all pairs of x (n, dim) and y (m, dim), without a matrix of n x m.

    For fewer than about 12,000 images it is less work than 100 subsets of 1,000, and its error is the smallest the
    images allow. That error is the two-sample jackknife's: how much the value moves when one image is left out, which
    follows from the sums of the kernel's rows alone; for sets that hardly differ it is a little too large. Needs 3
    images a side.
    """
    check_pair(x, y, least=3)
    n, m = len(x), len(y)
    xx, yy = within(x, block), within(y, block)
    xy, yx = between(x, y, block)
    value = mmd_of_sums(xx.sum(), yy.sum(), xy.sum(), n, m)
    without_x = mmd_of_sums(xx.sum() - 2 * xx, yy.sum(), xy.sum() - xy, n - 1, m)  # (n,): each x left out in turn
    without_y = mmd_of_sums(xx.sum(), yy.sum() - 2 * yy, xy.sum() - yx, n, m - 1)
    variance = sum((len(left) - 1) * left.var(correction=0) for left in (without_x, without_y))
    return KernelEstimate(value.item(), math.sqrt(variance))


def squared_mmd(x: Tensor, y: Tensor, *, block: int = BLOCK) -> float:
    """The unbiased squared MMD of x (n, dim) and y (m, dim), n and m 2 or more (Bińkowski et al., eq. 4)."""
    sums = within(x, block).sum(), within(y, block).sum(), between(x, y, block)[0].sum()
    return mmd_of_sums(*sums, len(x), len(y)).item()


def mmd_of_sums(xx: Tensor, yy: Tensor, xy: Tensor, n: int, m: int) -> Tensor:
    """The unbiased squared MMD from the sums of the kernel over the pairs: unlike ones in xx and yy, all in xy."""
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y/dim + 1)^3 for every pair: (n, m) from (n, dim) and (m, dim)."""
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)


def within(x: Tensor, block: int = BLOCK) -> Tensor:
    """For each image of x its kernel with all others of x, summed: (n,), float64."""
    blocks = x.split(block)
    sums = zeros(x).split(block)
    for i, rows in enumerate(blocks):
        rows = to_float64(rows)
        kernel = polynomial_kernel(rows, rows)
        sums[i].add_(kernel.sum(1) - kernel.diagonal())
        for j in range(i + 1, len(blocks)):  # the other half of the matrix is this half, transposed
            kernel = polynomial_kernel(rows, to_float64(blocks[j]))
            sums[i].add_(kernel.sum(1))
            sums[j].add_(kernel.sum(0))
    return torch.cat(sums)


def between(x: Tensor, y: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """For each image of x its kernel with all of y, summed, (n,); and for each of y with all of x, (m,); float64."""
    over_y, over_x = zeros(x), zeros(y)
    for rows, row_sums in zip(x.split(block), over_y.split(block), strict=True):
        rows = to_float64(rows)
        for columns, column_sums in zip(y.split(block), over_x.split(block), strict=True):
            kernel = polynomial_kernel(rows, to_float64(columns))
            row_sums.add_(kernel.sum(1))
            column_sums.add_(kernel.sum(0))
    return over_y, over_x


def zeros(x: Tensor) -> Tensor:
    """A float64 zero for each image of x, where its float64 arithmetic is done."""
    return torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))
