"""The Fréchet distance that infinitely many images would have (FID-infinity: Chong and Forsyth 2020, arXiv 1911.07023).

With n images the distance is too large by about c / n, and c differs from generator to generator, so equal n does not
make two generators comparable. The distances at several n lie on a line over 1/n, and the value at 1/n = 0 is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.evaluation.metrics.frechet import frechet_distance
from sagan.evaluation.metrics.moments import Moments, check_features
from sagan.system.errors import UserError
from sagan.system.sentences import plural

POINTS = 8  # subset sizes on the line
IMAGES_PER_DIM = 4  # the fewest images for each number of a feature vector


@dataclass(frozen=True)
class Extrapolation:
    """A Fréchet distance at infinitely many images (it may be a little below 0) and its standard error.

    The error is that of the fit, from how far the points are off the line. The subsets share images, so it is about
    half of what other images would change.
    """

    value: float
    standard_error: float


def extrapolated_distance(
    features: Tensor, reference: Moments, *, factor: Tensor, generator: torch.Generator
) -> Extrapolation:
    """The Fréchet distance of features (n, dim) to ``reference``, extrapolated to infinitely many images.

    It is measured on random subsets, drawn by ``generator`` (on the CPU), of `POINTS` sizes evenly spaced up to n from
    n / 4, or from 2 dim where that is more: with fewer than dim images the points are not on a line. The bias of the
    reference's own finite size is not removed, so compare only values with one reference.

    factor: `covariance_factor(reference)`. Raises UserError for fewer than `IMAGES_PER_DIM` * dim images.
    """
    count, dim = check_features(features).shape
    if count < IMAGES_PER_DIM * dim:
        raise UserError(
            f"extrapolating needs {IMAGES_PER_DIM} images or more for each of the {dim:,} numbers of a feature vector, "
            f"got {plural(count, 'image')}: score more"
        )
    smallest = max(count // 4, 2 * dim)
    sizes = [smallest + (count - smallest) * point // (POINTS - 1) for point in range(POINTS)]
    subsets = [Moments.of(random_subset(features, size, generator)) for size in sizes]
    distances = [frechet_distance(subset, reference, factor=factor) for subset in subsets]
    return Extrapolation(*fitted_line([1 / size for size in sizes], distances))


def fitted_line(x: list[float], y: list[float]) -> tuple[float, float]:
    """The least-squares line through 3 points or more: its value at x = 0 and that value's standard error."""
    xs, ys = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    centred = xs - xs.mean()
    spread = centred.square().sum()
    slope = (centred * ys).sum() / spread
    value = ys.mean() - slope * xs.mean()
    variance = (ys - value - slope * xs).square().sum() / (len(x) - 2)
    error = (variance * (1 / len(x) + xs.mean().square() / spread)).sqrt()
    return value.item(), error.item()


def random_subset(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """``size`` of the features, drawn without replacement."""
    return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)]
