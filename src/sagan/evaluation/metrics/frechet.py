"""The Fréchet distance between two sets of features, each taken as a Gaussian (Heusel et al. 2017, arXiv 1706.08500).

    d(a, b) = |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))

It is the square of a distance (Wasserstein-2 between the Gaussians) and is reported squared. With n images it is too
large, by about tr(A) dim / (4 n) where A is isotropic and less elsewhere: at 2048 dims and 50,000 images by up to 1% of
the features' variance, at 10,000 by up to 5%. So values with different n are not comparable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sagan.evaluation.metrics.moments import Moments, different_dims
from sagan.system.errors import UserError
from sagan.system.sentences import plural

SMALL = 4  # with fewer images than SMALL x dim the distance mostly measures the sample size


def frechet_distance(a: Moments, b: Moments, *, factor: Tensor | None = None) -> float:
    """The squared Fréchet distance between two sets of 2 or more images, 0 or more. Symmetric in a and b. Raises
    UserError where it is not finite.

    tr (A B)^(1/2) is the sum of the square roots of the eigenvalues of F^T A F for any F with F F^T = B: two symmetric
    eigenvalue problems on the CPU in float64, and no square root of an asymmetric matrix, which can fail or be complex.
    With fewer images than dims, F has one column for each dimension that the smaller set spans, so the eigenvalues that
    must be zero, and whose rounding errors a square root would enlarge, never arise.

    factor: `covariance_factor(b)`, computed once where many distances to the same ``b`` are wanted.
    """
    if a.dim != b.dim:
        raise UserError(different_dims(a.dim, b.dim))
    if factor is None:
        a, b = sorted((a, b), key=lambda moments: moments.count, reverse=True)
        factor = covariance_factor(b)
    covariance = _finite(a.covariance.cpu())
    roots = torch.linalg.eigvalsh(_finite(factor.T @ covariance @ factor)).clamp(min=0).sqrt()
    apart = (a.mean.cpu() - b.mean.cpu()).square().sum()
    total = apart + covariance.trace() + factor.square().sum() - 2 * roots.sum()  # tr B = |F|^2
    return max(0.0, float(_finite(total)))  # rounding may take a distance of 0 just below it


def covariance_factor(moments: Moments) -> Tensor:
    """F with F F^T = the covariance: shape (dim, rank) with rank = min(dim, count - 1), float64, on the CPU."""
    rank = min(moments.dim, moments.count - 1)
    values, vectors = torch.linalg.eigh(_finite(moments.covariance.cpu()))  # ascending
    factor: Tensor = vectors[:, -rank:] * values[-rank:].clamp(min=0).sqrt()
    return factor


def _finite(numbers: Tensor) -> Tensor:
    """The same numbers. Raises UserError where one is NaN or infinite: no distance follows from it, least of all 0."""
    if not numbers.isfinite().all():
        raise UserError(
            "the Fréchet distance is not a finite number: features are NaN or infinite, or too large for it"
        )
    return numbers


def few_images_warning(count: int, dim: int) -> str | None:
    """One sentence where ``count`` images are too few for the Fréchet distance of features of ``dim`` numbers to mean
    much, else None."""
    if count <= dim:
        return (
            f"{plural(count, 'image')} for features of {dim:,} numbers: their covariance has no full rank, and the "
            f"Fréchet distance mostly measures the sample size; use more than {dim:,} images, better {SMALL * dim:,}"
        )
    if count < SMALL * dim:
        return (
            f"{count:,} images are few for features of {dim:,} numbers: the Fréchet distance is too large by up to "
            f"{dim / (4 * count):.0%} of the features' variance; use {SMALL * dim:,} images or more"
        )
    return None
