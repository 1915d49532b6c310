"""Walks through the latents of a generator, and the training of one as a film: frames for `write_animation`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sagan.core.latents import loop
from sagan.core.networks.interface import Generator
from sagan.core.sampling import generate, numbered_latents
from sagan.run.folder import Run, snapshot_step
from sagan.run.weights import load_snapshot
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.images import grid
from sagan.viewing.animation import enlarged
from sagan.viewing.figures import lay_over
from sagan.viewing.maps import LayerAttention, Point, generator_attention

_AT_ONCE = 32  # images that are drawn at a time
_GAP = 4  # pixels between two pictures of a frame


@dataclass(frozen=True)
class Walk:
    """A closed way through latents: ``seeds`` stops of a seed, ``frames`` pictures from each to the next.

    ``label``: the class of all pictures, for a conditional generator; by default that of the first image of the seed.
    ``point``: y and x of a pixel whose attention is drawn over the picture.
    """

    seed: int = 0
    seeds: int = 8
    frames: int = 24
    label: int | None = None
    truncation: float | None = None
    point: Point | None = None

    def latents(self, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """z (seeds * frames, z_dim) and classes. Raises UserError for fewer than 2 seeds, and as `numbered_latents`."""
        numbers = range(self.seeds)
        stops, labels = numbered_latents(generator, self.seed, numbers, self.label, self.truncation)
        z = loop(stops, self.frames)
        return z, None if labels is None else labels[:1].expand(len(z))


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
    z, labels = walk.latents(first)
    made = [generator.to(device) for generator in generators]
    for start in range(0, len(z), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        some = z[rows].to(device), None if labels is None else labels[rows].to(device)
        columns = [_pictures(generator, *some, walk.point) for generator in made]
        for pictures in zip(*columns, strict=True):
            yield _beside(pictures)
        progress(min(start + _AT_ONCE, len(z)), len(z))


def _check_point(generator: Generator, point: Point) -> None:
    height, width = generator.shape.height, generator.shape.width
    if not (0 <= point[0] < height and 0 <= point[1] < width):
        last = f"{height - 1} {width - 1}"
        raise UserError(f"the point of `attention` must lie in the picture, 0 0 to {last}, got {point[0]} {point[1]}")
    if not generator.attention:
        raise UserError("this generator has no attention layer: omit `attention`")


def _pictures(generator: Generator, z: Tensor, labels: Tensor | None, point: Point | None) -> list[np.ndarray]:
    if point is None:
        images = generate(generator, z, labels).cpu()
        return [enlarged(image.permute(1, 2, 0).numpy()) for image in images]
    images, layers = generator_attention(generator, 0, z, labels)
    return [_overlaid(image.permute(1, 2, 0).numpy(), layers[-1], number, point) for number, image in enumerate(images)]


def _overlaid(picture: np.ndarray, layer: LayerAttention, number: int, point: Point) -> np.ndarray:
    """A picture with where its last attention layer looks from a point, which is marked, as light."""
    weights = layer.weights(number, [layer.query_at(point, len(picture))])[0].numpy().reshape(layer.grid)
    light = lay_over(picture, weights / max(weights.max(), 1e-12))
    shown = enlarged(np.rint(light * 255).astype(np.uint8))
    times = len(shown) // len(picture)
    y, x = point[0] * times, point[1] * times
    shown[y : y + times, x : x + times] = 255
    return shown


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(picture, ((0, height - len(picture)), (0, _GAP), (0, 0))) for picture in pictures]
    return np.concatenate(padded, 1)[:, :-_GAP]


# ---- a training as a film


def film_frames(
    run: Run, count: int, seed: int, device: torch.device, progress: Progress = lambda done, total: None
) -> Iterator[np.ndarray]:
    """A frame for each snapshot of a run, oldest first: the same ``count`` latents of a seed as a grid, with the step.

    Raises UserError for a run with fewer than two snapshots.
    """
    paths = {snapshot_step(path): path for path in [*run.snapshots(), *run.latest_snapshots()]}
    if len(paths) < 2:
        more = "a smaller `snapshot_every` writes more"
        raise UserError(f"a film needs 2 snapshots or more, {run.folder} has {len(paths)}: {more}")
    for number, step in enumerate(sorted(paths), 1):
        yield _film_frame(paths[step], count, seed, device)
        progress(number, len(paths))


def _film_frame(path: Path, count: int, seed: int, device: torch.device) -> np.ndarray:
    snapshot = load_snapshot(path)
    z, labels = numbered_latents(snapshot.generator, seed, range(count))
    images = generate(snapshot.generator.to(device), z.to(device), None if labels is None else labels.to(device)).cpu()
    picture = enlarged(grid(images, columns=math.ceil(count**0.5)))
    return _captioned(picture, f"step {snapshot.step:,}")


def _captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text below it."""
    whole = Image.fromarray(np.pad(picture, ((0, 20), (0, 0), (0, 0))))
    ImageDraw.Draw(whole).text((6, len(picture) + 4), text, fill="white")
    return np.asarray(whole)
