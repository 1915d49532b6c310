"""The features of the real images that scores are measured against, computed once and cached."""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sagan.evaluation.extractors.interface import FeatureExtractor
from sagan.evaluation.image_sets import ImageSet
from sagan.evaluation.metrics.frechet import SMALL, covariance_factor, frechet_distance, rank_warning
from sagan.evaluation.metrics.kernel import full_kernel_distance
from sagan.evaluation.metrics.manifold import manifold_scores, nearest, radii
from sagan.evaluation.metrics.moments import Moments, float64_device
from sagan.system.callbacks import Progress, Say
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import alone, write_whole

LOGGER = logging.getLogger(__name__)
KEPT = 10_000  # images of each set for the metrics that compare images, not moments
REMEMBERED = 50_000  # real images among which the nearest one to a sample is searched
NEAREST_K = 5
NEAREST_SAMPLES = 1000  # samples whose nearest real image is searched
MANIFOLD = ("precision", "recall", "density", "coverage")
SLOW = 2000  # images from which on a person is told that metrics take long
FEWEST = 20  # images; each half needs a covariance, and neighbours

_FORMAT = "2"


@dataclass(frozen=True)
class Floor:
    """The score of real images against other real images, ``samples`` each: what a perfect generator would score with
    so few."""

    value: float
    samples: int


@dataclass(frozen=True)
class Reference:
    """The real images as an extractor sees them.

    ``identity``: the hash of their pixels, independent of their order and place. ``features`` (n, dim), on the
    extractor's device, of the first `REMEMBERED` images at most, in `ImageSet.sample`'s order. ``radii``: from each of
    the first `KEPT` at most to its `NEAREST_K`-th nearest among them. ``floors``, by metric: the scores of one half of
    the images against the other; for ``nearest_distance``, the median distance of a real image to the nearest other.
    """

    images: ImageSet
    identity: str
    moments: Moments
    features: Tensor
    radii: Tensor
    floors: dict[str, Floor]

    @property
    def compared(self) -> Tensor:
        """The features of the images that the metrics of single images use."""
        return self.features[: len(self.radii)]

    @functools.cached_property
    def factor(self) -> Tensor:
        """The factor of the covariance, for every Fréchet distance to these images."""
        return covariance_factor(self.moments)

    def small_sample(self) -> str | None:
        """A sentence where the images, or their halves for the floor, are few for a Fréchet distance, else None."""
        if sentence := rank_warning(self.moments):
            return f"real images: {sentence}"
        half = self.floors["frechet"].samples
        dim = self.moments.dim
        if half < SMALL * dim:
            return (
                f"the floor of the Fréchet distance is too high: each half of the real images has {half:,}, "
                f"and features of {dim:,} numbers need {SMALL * dim:,} or more"
            )
        return None


def open_reference(images: ImageSet, extractor: FeatureExtractor, cache: Path, console: Console) -> Reference:
    """`reference_statistics`, with its progress and its sentences on a console, and a warning of a small sample."""
    with console.progress("features of real images") as progress:
        reference = reference_statistics(images, extractor, cache.expanduser(), progress, console.warn, console.say)
    if sentence := reference.small_sample():
        console.warn(sentence)
    return reference


def reference_statistics(
    images: ImageSet,
    extractor: FeatureExtractor,
    cache: Path,
    progress: Progress,
    warn: Say = LOGGER.warning,
    say: Say = lambda sentence: None,
) -> Reference:
    """The reference of an image set under an extractor: from the cache, or computed now and kept there.

    The key is the images' identity with the extractor's name and weights. Of several processes that need the same one,
    one computes it and the others wait; ``warn`` gets a sentence about that, ``say`` one about what takes long. Raises
    UserError for too few images.
    """
    if images.count < FEWEST:
        raise UserError(f"a reference needs {FEWEST} images or more, {images.description} has {images.count}")
    sizes = f"{KEPT}/{REMEMBERED}/{images.image_size}"
    key = f"{_FORMAT}/{sizes}/{images.identity}/{extractor.name}/{extractor.weights_sha256}"
    path = cache / "statistics" / f"{extractor.name.replace(':', '-')}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    path = path.with_name(path.name + ".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is computing the features of {images.description}: waiting until it is done"
    with alone(path.with_suffix(".lock"), functools.partial(warn, waiting)):
        arrays = _read(path)
        if arrays is None:
            arrays = _compute(images, extractor, progress, say)
            data = save(arrays)
            write_whole(path, lambda file: file.write(data))
    return _assemble(images, arrays, extractor.device)


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):  # a damaged one is computed again
        return None


def _compute(images: ImageSet, extractor: FeatureExtractor, progress: Progress, say: Say) -> dict[str, Tensor]:
    """One pass over the images, which go to the two halves in turn, then all that follows from their features."""
    halves = [Moments(extractor.dim), Moments(extractor.dim)]
    features = []
    pixels = PixelHash(images.image_size)
    for start, batch in images.batches(extractor.batch_size):
        found = extractor(batch)
        for side in (0, 1):
            halves[side].add(found[(side - start) % 2 :: 2])
        if start < REMEMBERED:
            features.append(found[: REMEMBERED - start])
        pixels.add(batch)
        progress(start + len(batch), images.count)
    remembered = torch.cat(features)
    if len(remembered) >= SLOW:
        say(f"comparing the two halves of {images.count:,} real images, for the floors")
    floors = _floors(halves, remembered)
    arrays = {
        "features": remembered.cpu(),
        "radii": radii(remembered[:KEPT], NEAREST_K).cpu().contiguous(),
        "pixels": torch.tensor(list(pixels.digest()), dtype=torch.uint8),
    }
    arrays |= {f"floor {name}": torch.tensor([f.value, f.samples], dtype=torch.float64) for name, f in floors.items()}
    for side in (0, 1):
        arrays |= {f"{name}{side}": torch.from_numpy(array) for name, array in halves[side].to_arrays().items()}
    return arrays


def _floors(halves: list[Moments], features: Tensor) -> dict[str, Floor]:
    one, other = (features[:KEPT][side::2] for side in (0, 1))
    manifold = manifold_scores(one, other, nearest_k=NEAREST_K)
    some = features[:NEAREST_SAMPLES]
    between = nearest(some, features, 2).distances[:, 1].median().item()  # the nearest image is the image itself
    return {
        "frechet": Floor(frechet_distance(*halves), halves[1].count),
        "kernel": Floor(full_kernel_distance(one, other).value, len(other)),
        **{name: Floor(getattr(manifold, name), len(other)) for name in MANIFOLD},
        "nearest_distance": Floor(between, len(some)),
    }


def _assemble(images: ImageSet, arrays: dict[str, Tensor], device: torch.device) -> Reference:
    whole, other = [
        Moments.from_arrays({name: arrays[f"{name}{side}"].numpy() for name in ("count", "mean", "scatter")})
        for side in (0, 1)
    ]
    whole.merge(other)
    floors = {
        name.removeprefix("floor "): Floor(array[0].item(), int(array[1]))
        for name, array in arrays.items()
        if name.startswith("floor ")
    }
    identity = f"pixels:{bytes(arrays['pixels'].tolist()).hex()}"
    distances = arrays["radii"].to(float64_device(device))
    return Reference(images, identity, whole, arrays["features"].to(device), distances, floors)


class PixelHash:
    """A hash of the pixels of many images, independent of their order: the sum of the hash of each."""

    def __init__(self, image_size: str):
        self.image_size = image_size
        self.count = self.sum = 0

    def add(self, images: Tensor) -> None:
        """Adds images (n, 3, height, width) uint8."""
        for image in images.permute(0, 2, 3, 1).contiguous().cpu().numpy():
            self.sum += int.from_bytes(hashlib.sha256(image.tobytes()).digest())
            self.count += 1

    def digest(self) -> bytes:
        """32 bytes that depend on the number of images, their size and their pixels."""
        return hashlib.sha256(f"{self.count}/{self.image_size}/{self.sum % 2**256}".encode()).digest()
