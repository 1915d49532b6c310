"""What a score is measured against: the features of the real images, computed once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sagan.evaluation.evaluate.image_sets import ImageSet
from sagan.evaluation.features import FeatureExtractor
from sagan.evaluation.metrics.frechet import frechet_distance
from sagan.evaluation.metrics.kernel import full_kernel_distance
from sagan.evaluation.metrics.moments import Moments
from sagan.files import alone, write_whole
from sagan.randomness import generator as random_generator

KEPT = 10_000  # features kept one by one, for the metrics that compare images and not moments
FEWEST = 20  # images; a half must have a covariance, and a neighbour

_FORMAT = "1"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reference:
    """The real images as an extractor sees them.

    ``features`` (n, dim), of at most `KEPT` images, whose numbers are ``kept``. ``floors`` are the scores of one half
    of the images against the other: what a perfect generator would reach with half as many images.
    """

    images: ImageSet
    moments: Moments
    features: Tensor
    kept: Tensor
    floors: dict[str, float]


def reference_statistics(images: ImageSet, extractor: FeatureExtractor, cache: Path, progress: Progress) -> Reference:
    """The reference of an image set under an extractor: from the cache, or computed now and kept there.

    The key is the images' identity with the extractor's name and weights. Of several processes that want one, one
    computes it and the others wait. Raises ValueError for too few images.
    """
    if images.count < FEWEST:
        raise ValueError(f"a reference needs {FEWEST} images or more, {images.description} has {images.count}")
    key = f"{_FORMAT}/{images.identity}/{images.image_size}/{extractor.name}/{extractor.weights_sha256}"
    path = cache / "statistics" / f"{extractor.name.replace(':', '-')}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    path = path.with_name(path.name + ".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_suffix(".lock"), lambda: None):
        arrays = _read(path)
        if arrays is None:
            arrays = _compute(images, extractor, progress)
            data = save(arrays)
            write_whole(path, lambda file: file.write(data))
    return _assemble(images, arrays)


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):  # a torn one is computed again
        return None


def _compute(images: ImageSet, extractor: FeatureExtractor, progress: Progress) -> dict[str, Tensor]:
    order = torch.randperm(images.count, generator=random_generator(0, "halves of the reference"))
    half = torch.empty(images.count, dtype=torch.int64)
    half[order] = torch.arange(images.count) % 2
    kept = order[: min(KEPT, images.count)].sort().values
    moments = [Moments(extractor.dim), Moments(extractor.dim)]
    features = []
    for start, batch in images.batches(extractor.batch_size):
        found = extractor(batch)
        numbers = torch.arange(start, start + len(batch))
        for side in (0, 1):
            moments[side].add(found[(half[numbers] == side).to(found.device)])
        features.append(found[torch.isin(numbers, kept).to(found.device)].cpu())
        progress(start + len(batch), images.count)
    arrays = {"features": torch.cat(features), "kept": kept, "half": half[kept]}
    for side in (0, 1):
        arrays |= {f"{name}{side}": torch.from_numpy(array) for name, array in moments[side].to_arrays().items()}
    return arrays


def _assemble(images: ImageSet, arrays: dict[str, Tensor]) -> Reference:
    halves = [
        Moments.from_arrays({name: arrays[f"{name}{side}"].numpy() for name in ("count", "mean", "scatter")})
        for side in (0, 1)
    ]
    features, half = arrays["features"], arrays["half"]
    floors = {
        "frechet": frechet_distance(*halves),
        "kernel": full_kernel_distance(features[half == 0], features[half == 1]).value,
    }
    whole = halves[0]
    whole.merge(halves[1])
    return Reference(images, whole, features, arrays["kept"], floors)
