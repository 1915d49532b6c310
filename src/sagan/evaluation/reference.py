"""The features of the real images that scores are measured against, computed once and cached."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from sagan.evaluation.extractors.interface import FeatureExtractor
from sagan.evaluation.features import features_of, help_with
from sagan.evaluation.image_sets import ImageSet
from sagan.evaluation.metrics.frechet import SMALL, covariance_factor, few_images_warning, frechet_distance
from sagan.evaluation.metrics.kernel import kernel_distance
from sagan.evaluation.metrics.manifold import manifold_scores, nearest, radii
from sagan.evaluation.metrics.moments import Moments, float64_device
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import exclusive_lock, expand, read_regular, remove_partial_files, write_whole
from sagan.system.torch_files import from_safetensors
from sagan.system.world import SINGLE_PROCESS, World, nothing

KEPT = 10_000  # images of each set for the metrics that compare images, not moments
REMEMBERED = 50_000  # real images that are searched for the nearest one to a sample
NEAREST_K = 5
NEAREST_SAMPLES = 1000  # samples whose nearest real image is searched
MANIFOLD = ("precision", "recall", "density", "coverage")
SLOW = 2000  # with this many images or more, the console says that metrics are being computed
FEWEST = 20  # images; each half needs a covariance, and neighbours

_FORMAT = "3"
_MOMENTS = ("count", "mean", "scatter")
_FLOORS = ("frechet", "kernel", *MANIFOLD, "nearest_distance")


@dataclass(frozen=True)
class Floor:
    """The score of ``samples`` real images against as many others: what a perfect generator would score with as few."""

    value: float
    samples: int


@dataclass(frozen=True)
class Reference:
    """The real images as an extractor sees them.

    ``identity``: the hash of their pixels, which does not depend on their order or location. ``features`` (n, dim), on
    the extractor's device, of the first `REMEMBERED` images at most, in the order of `ImageSet.sample`. ``radii``: the
    distance of each of the first `KEPT` at most to its `NEAREST_K`-th nearest among them. ``floors``, by metric: the
    score of one half of the images against the other; for ``nearest_distance``, the median distance of a real image to
    the nearest other one.
    """

    images: ImageSet
    identity: str
    moments: Moments
    features: Tensor
    radii: Tensor
    floors: dict[str, Floor]

    @property
    def compared(self) -> Tensor:
        """The features for the metrics that compare images."""
        return self.features[: len(self.radii)]

    @functools.cached_property
    def factor(self) -> Tensor:
        """The factor of the covariance, for every Fréchet distance to these images."""
        return covariance_factor(self.moments)

    def small_sample(self) -> str | None:
        """A sentence where the images, or their halves for the floor, are few for a Fréchet distance, else None."""
        dim, half = self.moments.dim, self.floors["frechet"].samples
        if sentence := few_images_warning(self.moments.count, dim):
            return f"real images: {sentence}"
        if half < SMALL * dim:
            return (
                f"the floor of the Fréchet distance is too high: each half of the real images has {half:,}, "
                f"and features of {dim:,} numbers need {SMALL * dim:,} or more"
            )
        return None


def open_reference(
    images: ImageSet, extractor: FeatureExtractor, cache: Path, console: Console, world: World = SINGLE_PROCESS
) -> Reference:
    """The reference of an image set under an extractor: from the folder ``cache``, or computed now and kept there.

    The key is the images' identity with the extractor's name and weights. Of several processes that need the same one,
    one computes it and the others wait; those of a ``world`` compute it together. Warns of a small sample. Raises
    UserError for too few images.
    """
    if images.count < FEWEST:
        raise UserError(f"a reference needs {FEWEST} images or more, {images.description} has {images.count}")
    path = _place(images, images.identity, extractor, cache)
    former = [place for each in images.former if (place := _place(images, each, extractor, cache)).exists()]
    if former and not path.exists():
        path = former[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"another process is computing the features of {images.description}: waiting until it is done"
    alone = exclusive_lock(path.with_suffix(".lock"), functools.partial(console.warn, waiting))
    with alone if world.leads else contextlib.nullcontext():
        known = world.share(lambda: _read(path, images.count, extractor.dim), "the kept features")
        tensors = _compute_and_keep(images, extractor, path, console, world) if known is None else known
    reference = _assemble(images, tensors, extractor.device)
    if sentence := reference.small_sample():
        console.warn(sentence)
    return reference


def _place(images: ImageSet, identity: str, extractor: FeatureExtractor, cache: Path) -> Path:
    sizes = f"{KEPT}/{REMEMBERED}/{images.image_size}"
    key = f"{_FORMAT}/{sizes}/{identity}/{extractor.name}/{extractor.weights_sha256}"
    name = f"{extractor.name.replace(':', '-')}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    return expand(cache) / "statistics" / name


def _read(path: Path, count: int, dim: int) -> dict[str, Tensor] | None:
    """The tensors in a file of the cache; None where there is none or it is damaged, and is to be computed again."""
    try:
        _, tensors = from_safetensors(read_regular(path, sys.maxsize))
    except (FileNotFoundError, SafetensorError):
        return None
    shapes: dict[str, tuple[int, ...]] = {
        "features": (min(count, REMEMBERED), dim),
        "radii": (min(count, KEPT),),
        "pixels": (32,),
    } | {f"floor {name}": (2,) for name in _FLOORS}
    for half in (0, 1):
        shapes |= {f"count{half}": (1,), f"mean{half}": (dim,), f"scatter{half}": (dim, dim)}
    whole = {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
    return tensors if whole and all(tensor.isfinite().all() for tensor in tensors.values()) else None


def _compute_and_keep(
    images: ImageSet, extractor: FeatureExtractor, path: Path, console: Console, world: World
) -> dict[str, Tensor]:
    if not world.leads:
        help_with(images, extractor, world)
        return world.share(nothing, "the new features")
    tensors = _compute(images, extractor, console, world)
    data = save(tensors)
    remove_partial_files(path.parent, path.name)
    write_whole(path, lambda file: file.write(data))
    return world.share(lambda: tensors, "the new features")


def _compute(images: ImageSet, extractor: FeatureExtractor, console: Console, world: World) -> dict[str, Tensor]:
    """One pass over the images, which go to the two halves in turn, then all that follows from their features."""
    halves = [Moments(extractor.dim), Moments(extractor.dim)]
    features = []
    pixels = PixelHash(images.image_size)
    with console.progress("features of real images") as progress:
        for start, batch, found, _ in features_of(images, extractor, world):
            for half in (0, 1):
                halves[half].add(found[(half - start) % 2 :: 2])
            if start < REMEMBERED:
                features.append(found[: REMEMBERED - start])
            pixels.add(batch)
            progress(start + len(batch), images.count)
    remembered = torch.cat(features)
    if len(remembered) >= SLOW:
        console.say(f"comparing the two halves of {images.count:,} real images, for the floors")
    floors = _floors(halves, remembered)
    tensors = {
        "features": remembered.cpu(),
        "radii": radii(remembered[:KEPT], NEAREST_K).cpu().contiguous(),
        "pixels": torch.tensor(list(pixels.digest()), dtype=torch.uint8),
    }
    tensors |= {f"floor {name}": torch.tensor([f.value, f.samples], dtype=torch.float64) for name, f in floors.items()}
    for half in (0, 1):
        tensors |= {f"{name}{half}": tensor for name, tensor in halves[half].to_tensors().items()}
    return tensors


def _floors(halves: list[Moments], features: Tensor) -> dict[str, Floor]:
    one, other = (features[:KEPT][half::2] for half in (0, 1))
    manifold = manifold_scores(one, other, nearest_k=NEAREST_K)
    some = features[:NEAREST_SAMPLES]
    between = nearest(some, features, 2).distances[:, 1].quantile(0.5).item()  # the nearest image is the image itself
    return {
        "frechet": Floor(frechet_distance(*halves), halves[1].count),
        "kernel": Floor(kernel_distance(one, other).value, len(other)),
        **{name: Floor(getattr(manifold, name), len(other)) for name in MANIFOLD},
        "nearest_distance": Floor(between, len(some)),
    }


def _assemble(images: ImageSet, tensors: dict[str, Tensor], device: torch.device) -> Reference:
    moments, other = (Moments.from_tensors({name: tensors[f"{name}{half}"] for name in _MOMENTS}) for half in (0, 1))
    moments.merge(other)
    floors = {
        name.removeprefix("floor "): Floor(tensor[0].item(), int(tensor[1]))
        for name, tensor in tensors.items()
        if name.startswith("floor ")
    }
    identity = f"pixels:{bytes(tensors['pixels'].tolist()).hex()}"
    distances = tensors["radii"].to(float64_device(device))
    return Reference(images, identity, moments, tensors["features"].to(device), distances, floors)


class PixelHash:
    """A hash of the pixels of many images that does not depend on their order: the sum of the hashes of each."""

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
