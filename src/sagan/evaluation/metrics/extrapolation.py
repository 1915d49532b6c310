"""The Fréchet distance that infinitely many images would have (FID-infinity: Chong and Forsyth 2020, arXiv 1911.07023).

With n images the distance is too large by about c / n, and c differs from generator to generator, so an equal n does
not make two generators comparable. The distances of several n lie on a line over 1/n, and where it meets 1/n = 0 is
the figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.frechet import covariance_factor, frechet_distance
from sagan.evaluation.metrics.moments import Moments, check_features
from sagan.system.errors import UserError

FEWEST_POINTS = 8


@dataclass(frozen=True)
class Extrapolation:
    """A Fréchet distance at infinitely many images, and the line that led there.

    value: the distance; a little below 0 is possible.
    standard_error: of the value, from how far the points are off the line. The subsets share images, so it is the error
    of the fit, about half of what other images would change: for that, repeat with other images.
    slope: of the line over 1/n; the bias at n images is slope / n.
    sizes, distances: the points.
    """

    value: float
    standard_error: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def extrapolated_distance(
    features: Tensor,
    reference: Moments,
    *,
    generator: torch.Generator,
    points: int = 15,
    smallest: int | None = None,
    factor: Tensor | None = None,
) -> Extrapolation:
    """The Fréchet distance of features (n, dim) to ``reference``, extrapolated to infinitely many images.

    At ``points`` sizes evenly spaced from ``smallest`` to n, the distance of a random subset is taken. The reference
    stays as it is: the bias of its own finite size is not removed, so compare only figures of one reference.

    generator: on the CPU; draws the subsets.
    smallest: more than dim, below which the points are not on a line; by default a quarter of n, but at least 2 dim.
    factor: `covariance_factor(reference)`, if it has been computed already.
    Raises UserError for too few images or points.
    """
    count, dim = check_features(features).shape
    if dim != reference.dim:
        raise UserError(
            f"features of {dim} and {reference.dim} numbers cannot be compared: both must come from one extractor"
        )
    if points < FEWEST_POINTS:
        raise UserError(f"points must be {FEWEST_POINTS} or more, got {points}: fewer say too little about the line")
    smallest = max(count // 4, 2 * dim) if smallest is None else smallest
    if not dim < smallest <= count - points:
        raise UserError(
            f"extrapolating needs subsets of more than {dim:,} images (the length of a feature vector) and more images "
            f"than the smallest subset, got {count:,} images and a smallest subset of {smallest:,}: score more images"
        )
    sizes = [smallest + (count - smallest) * point // (points - 1) for point in range(points)]
    factor = covariance_factor(reference) if factor is None else factor
    distances = [
        frechet_distance(Moments.of(subset(features, size, generator)), reference, factor=factor) for size in sizes
    ]
    value, error, slope = fitted_line([1 / size for size in sizes], distances)
    return Extrapolation(value, error, slope, tuple(sizes), tuple(distances))


def fitted_line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """The least-squares line through 3 points or more: its value at x = 0, that one's standard error, and its slope."""
    xs, ys = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    centred = xs - xs.mean()
    spread = centred.square().sum()
    slope = (centred * ys).sum() / spread
    value = ys.mean() - slope * xs.mean()
    variance = (ys - value - slope * xs).square().sum() / (len(x) - 2)
    error = (variance * (1 / len(x) + xs.mean().square() / spread)).sqrt()
    return value.item(), error.item(), slope.item()


def subset(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """``size`` of the features, drawn without replacement."""
    return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)]
