"""Images to be scored, or to score against, from any place: a store, a folder or zip, a generator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sagan.core.networks.interface import Generator
from sagan.core.sampling import numbered_latents
from sagan.core.shapes import CHANNELS, ImageShape, refuse_other_than_rgb
from sagan.data import Recipe, Source, Store, open_or_prepare, open_source
from sagan.data.faces import holds_drawn_faces
from sagan.data.prepare import settle_identity
from sagan.data.sources.decode import to_rgb
from sagan.data.sources.stored import StoreSource
from sagan.run.store import crop_label, refuse_cut
from sagan.system.console import Console
from sagan.system.devices import send
from sagan.system.errors import UserError
from sagan.system.files import expand
from sagan.system.finite import FiniteCheck
from sagan.system.images import to_uint8
from sagan.system.precision import full_precision
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import order as random_order
from sagan.system.sentences import plural

DRAWN = 64  # images that a generator draws at a time

Batch = tuple[int, Tensor]  # the number of its first image, and the images


# ---- the next batch, made while the last one is in use


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made one ahead in a thread: for images that are read and decoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="images") as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def draw_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches, made one ahead on a separate CUDA stream: for images that a generator draws.

    Nothing here waits for the GPU: the next batch is queued before the work on the last one, and both run at once.
    The work on a batch must be queued on the stream that is current when this begins.
    """
    working, drawing = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    drawing.wait_stream(working)  # the generator's weights may still be copied

    def draw() -> tuple[Batch | None, torch.cuda.Event]:
        with torch.cuda.stream(drawing):
            return next(batches, None), drawing.record_event()

    following = draw()
    while (batch := following[0]) is not None:
        drawn, following = following[1], draw()
        working.wait_event(drawn)
        batch[1].record_stream(working)  # its memory is reused only after the work on it
        yield batch


# ---- image sets


@dataclass(frozen=True)
class ImageSet:
    """``count`` images of one shape. ``read(start, stop)`` gives some of them, uint8 (n, channels, height, width).

    Files may be sorted by class, so the first thousand need not represent all. `sample` and `batches` therefore give
    images in a random order, always the same one, unless their order is ``random`` already. ``ahead`` makes the next
    batch while the last one is in use. ``verify`` raises UserError where the images read so far are not finite.
    ``former``: the identities that earlier versions gave the images.
    """

    description: str
    identity: str  # sets with equal identity hold equal images
    count: int
    shape: ImageShape
    read: Callable[[int, int], Tensor]
    drawn_faces: bool = False
    resized: str | None = None  # how images of other sizes were brought to this one
    random: bool = False
    ahead: Callable[[Iterator[Batch]], Iterator[Batch]] = read_ahead
    verify: Callable[[], None] = lambda: None
    former: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_other_than_rgb(self.shape, "scoring")

    @property
    def image_size(self) -> str:
        """For cards, such as "64x64"."""
        return str(self.shape)

    def batches(self, size: int, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """All images in random order, ``size`` at a time, each batch with the position of its first image.

        Or only a process's share of these batches: from number ``first`` on, each of number ``every`` after the last.
        """
        starts = range(first * size, self.count, every * size)
        yield from self.ahead((start, self.sample(start, min(start + size, self.count))) for start in starts)
        self.verify()

    def sample(self, start: int, stop: int) -> Tensor:
        """Images ``start`` to ``stop`` - 1 in random order, like `read`."""
        if self.random:
            return self.read(start, stop)
        return torch.cat([self.read(number, number + 1) for number in self._order[start:stop]])

    @functools.cached_property
    def _order(self) -> list[int]:
        order = random_order(self.count, random_generator(0, "order of images to score"))
        return [int(number) for number in order]


def open_images(path: Path, cache: Path, console: Console, size: int | None = None) -> ImageSet:
    """The images at a path: all that `open_source` takes. UserError where there are none.

    ``size``: their height and width, to which others are brought as for training. ``cache``: the folder that remembers
    which files hold which images, so that they are not read for it again, and keeps those brought to a size.
    """
    source, cache = open_source(path), expand(cache)
    if isinstance(source, StoreSource) and source.store.size == (size or source.store.size):
        with console.progress(f"looking {path} through") as progress:
            settle_identity(source, cache, progress)
        return store_images(source.store)
    if size is None:
        with console.progress(f"reading {path}") as progress:
            settle_identity(source, cache, progress)
        return _source_images(source)
    recipe = Recipe(size)
    with console.progress(f"resizing {path}") as progress:
        store = open_or_prepare(source, recipe, cache, progress=progress, warn=console.warn)
    return replace(store_images(store), resized=f"{crop_label(recipe.crop)}, {recipe.filter}")


def store_images(store: Store) -> ImageSet:
    """The images of a prepared store."""

    def read(start: int, stop: int) -> Tensor:
        refuse_cut(store.images)
        return torch.from_numpy(np.array(store.images[start:stop])).permute(0, 3, 1, 2)

    return ImageSet(
        description=store.describe(),
        identity=f"pixels:{store.hash}",
        count=store.count,
        shape=store.shape,
        read=read,
        drawn_faces=holds_drawn_faces(store),
    )


def _source_images(source: Source) -> ImageSet:
    """The images of a source as they are, neither cropped nor resized: they must be of one size."""
    width, height = source.read(0).size

    def read_one(index: int) -> Tensor:
        image = to_rgb(source.read(index))
        if image.size != (width, height):
            found = f"{image.width}x{image.height} pixels, {source.name(0)} {width}x{height}"
            raise UserError(
                f"images to be scored must be of one size, but {source.name(index)} has {found}: --imsize SIZE brings "
                "them to one"
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def read(start: int, stop: int) -> Tensor:
        return torch.stack([read_one(index) for index in range(start, stop)])

    shape = ImageShape(CHANNELS, height, width)
    former = tuple(f"files:{identity}" for identity in source.former)
    return ImageSet(source.description, f"files:{source.identity}", len(source), shape, read, former=former)


def generated_images(
    generator: Generator, count: int, seed: int, *, device: torch.device, name: str, truncation: float | None = None
) -> ImageSet:
    """Images 0 to count - 1 of a seed, drawn on ``device`` when they are read; the same as `sagan sample` writes.

    ``generator`` is in eval mode; ``name`` describes it to a person. Drawing does not wait for a GPU, so on a GPU
    images that are NaN or infinite are refused only after `batches` has given the last one.
    """
    generator = generator.to(device)
    finite = FiniteCheck("the generator's images are NaN or infinite: its weights come from a training that diverged")

    @torch.no_grad()
    def draw(z: Tensor, labels: Tensor | None) -> Tensor:
        with full_precision(device):
            images = generator(z, labels)
        finite.add(images)
        return to_uint8(images)

    def read(start: int, stop: int) -> Tensor:
        images = []
        for first in range(start, stop, DRAWN):
            z, labels = numbered_latents(generator, seed, range(first, min(first + DRAWN, stop)), None, truncation)
            images.append(draw(send(z, device), None if labels is None else send(labels, device)))
        return torch.cat(images)

    return ImageSet(
        description=f"{plural(count, 'image')} of {name}, seed {seed}",
        identity=f"generated:{name}:{seed}:{count}:{truncation}",
        count=count,
        shape=generator.shape,
        read=read,
        random=True,
        ahead=functools.partial(draw_ahead, device=device) if device.type == "cuda" else iter,
        verify=finite.verify,
    )
