"""The features of a set of images, which several processes compute together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sagan.evaluation.extractors.interface import FeatureExtractor
from sagan.evaluation.image_sets import Batch, ImageSet
from sagan.system.world import World

Found = tuple[int, Tensor, Tensor, Tensor | None]  # a batch: the number of its first image, images, features, logits


def features_of(
    images: ImageSet, extractor: FeatureExtractor, world: World, *, with_logits: bool = False
) -> Iterator[Found]:
    """Each batch of the images in order, with its features and, if asked for, logits, on the extractor's device.

    The processes take the batches in turn, and the leading one gets those of all, the others nothing. A batch holds the
    same images whatever their number, so its features are the same.
    """

    def compute(batch: Batch) -> Found:
        start, pixels = batch
        found, logits = extractor.with_logits(pixels) if with_logits else (extractor(pixels), None)
        return start, pixels, found, logits

    own = images.batches(extractor.batch_size, world.rank, world.size)
    if world.size == 1:
        yield from map(compute, own)
        return
    for _ in range(0, images.count, extractor.batch_size * world.size):
        batch = next(own, None)
        for found in world.collect(None if batch is None else _moved(compute(batch), "cpu"), "features"):
            if found is not None:
                yield _moved(found, extractor.device)
    next(own, None)  # its last word is whether the images were finite


def _moved(found: Found, device: str | torch.device) -> Found:
    start, pixels, features, logits = found
    return start, pixels.to(device), features.to(device), None if logits is None else logits.to(device)


def help_with(images: ImageSet, extractor: FeatureExtractor, world: World, *, with_logits: bool = False) -> None:
    """A following process's part in `features_of`."""
    for _ in features_of(images, extractor, world, with_logits=with_logits):
        raise AssertionError("only the leading process gets features")
