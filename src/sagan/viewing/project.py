"""Projection: the latent whose image is nearest to a picture, found by gradient descent from several starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sagan.core.networks.folding import folded
from sagan.core.networks.interface import Discriminator, Generator
from sagan.core.sampling import generate
from sagan.data import Recipe, Source, open_source
from sagan.data.choice import choose_recipe
from sagan.data.recipe import prepare_image
from sagan.data.sources.decode import decode
from sagan.data.sources.names import is_image
from sagan.run.config import Config
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import read_regular
from sagan.system.precision import full_precision
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import latents
from sagan.system.randomness import order as random_order
from sagan.system.sentences import plural

MOST = 64
"""Pictures that are projected at once."""
_RATE = 0.1
_FEATURES = 0.3  # the weight of the distance of features
_FAR = 3.0  # largest magnitude of an entry of z, so that an image stays one of the generator's


@dataclass(frozen=True)
class Projection:
    """``images`` uint8 (n, channels, height, width) of latents ``z`` (n, z_dim), nearest to targets; and their
    ``errors`` (n,), the root mean square difference of pixels in grey levels."""

    z: Tensor
    images: Tensor
    errors: Tensor


def project(
    generator: Generator,
    targets: Tensor,
    *,
    labels: Tensor | None = None,
    judge: Discriminator | None = None,
    starts: int = 4,
    steps: int = 200,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = lambda done, total: None,
) -> Projection:
    """Finds the latents of ``targets``, uint8 (n, *shape), of classes ``labels`` (n,) for a conditional generator.

    From each of ``starts`` latents of ``seed``, Adam takes ``steps`` steps against the mean square difference of pixels
    at several scales and, with a ``judge``, of its features (discriminator features of an image and of its target). Of
    the starts the one with the smallest pixel error is kept. Raises UserError for targets of another shape and numbers
    less than 1.
    """
    if tuple(targets.shape[1:]) != generator.shape.chw:
        raise UserError(f"targets must be (n, {', '.join(map(str, generator.shape.chw))}), got {tuple(targets.shape)}")
    for name, number in (("starts", starts), ("steps", steps)):
        if number < 1:
            raise UserError(f"`{name}` must be 1 or more, got {number}")
    device = torch.device(device)
    generator = folded(generator).to(device)
    wanted = (targets.to(device).float() / 127.5 - 1).repeat_interleave(starts, 0)
    classes = None if labels is None else labels.to(device).repeat_interleave(starts, 0)
    first = latents(seed, "projection", starts, generator.z_dim).repeat(len(targets), 1)
    z = first.to(device).requires_grad_()
    judge = None if judge is None else folded(judge).to(device)
    with torch.no_grad():
        features = None if judge is None else judge.features(wanted)
    optimizer = torch.optim.Adam([z], lr=_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, 2 * (1 - step / steps))
        with full_precision(device), torch.enable_grad():
            images = generator(z, classes)
            loss = _pixel_distance(images, wanted)
            if judge is not None and features is not None:
                loss = loss + _FEATURES * _feature_distance(judge.features(images), features)
        (z.grad,) = torch.autograd.grad(loss.sum(), [z])
        optimizer.step()
        with torch.no_grad():
            z.clamp_(-_FAR, _FAR)
        progress(step + 1, steps)
    return _best(generator, z.detach(), classes, targets, starts)


def _pixel_distance(images: Tensor, wanted: Tensor) -> Tensor:
    """The mean square difference (n,), of the images and of smaller ones down to a quarter of their size."""
    total = torch.zeros(len(images), device=images.device)
    for _ in range(3):
        total = total + (images - wanted).square().mean((1, 2, 3))
        images, wanted = F.avg_pool2d(images, 2), F.avg_pool2d(wanted, 2)
    return total


def _feature_distance(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).square().mean((1, 2, 3)) / wanted.square().mean((1, 2, 3)).clamp_min(1e-8)


def _best(generator: Generator, z: Tensor, labels: Tensor | None, targets: Tensor, starts: int) -> Projection:
    images = generate(generator, z, labels).cpu()
    difference = images.float() - targets.repeat_interleave(starts, 0).float()
    errors = difference.square().mean((1, 2, 3)).sqrt().reshape(-1, starts)
    chosen = errors.argmin(1) + torch.arange(len(targets)) * starts
    return Projection(z.cpu()[chosen], images[chosen], errors.flatten()[chosen])


# ---- pictures


class _Files(Source):
    """Picture files, in the order in which they are given."""

    def __init__(self, paths: Sequence[Path]):
        self.paths, self.description = paths, plural(len(paths), "picture")

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.paths[index])

    def read(self, index: int) -> Image.Image:
        return decode(read_regular(self.paths[index]), self.name(index))


def read_pictures(places: Sequence[Path], config: Config) -> tuple[list[str], Tensor]:
    """The pictures at paths, which are files or sources of images: their names, and uint8 (n, *shape), cropped and
    resized as the images of a config. Raises UserError for what cannot be read, and for more than `MOST`."""
    recipe = choose_recipe(config.data, config.model.imsize)
    names: list[str] = []
    pictures: list[Tensor] = []
    for place in places:
        source: Source = _Files([place]) if place.is_file() and is_image(place.name) else open_source(place)
        if len(pictures) + len(source) > MOST:
            raise UserError(f"at most {MOST} pictures can be projected at once: with {place} there are more")
        names += [Path(source.name(number)).name for number in range(len(source))]
        pictures += [_prepared(source, number, recipe) for number in range(len(source))]
    return names, torch.stack(pictures)


def some_pictures(source: Source, config: Config, seed: int, count: int) -> Tensor:
    """``count`` images of a source, chosen by a seed: uint8 (count, *shape)."""
    order = random_order(len(source), random_generator(seed, "images to project"))
    recipe = choose_recipe(config.data, config.model.imsize)
    return torch.stack([_prepared(source, number, recipe) for number in order[:count].tolist()])


def _prepared(source: Source, number: int, recipe: Recipe) -> Tensor:
    prepared = prepare_image(source, number, recipe)
    if prepared.pixels is None:
        raise UserError(f"{prepared.name} cannot be projected: {prepared.reason}")
    pixels = np.frombuffer(prepared.pixels, np.uint8).reshape(recipe.size, recipe.size, -1).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)
