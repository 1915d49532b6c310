"""Walks through the latents of a generator, and the training of one as a film: frames for `write_animation`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sagan.core.latents import loop
from sagan.core.networks.interface import Generator
from sagan.core.sampling import generate, numbered_latents
from sagan.core.shapes import refuse_other_than_rgb_squares
from sagan.run.classes import class_number
from sagan.run.folder import Run, snapshot_step
from sagan.run.weights import Snapshot, load_snapshot
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.images import as_rgb, captioned, grid
from sagan.viewing.animation import enlarged
from sagan.viewing.figures import lay_over, light_of
from sagan.viewing.maps import Point, even_weight, generator_attention

_AT_ONCE = 32  # images that are drawn at a time
_GAP = 4  # pixels between two pictures of a frame


@dataclass(frozen=True)
class Walk:
    """A closed way through latents: ``seeds`` stops of a seed, ``frames`` pictures from each to the next.

    ``labels``: the class of all pictures by the number that each generator has for it, for conditional generators; by
    default class 0. ``point``: y and x of a pixel whose attention is drawn over the picture.
    """

    seed: int = 0
    seeds: int = 8
    frames: int = 24
    labels: tuple[int, ...] = ()
    truncation: float | None = None
    point: Point | None = None

    def latents(self, generator: Generator) -> Tensor:
        """z (seeds * frames, z_dim). Raises UserError for fewer than 2 seeds, and as `numbered_latents`."""
        stops, _ = numbered_latents(generator, self.seed, range(self.seeds), None, self.truncation)
        return loop(stops, self.frames)

    def label(self, number: int, generator: Generator) -> int | None:
        """The class of the pictures of a generator, the one of this number among those that walk."""
        if not generator.num_classes:
            return None
        return self.labels[number] if self.labels else 0


def class_in_each(snapshots: Sequence[Snapshot], label: int | None) -> tuple[int, ...]:
    """The number that each snapshot has for the class of number ``label`` (by default 0) of the first one: by its name,
    where names are known. Empty without classes. Raises UserError for a snapshot that lacks the class."""
    first = snapshots[0]
    if not first.generator.num_classes:
        return ()
    number = label or 0
    named = first.classes[number] if first.classes else number
    return tuple(
        class_number(named if each.classes else number, each.classes, each.generator.num_classes) for each in snapshots
    )


def walk_frames(
    generators: Sequence[Generator], walk: Walk, device: torch.device, progress: Progress = lambda done, total: None
) -> Iterator[np.ndarray]:
    """The frames of a walk, uint8 (height, width, 3): the pictures of one generator, or of several beside each other at
    the same z. Raises UserError for generators that take other latents, and for a point outside the pictures."""
    first = generators[0]
    for other in generators[1:]:
        if (other.z_dim, other.num_classes) != (first.z_dim, first.num_classes):
            raise UserError(
                f"two generators beside each other must take the same latents: one takes z of {first.z_dim} and "
                f"{first.num_classes} classes, the other z of {other.z_dim} and {other.num_classes} classes"
            )
    if walk.point is not None:
        for generator in generators:
            _check_point(generator, walk.point)
    z = walk.latents(first)
    for start in range(0, len(z), _AT_ONCE):
        some = z[start : start + _AT_ONCE].to(device)
        columns = [
            _pictures(generator.to(device), some, walk.label(number, generator), walk.point)
            for number, generator in enumerate(generators)
        ]
        progress(min(start + _AT_ONCE, len(z)), len(z))
        for pictures in zip(*columns, strict=True):
            yield _beside(pictures)


def _check_point(generator: Generator, point: Point) -> None:
    refuse_other_than_rgb_squares(generator.shape, "showing attention")
    height, width = generator.shape.height, generator.shape.width
    if not (0 <= point[0] < height and 0 <= point[1] < width):
        last = f"{height - 1} {width - 1}"
        raise UserError(f"the point of `attention` must lie in the picture, 0 0 to {last}, got {point[0]} {point[1]}")
    if not generator.attention:
        raise UserError("this generator has no attention layer: omit `attention`")


def _pictures(generator: Generator, z: Tensor, label: int | None, point: Point | None) -> list[np.ndarray]:
    """The pictures, enlarged; with a point, over each where the last attention layer looks from there."""
    labels = None if label is None else torch.full((len(z),), label, device=z.device)
    if point is None:
        return [enlarged(image.permute(1, 2, 0).numpy()) for image in as_rgb(generate(generator, z, labels).cpu())]
    images, layers = generator_attention(generator, 0, z, labels)
    layer, query = layers[-1], layers[-1].query_at(point, images.shape[-1])
    even, shown = even_weight(layer.pattern, query), []
    for number, image in enumerate(images):
        weights = layer.weights(number, [query])[0].numpy().reshape(layer.grid)
        light = lay_over(image.permute(1, 2, 0).numpy(), light_of(weights, even))
        shown.append(_marked(enlarged(np.rint(light * 255).astype(np.uint8)), point, images.shape[-2]))
    return shown


def _marked(picture: np.ndarray, point: Point, height: int) -> np.ndarray:
    """An enlarged picture with a point, a pixel of the ``height`` pixels that it had."""
    times = len(picture) // height
    y, x, edge = point[0] * times, point[1] * times, max(1, times // 4)
    picture[max(0, y - edge) : y + times + edge, max(0, x - edge) : x + times + edge] = 0
    picture[y : y + times, x : x + times] = 255
    return picture


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(picture, ((0, height - len(picture)), (0, _GAP), (0, 0))) for picture in pictures]
    return np.concatenate(padded, 1)[:, :-_GAP]


# ---- a training as a film


def film_frames(
    run: Run,
    count: int,
    seed: int,
    device: torch.device,
    progress: Progress = lambda done, total: None,
    *,
    hold: int = 1,
) -> Iterator[np.ndarray]:
    """A frame for each snapshot of a run, oldest first: the same ``count`` latents of a seed as a grid, with the step.

    The last one is there ``hold`` times, so that the result can be looked at. Raises UserError for a run with fewer
    than two snapshots.
    """
    paths = {snapshot_step(path): path for path in [*run.snapshots(), *run.latest_snapshots()]}
    if len(paths) < 2:
        more = "a smaller `snapshot_every` writes more"
        raise UserError(f"a film needs 2 snapshots or more, {run.folder} has {len(paths)}: {more}")
    for number, step in enumerate(sorted(paths), 1):
        frame = _film_frame(paths[step], count, seed, device)
        yield from [frame] * (hold if number == len(paths) else 1)
        progress(number, len(paths))


def _film_frame(path: Path, count: int, seed: int, device: torch.device) -> np.ndarray:
    snapshot = load_snapshot(path)
    z, labels = numbered_latents(snapshot.generator, seed, range(count))
    images = generate(snapshot.generator.to(device), z.to(device), None if labels is None else labels.to(device)).cpu()
    picture = enlarged(grid(as_rgb(images), columns=math.ceil(count**0.5)))
    return captioned(picture, f"step {snapshot.step:,}")
