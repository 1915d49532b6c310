"""Projection: the latent whose image is nearest to a picture, found by gradient descent from several starts."""

from __future__ import annotations

import itertools
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
from sagan.core.shapes import refuse_other_than_rgb
from sagan.data import Recipe, Source, open_source
from sagan.data.choice import choose_recipe
from sagan.data.recipe import prepare_image
from sagan.data.sources.decode import decode
from sagan.data.sources.names import is_image
from sagan.run.config import Config
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import read_regular
from sagan.system.images import from_uint8
from sagan.system.precision import full_precision
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import latents
from sagan.system.randomness import order as random_order
from sagan.system.sentences import plural

MOST = 64
"""Pictures that are projected at once."""
CANDIDATES = 64
"""Latents among which the starts are chosen."""
_AT_ONCE = 32  # images that are drawn at a time
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

    The ``starts`` nearest of `CANDIDATES` (or ``starts``, if that is more) latents of ``seed`` each take a quarter of
    the ``steps``, and the nearest one then takes the others: of Adam, against the mean square difference of pixels at
    several scales and, with a ``judge``, of its features (discriminator features of an image and of its target). Raises
    UserError for targets of another shape and numbers less than 1.
    """
    refuse_other_than_rgb(generator.shape, "projecting pictures")
    if tuple(targets.shape[1:]) != generator.shape.chw:
        raise UserError(f"targets must be (n, {', '.join(map(str, generator.shape.chw))}), got {tuple(targets.shape)}")
    for name, number in (("starts", starts), ("steps", steps)):
        if number < 1:
            raise UserError(f"`{name}` must be 1 or more, got {number}")
    device = torch.device(device)
    generator = folded(generator).to(device)
    descent = _Descent(generator, None if judge is None else folded(judge).to(device), steps)
    pool = latents(seed, "projection", max(starts, CANDIDATES), generator.z_dim).clamp(-_FAR, _FAR).to(device)
    total = steps * len(targets)
    found = []
    for number, target in enumerate(from_uint8(targets.to(device))):
        label = None if labels is None else labels[number : number + 1].to(device)
        z = descent.nearest(pool, target, label, starts)
        first = -(-steps // 4) if starts > 1 else steps
        z = descent.descend(z, target, label, range(first))
        progress(number * steps + first, total)
        found.append(descent.descend(descent.nearest(z, target, label, 1), target, label, range(first, steps)))
        progress((number + 1) * steps, total)
    z = torch.cat(found)
    images = generate(generator, z, None if labels is None else labels.to(device)).cpu()
    errors = (images.float() - targets.float()).square().mean((1, 2, 3)).sqrt()
    return Projection(z.cpu(), images, errors)


@dataclass(frozen=True)
class _Descent:
    """Steps, of ``steps`` in all, of latents towards one target, float (channels, height, width) in [-1, 1], of a class
    ``label`` (1,)."""

    generator: Generator
    judge: Discriminator | None
    steps: int

    @torch.no_grad()
    def nearest(self, z: Tensor, target: Tensor, label: Tensor | None, count: int) -> Tensor:
        """Those ``count`` of the latents whose pixels are nearest to the target."""
        with full_precision(z.device):
            parts = [self.generator(part, _classes(label, len(part))) for part in z.split(_AT_ONCE)]
        order = torch.cat([_pixel_distance(part, target.expand_as(part)) for part in parts]).argsort(stable=True)
        return z[order[:count]]

    def descend(self, z: Tensor, target: Tensor, label: Tensor | None, steps: range) -> Tensor:
        """The latents after these of all steps."""
        return torch.cat([self._descend(part, target, label, steps) for part in z.split(_AT_ONCE)])

    def _descend(self, z: Tensor, target: Tensor, label: Tensor | None, steps: range) -> Tensor:
        z, classes, wanted = z.clone().requires_grad_(), _classes(label, len(z)), target.expand(len(z), *target.shape)
        optimizer = torch.optim.Adam([z], lr=_RATE)
        with full_precision(z.device):
            with torch.no_grad():
                features = None if self.judge is None else self.judge.features(wanted[:1])
            for step in steps:
                optimizer.param_groups[0]["lr"] = _RATE * min(1.0, 2 * (1 - step / self.steps))
                with torch.enable_grad():
                    images = self.generator(z, classes)
                    loss = _pixel_distance(images, wanted)
                    if self.judge is not None and features is not None:
                        loss = loss + _FEATURES * _feature_distance(self.judge.features(images), features)
                    (z.grad,) = torch.autograd.grad(loss.sum(), [z])
                optimizer.step()
                with torch.no_grad():
                    z.clamp_(-_FAR, _FAR)
        return z.detach()


def _classes(label: Tensor | None, count: int) -> Tensor | None:
    return None if label is None else label.expand(count)


def _pixel_distance(images: Tensor, wanted: Tensor) -> Tensor:
    """The mean square difference (n,), of the images and of smaller ones down to a quarter of their size."""
    total = torch.zeros(len(images), device=images.device)
    for _ in range(3):
        total = total + (images - wanted).square().mean((1, 2, 3))
        images, wanted = F.avg_pool2d(images, 2), F.avg_pool2d(wanted, 2)
    return total


def _feature_distance(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).square().mean((1, 2, 3)) / wanted.square().mean((1, 2, 3)).clamp_min(1e-8)


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
    recipe = choose_recipe(config.data, config.model.imsize, config.model.shape.channels)
    names: list[str] = []
    pictures: list[Tensor] = []
    for place in places:
        source: Source = _Files([place]) if place.is_file() and is_image(place.name) else open_source(place)
        if len(pictures) + len(source) > MOST:
            raise UserError(f"at most {MOST} pictures can be projected at once: with {place} there are more")
        names += [Path(source.name(number)).name for number in range(len(source))]
        pictures += [_prepared(source, number, recipe) for number in range(len(source))]
    return names, torch.stack(pictures)


def some_pictures(source: Source, config: Config, seed: int, count: int, of_class: str | None = None) -> Tensor:
    """``count`` images of a source, chosen by a seed: uint8 (count, *shape); fewer where there are not as many.

    ``of_class``: the name of their class. Raises UserError where there is no image, and for one that cannot be read.
    """
    order = random_order(len(source), random_generator(seed, "images to project")).tolist()
    fitting = (number for number in order if of_class is None or source.class_of(number) == of_class)
    recipe = choose_recipe(config.data, config.model.imsize, config.model.shape.channels)
    pictures = [_prepared(source, number, recipe) for number in itertools.islice(fitting, count)]
    if not pictures:
        raise UserError(f"{source.description} holds no image" + (f" of class {of_class!r}" if of_class else ""))
    return torch.stack(pictures)


def _prepared(source: Source, number: int, recipe: Recipe) -> Tensor:
    prepared = prepare_image(source, number, recipe)
    if prepared.pixels is None:
        raise UserError(f"{prepared.name} cannot be projected: {prepared.reason}")
    pixels = np.frombuffer(prepared.pixels, np.uint8).reshape(recipe.shape.hwc).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)
