"""The kernel distance (KID, Bińkowski et al. 2018, arXiv 1801.01401): a squared MMD, unbiased at every sample size.

Being unbiased, it is 0 on average between two samples of one distribution, so it may be a little below 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.moments import check_pair, float64_device, to_float64

BLOCK = 1024  # rows of one block of the kernel matrix


@dataclass(frozen=True)
class KernelDistance:
    """The kernel distance and its standard error."""

    value: float
    standard_error: float


def kernel_distance(x: Tensor, y: Tensor) -> KernelDistance:
    """The unbiased squared MMD of x (n, dim) and y (m, dim) over all pairs of images, with the kernel (x.y/dim + 1)^3.

    The published KID averages this over random subsets; all pairs have the smallest error that the images allow. That
    error is the two-sample jackknife's: how much the value changes when one image is left out, which follows from the
    row sums of the kernel matrix, so the matrix is never held whole. For sets that hardly differ the error is a little
    too large. Needs 3 images on each side.
    """
    check_pair(x, y, least=3)
    n, m = len(x), len(y)
    xx, yy = sums_within(x), sums_within(y)
    xy, yx = sums_between(x, y)
    value = mmd_of_sums(xx.sum(), yy.sum(), xy.sum(), n, m)
    without_x = mmd_of_sums(xx.sum() - 2 * xx, yy.sum(), xy.sum() - xy, n - 1, m)  # (n,): each x left out in turn
    without_y = mmd_of_sums(xx.sum(), yy.sum() - 2 * yy, xy.sum() - yx, n, m - 1)
    variance = sum((len(left) - 1) * left.var(correction=0) for left in (without_x, without_y))
    return KernelDistance(value.item(), math.sqrt(variance))


def mmd_of_sums(xx: Tensor, yy: Tensor, xy: Tensor, n: int, m: int) -> Tensor:
    """The unbiased squared MMD (eq. 4) from sums of the kernel: over pairs of different images within x and within y,
    and over all pairs of an x and a y."""
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y/dim + 1)^3 for every pair: (n, m) from (n, dim) and (m, dim)."""
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3)


def sums_within(x: Tensor) -> Tensor:
    """For each image of x, the kernel summed over all others of x: (n,), float64."""
    blocks = x.split(BLOCK)
    sums = zeros(x).split(BLOCK)
    for i, rows in enumerate(blocks):
        rows = to_float64(rows)
        kernel = polynomial_kernel(rows, rows)
        sums[i].add_(kernel.sum(1) - kernel.diagonal())
        for j in range(i + 1, len(blocks)):  # the other half of the matrix is this half, transposed
            kernel = polynomial_kernel(rows, to_float64(blocks[j]))
            sums[i].add_(kernel.sum(1))
            sums[j].add_(kernel.sum(0))
    return torch.cat(sums)


def sums_between(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """For each image of x the kernel summed over all of y, (n,), and for each of y over all of x, (m,); float64."""
    over_y, over_x = zeros(x), zeros(y)
    for rows, row_sums in zip(x.split(BLOCK), over_y.split(BLOCK), strict=True):
        rows = to_float64(rows)
        for columns, column_sums in zip(y.split(BLOCK), over_x.split(BLOCK), strict=True):
            kernel = polynomial_kernel(rows, to_float64(columns))
            row_sums.add_(kernel.sum(1))
            column_sums.add_(kernel.sum(0))
    return over_y, over_x


def zeros(x: Tensor) -> Tensor:
    """A float64 zero for each image of x, on the device of its float64 arithmetic."""
    return torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))
