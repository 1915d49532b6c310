"""Images to be scored, or to score against, wherever they come from: a store, a folder or zip, a generator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sagan.data import Source, Store, open_source
from sagan.models.sampling import generate
from sagan.randomness import generator as random_generator
from sagan.randomness import latents

DRAWN_FACES = "faces:v1:"  # how the identity of drawn faces begins; that of a folder called faces goes on otherwise


@dataclass(frozen=True)
class ImageSet:
    """``count`` images of one size. ``read(start, stop)`` gives some of them, uint8 (n, 3, height, width).

    Files may be sorted by class, so their first thousand say little. What scores images takes them by `sample` and
    `batches`, in a random order that is always the same, unless their order is ``random`` as it is.
    """

    description: str
    identity: str  # equal identity is equal images, and costs no look at them
    count: int
    height: int
    width: int
    read: Callable[[int, int], Tensor]
    source: str = "images"  # for the card
    drawn_faces: bool = False
    random: bool = False

    @property
    def image_size(self) -> str:
        return f"{self.height}x{self.width}"

    def batches(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """All images in random order, ``size`` at a time, each batch with the number of its first image there."""
        for start in range(0, self.count, size):
            yield start, self.sample(start, min(start + size, self.count))

    def sample(self, start: int, stop: int) -> Tensor:
        """Images ``start`` to ``stop`` - 1 in random order, like `read`."""
        if self.random:
            return self.read(start, stop)
        return torch.cat([self.read(number, number + 1) for number in self._order[start:stop]])

    @functools.cached_property
    def _order(self) -> list[int]:
        order = torch.randperm(self.count, generator=random_generator(0, "order of images to score"))
        return [int(number) for number in order]


def open_images(path: Path) -> ImageSet:
    """The images at a path: a prepared store, a folder, a zip, an LMDB or a .npy. ValueError where there are none."""
    if (path / "meta.json").is_file() and (path / "images.npy").is_file():  # many a folder has a meta.json of its own
        return store_images(Store.open(path))
    return _source_images(open_source(path), path)


def store_images(store: Store) -> ImageSet:
    """The images of a prepared store."""

    def read(start: int, stop: int) -> Tensor:
        return torch.from_numpy(np.array(store.images[start:stop])).permute(0, 3, 1, 2)

    return ImageSet(
        description=store.describe(),
        identity=f"pixels:{store.hash}",
        count=store.count,
        height=store.size,
        width=store.size,
        read=read,
        drawn_faces=str(store.meta["identity"]).startswith(DRAWN_FACES),
    )


def _source_images(source: Source, path: Path) -> ImageSet:
    """The images of a source as they are, not cropped and not resized: they must be of one size."""
    width, height = source.read(0).size

    def read_one(index: int) -> Tensor:
        image = source.read(index)
        if image.size != (width, height):
            found = f"{image.width}x{image.height} pixels, {source.name(0)} {width}x{height}"
            raise ValueError(
                f"images to be scored must be of one size, but {source.name(index)} has {found}: bring them to one "
                f"size with `sagan prepare {path} --imsize SIZE`, and give the folder that it makes"
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def read(start: int, stop: int) -> Tensor:
        return torch.stack([read_one(index) for index in range(start, stop)])

    return ImageSet(source.description, f"files:{source.identity}", len(source), height, width, read)


def generated_images(
    generator: nn.Module, z_dim: int, image_size: int, count: int, seed: int, *, device: torch.device, name: str
) -> ImageSet:
    """Images 0 to count - 1 of a seed, drawn when they are read, on ``device``; the same as `sagan sample` writes.

    ``name`` says which generator, for a person.
    """
    generator = generator.to(device)

    def read(start: int, stop: int) -> Tensor:
        z = torch.cat([latents(seed, "sample", 1, z_dim, step=number) for number in range(start, stop)])
        return generate(generator, z.to(device))

    return ImageSet(
        description=f"{count:,} images of {name}, seed {seed}",
        identity=f"generated:{name}:{seed}:{count}",
        count=count,
        height=image_size,
        width=image_size,
        read=read,
        source="averaged generator, eval mode",
        random=True,
    )
