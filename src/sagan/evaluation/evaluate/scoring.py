"""One pass of features over a set of images, and every metric from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.data.faces import draw_faces, eye_colour_agreement, left_right_symmetry
from sagan.evaluation.evaluate.image_sets import ImageSet
from sagan.evaluation.evaluate.reference import KEPT, Reference
from sagan.evaluation.features import FeatureExtractor
from sagan.evaluation.metrics.extrapolation import extrapolated_distance
from sagan.evaluation.metrics.frechet import covariance_factor, frechet_distance, rank_warning
from sagan.evaluation.metrics.inception_score import InceptionScoreStream
from sagan.evaluation.metrics.kernel import full_kernel_distance
from sagan.evaluation.metrics.manifold import manifold_scores, nearest
from sagan.evaluation.metrics.moments import Moments
from sagan.randomness import generator as random_generator

NEAREST_K = 5
FEWEST = 20  # images to score

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """One metric of a set of images: its mean over the draws, their spread, and what real images score.

    ``spread`` is the standard deviation over the draws, None for one draw. ``error`` is the metric's own standard
    error where it knows one. ``floor`` is what real images score.
    """

    metric: str
    label: str
    value: float
    spread: float | None = None
    error: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Features:
    """One draw as an extractor sees it. ``features`` and ``images`` are of the first `KEPT` at most."""

    moments: Moments
    features: Tensor
    inception: InceptionScoreStream | None
    images: Tensor


def score_images(
    draws: list[ImageSet],
    reference: Reference,
    extractor: FeatureExtractor,
    *,
    progress: Progress,
    warn: Callable[[str], object],
) -> tuple[list[Score], Features]:
    """All scores of one or more draws of the same generator (or of one set of images), and the first draw's features.

    Raises ValueError for another size than the reference's, or for too few images; ``warn`` gets a sentence about a
    sample that is small for its metric.
    """
    for draw in draws:
        _check(draw, reference)
    first: Features | None = None
    values = []
    factor = covariance_factor(reference.moments)
    total = sum(draw.count for draw in draws)
    for number, draw in enumerate(draws):
        offset = number * draw.count
        found = extract(draw, extractor, lambda done, _, offset=offset: progress(offset + done, total))  # type: ignore[misc]
        values.append(_metrics(found, reference, factor, seed=number))
        first = first or found
    assert first is not None, "there is at least one draw"
    if sentence := rank_warning(first.moments):
        warn(sentence)
    scores = [_over_draws(metric, [one[metric] for one in values], reference, extractor) for metric in values[0]]
    if reference.images.drawn_faces:
        scores += _face_scores(first.images)
    return scores, first


def extract(images: ImageSet, extractor: FeatureExtractor, progress: Progress) -> Features:
    """One pass: moments over all images; features and pixels of the first `KEPT`."""
    moments = Moments(extractor.dim)
    inception = InceptionScoreStream(images.count) if extractor.has_logits else None
    features, pixels = [], []
    for start, batch in images.batches(extractor.batch_size):
        found, logits = extractor.with_logits(batch) if inception else (extractor(batch), None)
        moments.add(found)
        if inception is not None and logits is not None:
            inception.add(logits)
        if start < KEPT:
            features.append(found[: KEPT - start].cpu())
            pixels.append(batch[: KEPT - start].cpu())
        progress(start + len(batch), images.count)
    return Features(moments, torch.cat(features), inception, torch.cat(pixels))


def nearest_real(found: Features, reference: Reference, *, rows: int = 8, neighbours: int = 7) -> Tensor:
    """A picture of memorisation, or of none: in each row a sample, then its nearest real images in feature space.

    Returns uint8 (rows * (1 + neighbours), 3, height, width), for a grid of 1 + neighbours columns.
    """
    near = nearest(found.features[:rows], reference.features, min(neighbours, len(reference.features))).indices
    pictures = []
    for sample, indices in zip(found.images[:rows], near, strict=True):
        real = [reference.images.read(number, number + 1) for number in reference.kept[indices].tolist()]
        pictures.append(torch.cat([sample.unsqueeze(0), *real]))
    return torch.cat(pictures)


def _check(draw: ImageSet, reference: Reference) -> None:
    if draw.image_size != reference.images.image_size:
        raise ValueError(
            f"the images to score are {draw.image_size}, the reference's are {reference.images.image_size}: "
            "bring both to one size first, with `sagan prepare`"
        )
    if draw.count < FEWEST:
        raise ValueError(f"a score needs {FEWEST} images or more, {draw.description} has {draw.count}")


def _metrics(found: Features, reference: Reference, factor: Tensor, seed: int) -> dict[str, tuple[float, float | None]]:
    """Every metric of one draw: its value and, where it knows one, its standard error."""
    kernel = full_kernel_distance(found.features, reference.features)
    values: dict[str, tuple[float, float | None]] = {
        "frechet": (frechet_distance(found.moments, reference.moments, factor=factor), None),
        "kernel": (kernel.value, kernel.standard_error),
    }
    draw = random_generator(seed, "subsets of the extrapolation")
    if len(found.features) >= 4 * found.moments.dim:  # else the line has no points beyond the features' dimension
        line = extrapolated_distance(found.features, reference.moments, generator=draw, points=8)
        values["frechet_infinity"] = (line.value, line.standard_error)
    manifold = manifold_scores(reference.features, found.features, nearest_k=NEAREST_K)
    for name in ("precision", "recall", "density", "coverage"):
        values[name] = (getattr(manifold, name), None)
    if found.inception is not None:
        score = found.inception.score()
        values["inception_score"] = (score.mean, score.std)
    return values


def _over_draws(
    metric: str, values: list[tuple[float, float | None]], reference: Reference, extractor: FeatureExtractor
) -> Score:
    numbers = torch.tensor([value for value, _ in values], dtype=torch.float64)
    spread = numbers.std().item() if len(values) > 1 else None
    floor = reference.floors.get("frechet" if metric == "frechet_infinity" else metric)
    return Score(metric, label_of(metric, extractor), numbers.mean().item(), spread, values[0][1], floor)


def label_of(metric: str, extractor: FeatureExtractor) -> str:
    """What a score is called: FID only where the extractor is the Inception of 2015."""
    is_fid = extractor.label == "FID"
    behind = extractor.label.removeprefix("Fréchet distance ") if not is_fid else ""
    names = {
        "frechet": "FID" if is_fid else "Fréchet distance",
        "frechet_infinity": "FID, at infinitely many images"
        if is_fid
        else "Fréchet distance, at infinitely many images",
        "kernel": "KID" if is_fid else "Kernel distance",
        "inception_score": "Inception score" if is_fid else "Class score exp(KL)",
    }
    return f"{names.get(metric, metric)} {behind}".strip()


def _face_scores(images: Tensor) -> list[Score]:
    """What must agree in drawn faces, beside the same of as many real drawn faces."""
    size = images.shape[-1]
    ours, real = images.numpy(), draw_faces(min(len(images), 1000), size, seed=1)
    eyes, real_eyes = eye_colour_agreement(ours), eye_colour_agreement(real)
    mirror, real_mirror = left_right_symmetry(ours), left_right_symmetry(real)
    scores = [
        Score("eye_colour_agreement", "Eyes of one colour", eyes["agreement"], floor=real_eyes["agreement"]),
        Score("eye_colour_confident", "Eyes found", eyes["confident"], floor=real_eyes["confident"]),
        Score("symmetry", "Left-right symmetry", mirror["symmetry"], floor=real_mirror["symmetry"]),
    ]
    return [score for score in scores if math.isfinite(score.value)]  # without eyes there is nothing that could agree
