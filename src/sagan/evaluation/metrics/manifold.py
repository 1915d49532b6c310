"""Fidelity and coverage of fakes, from balls around every image that reach to its k-th nearest neighbour.

Precision and recall: Kynkäänniemi et al. 2019 (arXiv 1904.06991). Density and coverage: Naeem et al. 2020
(arXiv 2002.09797). Also the nearest training images of a sample, which show memorisation.

Distances are computed as x.x + y.y - 2 x.y in float64, block by block: float32 would depend on the TF32 setting and
lose its digits to cancellation at near copies, where they matter most. Even float64 may, so the distances of the
nearest candidates, and of pairs too close to the boundary of a ball, are computed by subtraction, and no result depends
on the size of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.moments import check_pair, float64_device, to_float64
from sagan.system.errors import UserError

BLOCK = 1024  # rows of one block of distances
SPARE = 8  # candidates kept beyond the k nearest, in case rounding has swapped neighbours at equal distances
TIE = 1e-12  # a relative difference from a ball's radius below which a point is on its boundary, which is outside


@dataclass(frozen=True)
class Neighbours:
    """indices: into the reference, int64 (n, k), nearest first, equal distances by index. distances: float64 (n, k)."""

    indices: Tensor
    distances: Tensor


@dataclass(frozen=True)
class ManifoldScores:
    """precision: the share of fakes inside a real image's ball. recall: the share of real images inside a fake's ball.
    density: the mean number of real balls that a fake is in, over k; 1 when both sets have one distribution, and it
    may exceed 1. coverage: the share of real images with a fake in their ball; 1 - 2^-k when both are also as large."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(
    real: Tensor, fake: Tensor, *, nearest_k: int = 5, real_radii: Tensor | None = None
) -> ManifoldScores:
    """Precision, recall, density and coverage of fake (m, dim) against real (n, dim), as the ``prdc`` package has them.

    All four depend on n and m, so compare only scores with equal ones. A point on the boundary of a ball is outside, as
    in ``prdc`` (Kynkäänniemi et al. count it as inside; the two differ on exact copies only). No n x m matrix is kept.

    real_radii: `radii(real, nearest_k)`, if computed already.
    """
    check_pair(real, fake)
    real_radii = radii(real, nearest_k) if real_radii is None else real_radii
    fake_radii = radii(fake, nearest_k)
    balls_around_fake = torch.zeros(len(fake), dtype=torch.int64, device=fake_radii.device)  # the real balls it is in
    recalled, covered = [], []
    for rows, real_radius in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        in_fake_ball = torch.zeros(len(rows), dtype=torch.bool, device=real_radii.device)
        has_fake = in_fake_ball.clone()
        parts = zip(fake.split(BLOCK), fake_radii.split(BLOCK), balls_around_fake.split(BLOCK), strict=True)
        for columns, fake_radius, balls in parts:
            distances = BlockOfDistances(rows, columns)
            in_real = distances.below(real_radius.unsqueeze(1))
            balls.add_(in_real.sum(0))
            has_fake |= in_real.any(1)
            in_fake_ball |= distances.below(fake_radius.unsqueeze(0)).any(1)
        recalled.append(in_fake_ball)
        covered.append(has_fake)
    return ManifoldScores(
        precision=share(balls_around_fake > 0),
        recall=share(torch.cat(recalled)),
        density=balls_around_fake.double().mean().item() / nearest_k,
        coverage=share(torch.cat(covered)),
    )


def radii(features: Tensor, nearest_k: int) -> Tensor:
    """The distance of each image of features (n, dim) to its k-th nearest other one: (n,), float64."""
    return nearest(features, features, nearest_k, exclude_self=True).distances[:, -1]


def nearest(features: Tensor, reference: Tensor, k: int, *, exclude_self: bool = False) -> Neighbours:
    """The k nearest images of reference (m, dim) to each image of features (n, dim), and their distances.

    An exact copy is at distance exactly 0. exclude_self: both are the same set, and an image is not its own neighbour.
    Raises UserError when the reference has fewer than k images.
    """
    check_pair(features, reference, least=1)
    offered = len(reference) - exclude_self
    if not 1 <= k <= offered:
        raise UserError(f"the number of neighbours must be from 1 to that of the images, {offered}, got {k}")
    found = [
        nearest_of_block(rows, reference, k, number * BLOCK if exclude_self else None)
        for number, rows in enumerate(features.split(BLOCK))
    ]
    return Neighbours(torch.cat([part.indices for part in found]), torch.cat([part.distances for part in found]))


def nearest_of_block(rows: Tensor, reference: Tensor, k: int, itself_from: int | None) -> Neighbours:
    """`nearest` for one block of rows. itself_from: where the rows begin in the reference, if they are part of it."""
    device = float64_device(rows.device)
    kept = min(k + SPARE, len(reference) - (itself_from is not None))
    squares = torch.empty(len(rows), 0, dtype=torch.float64, device=device)
    indices = torch.empty(len(rows), 0, dtype=torch.int64, device=device)
    for number, columns in enumerate(reference.split(BLOCK)):
        numbers = torch.arange(number * BLOCK, number * BLOCK + len(columns), device=device)
        found = BlockOfDistances(rows, columns).squares
        if itself_from is not None:
            own = torch.arange(itself_from, itself_from + len(rows), device=device)
            found.masked_fill_(own.unsqueeze(1) == numbers, torch.inf)
        squares = torch.cat([squares, found], 1)
        indices = torch.cat([indices, numbers.expand(len(rows), -1)], 1)
        squares, best = squares.topk(min(kept, squares.shape[1]), largest=False, sorted=False)
        indices = indices.gather(1, best)
    indices = indices.sort(1).values  # so that equal distances end up in the order of the indices
    distances = torch.stack([distance(rows, reference[column.to(reference.device)]) for column in indices.T], 1)
    distances, order = distances.sort(dim=1, stable=True)
    return Neighbours(indices.gather(1, order)[:, :k], distances[:, :k])


class BlockOfDistances:
    """The distances between a block of images x (n, dim) and a block y (m, dim), in float64.

    squares: (n, m), the squared distances, with rounding errors of up to ``doubt``, (n, m).
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = to_float64(x), to_float64(y)
        centre = self.y.mean(0)  # a common offset would lose digits
        x, y = self.x - centre, self.y - centre
        lengths = x.square().sum(1, keepdim=True) + y.square().sum(1)
        self.squares = torch.addmm(lengths, x, y.T, alpha=-2)
        self.doubt = lengths.mul_(8 * x.shape[1] * torch.finfo(torch.float64).eps)

    def below(self, radius: Tensor) -> Tensor:
        """Which of the distances are less than ``radius``, (n, 1) or (1, m): bool (n, m)."""
        radius = radius * (1 - TIE)
        difference = self.squares - radius.square()
        answer = difference < 0
        for pairs in (difference.abs() <= self.doubt).nonzero().split(BLOCK):
            i, j = pairs.T
            answer[i, j] = distance(self.x[i], self.y[j]) < radius.expand_as(answer)[i, j]
        return answer


def distance(x: Tensor, y: Tensor) -> Tensor:
    """The distance of each row of x (n, dim) to the same row of y, by subtraction: (n,), float64."""
    return (to_float64(x) - to_float64(y)).square().sum(1).sqrt()


def share(chosen: Tensor) -> float:
    return chosen.double().mean().item()
