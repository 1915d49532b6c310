"""One pass of features over a set of images, and every metric from it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sagan.data.faces import eye_colour_agreement, left_right_symmetry
from sagan.evaluation.extractors.interface import FeatureExtractor
from sagan.evaluation.features import features_of
from sagan.evaluation.image_sets import ImageSet
from sagan.evaluation.metrics.extrapolation import IMAGES_PER_DIM, extrapolated_distance
from sagan.evaluation.metrics.frechet import few_images_warning, frechet_distance
from sagan.evaluation.metrics.inception_score import InceptionScoreStream
from sagan.evaluation.metrics.kernel import kernel_distance
from sagan.evaluation.metrics.manifold import manifold_scores, nearest
from sagan.evaluation.metrics.moments import Moments
from sagan.evaluation.reference import FEWEST, KEPT, MANIFOLD, NEAREST_K, NEAREST_SAMPLES, SLOW, Reference
from sagan.system.callbacks import Progress, Say
from sagan.system.errors import UserError
from sagan.system.randomness import generator as random_generator
from sagan.system.world import SINGLE_PROCESS, World

PICTURED = 8  # samples in the picture of nearest images
FACES = 1000  # images in which eyes are measured
FACE_LABELS = {
    "eye_colour_agreement": "Eyes of one colour",
    "eye_colour_chance": "Eyes of one colour, were it chance",
    "eye_colour_confident": "Eyes found",
    "symmetry": "Left-right symmetry",
}


@dataclass(frozen=True)
class Score:
    """One metric of a set of images: its mean over the draws, and the score of real images to compare it with.

    ``samples`` images of each draw and ``reference_samples`` of the reference were used. ``spread`` is the standard
    deviation over the draws, None for one draw. ``error`` is the metric's own standard error, None where it has none
    or there are several draws. ``floor`` is the score of ``floor_samples`` real images against as many others.
    """

    metric: str
    label: str
    value: float
    samples: int
    reference_samples: int
    spread: float | None = None
    error: float | None = None
    floor: float | None = None
    floor_samples: int | None = None


@dataclass(frozen=True)
class Value:
    """One metric of one draw: see `Score`."""

    value: float
    samples: int
    reference_samples: int
    error: float | None = None


@dataclass(frozen=True)
class Features:
    """The features of one draw: the moments of all, the vectors of the first `KEPT` images at most, on the extractor's
    device, and the pixels of the first few, for pictures and measures of faces."""

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
    warn: Say,
    say: Say = lambda sentence: None,
    world: World = SINGLE_PROCESS,
) -> tuple[list[Score], Features]:
    """All scores of one or more draws of one generator, or of one set of images, and the first draw's features.

    ``warn`` gets a sentence where a sample is small for its metric, ``say`` one before metrics that take long. The
    processes of a ``world`` divide the images; the scores are those of one process. Raises UserError for images of
    another size than the reference's, and for too few images.
    """
    for draw in draws:
        refuse_unfit(draw, reference.images)
    pictured = FACES if reference.images.drawn_faces else PICTURED
    first: Features | None = None
    values = []
    total = sum(draw.count for draw in draws)
    for number, draw in enumerate(draws):
        offset = number * draw.count
        shown = functools.partial(_show_from, progress, offset, total)
        found = extract(draw, extractor, shown, pictured, world)
        if len(found.features) >= SLOW:
            say(f"computing the metrics of {draw.count:,} images")
        values.append(_metrics(found, reference, seed=number))
        first = first or found
    assert first is not None, "there is at least one draw"
    _warn_of_small_samples(first, values[0], warn)
    scores = [_over_draws(metric, [one[metric] for one in values], reference, extractor) for metric in values[0]]
    if reference.images.drawn_faces:
        scores += _face_scores(first.images, reference)
    return scores, first


def _show_from(progress: Progress, offset: int, total: int, done: int, _: int) -> None:
    progress(offset + done, total)


def extract(
    images: ImageSet,
    extractor: FeatureExtractor,
    progress: Progress,
    pictured: int = PICTURED,
    world: World = SINGLE_PROCESS,
) -> Features:
    """One pass: moments over all images, features of the first `KEPT`, pixels of the first ``pictured``."""
    moments = Moments(extractor.dim)
    inception = InceptionScoreStream(images.count) if extractor.has_logits else None
    features, pixels = [], []
    for start, batch, found, logits in features_of(images, extractor, world, with_logits=extractor.has_logits):
        moments.add(found)
        if inception is not None and logits is not None:
            inception.add(logits)
        if start < KEPT:
            features.append(found[: KEPT - start])
        if start < pictured:
            pixels.append(batch[: pictured - start])
        progress(start + len(batch), images.count)
    return Features(moments, torch.cat(features), inception, torch.cat(pixels).cpu())


def nearest_real(found: Features, reference: Reference, *, rows: int = PICTURED, neighbours: int = 7) -> Tensor:
    """Images that show memorisation, if there is any: in each row a sample, then its nearest real images in feature
    space. uint8 (rows * (1 + neighbours), 3, height, width), for a grid of 1 + neighbours columns."""
    near = nearest(found.features[:rows], reference.features, min(neighbours, len(reference.features))).indices
    pictures = []
    for sample, indices in zip(found.images[:rows], near, strict=True):
        real = [reference.images.sample(number, number + 1) for number in indices.tolist()]
        pictures.append(torch.cat([sample.unsqueeze(0), *real]))
    return torch.cat(pictures)


def refuse_unfit(images: ImageSet, real: ImageSet) -> None:
    """Raises UserError for images that cannot be scored: of another size than the real ones, or too few."""
    refuse_other_size(images.image_size, real)
    if images.count < FEWEST:
        raise UserError(f"a score needs {FEWEST} images or more, {images.description} has {images.count}")


def refuse_few(name: str, count: int) -> None:
    """Raises UserError where the setting ``name`` asks for fewer images than can be scored."""
    if count < FEWEST:
        raise UserError(f"{name} must be {FEWEST} or more, got {count}: fewer images cannot be scored")


def refuse_other_size(image_size: str, real: ImageSet) -> None:
    if image_size != real.image_size:
        raise UserError(
            f"the images to score are {image_size}, the reference's are {real.image_size}: "
            "--imsize SIZE brings both to one"
        )


def _warn_of_small_samples(found: Features, values: dict[str, Value], warn: Say) -> None:
    if sentence := few_images_warning(found.moments.count, found.moments.dim):
        warn(sentence)
    if "frechet_infinity" not in values:
        warn(
            "the Fréchet distance at infinitely many images is left out: it needs "
            f"{IMAGES_PER_DIM * found.moments.dim:,} images or more, {IMAGES_PER_DIM} for each number of a feature "
            f"vector, got {len(found.features):,}"
        )


def _metrics(found: Features, reference: Reference, seed: int) -> dict[str, Value]:
    """Every metric of one draw."""
    samples, compared, every = found.features, reference.compared, reference.moments.count
    distance = frechet_distance(found.moments, reference.moments, factor=reference.factor)
    kernel = kernel_distance(samples, compared)
    values = {
        "frechet": Value(distance, found.moments.count, every),
        "kernel": Value(kernel.value, len(samples), len(compared), kernel.standard_error),
    }
    draw = random_generator(seed, "subsets of the extrapolation")
    if len(samples) >= IMAGES_PER_DIM * found.moments.dim:
        line = extrapolated_distance(samples, reference.moments, factor=reference.factor, generator=draw)
        values["frechet_infinity"] = Value(line.value, len(samples), every, line.standard_error)
    manifold = manifold_scores(compared, samples, nearest_k=NEAREST_K, real_radii=reference.radii)
    for name in MANIFOLD:
        values[name] = Value(getattr(manifold, name), len(samples), len(compared))
    some = samples[:NEAREST_SAMPLES]
    apart = nearest(some, reference.features, 1).distances.quantile(0.5).item()
    values["nearest_distance"] = Value(apart, len(some), len(reference.features))
    if found.inception is not None:
        score = found.inception.score()
        values["inception_score"] = Value(score.value, found.moments.count, 0, score.standard_error)
    return values


def _over_draws(metric: str, values: list[Value], reference: Reference, extractor: FeatureExtractor) -> Score:
    numbers = torch.tensor([each.value for each in values], dtype=torch.float64)
    one, several = values[0], len(values) > 1
    floor = reference.floors.get(metric)  # there is none for infinitely many images
    return Score(
        metric,
        label_of(metric, extractor, reference),
        numbers.mean().item(),
        one.samples,
        one.reference_samples,
        spread=numbers.std().item() if several else None,
        error=None if several else one.error,
        floor=floor.value if floor else None,
        floor_samples=floor.samples if floor else None,
    )


def label_of(metric: str, extractor: FeatureExtractor, reference: Reference) -> str:
    """What a score is called: FID and KID only with the Inception of 2015 and its published weights."""
    distance = "FID" if extractor.is_fid else "Fréchet distance"
    known, every = len(reference.features), reference.images.count
    among = f"{known:,}" if known == every else f"{known:,} of {every:,}"
    names = {
        "frechet": distance,
        "frechet_infinity": f"{distance} of infinitely many samples to these {every:,} images",
        "kernel": "KID" if extractor.is_fid else "Kernel distance",
        "nearest_distance": f"Distance to the nearest of {among} real images, median",
        "inception_score": "Inception score" if extractor.is_fid else "Class score exp(KL)",
    }
    return f"{names.get(metric, metric)} {extractor.qualifier}".strip()


def _face_scores(images: Tensor, reference: Reference) -> list[Score]:
    """Measures of what must agree within a drawn face; the floor is that of as many real images."""
    count = min(len(images), reference.images.count, FACES)
    ours, real = (_face_measures(each.numpy()) for each in (images[:count], reference.images.sample(0, count)))
    return [  # a measure is left out where no eyes are found
        Score(name, FACE_LABELS[name], value, count, count, floor=real.get(name), floor_samples=count)
        for name, value in ours.items()
    ]


def _face_measures(images: np.ndarray) -> dict[str, float]:
    """The measures of drawn faces that are finite, by metric."""
    eyes = eye_colour_agreement(images)
    values = {f"eye_colour_{name}": eyes[name] for name in ("agreement", "chance", "confident")}
    values["symmetry"] = left_right_symmetry(images)["symmetry"]
    return {name: value for name, value in values.items() if math.isfinite(value)}
