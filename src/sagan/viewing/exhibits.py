"""Where trained networks attend to: from a run or a snapshot to pictures, tables and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sagan.core.networks.interface import Discriminator, Generator
from sagan.core.sampling import numbered_latents
from sagan.core.shapes import refuse_other_than_rgb_squares
from sagan.data import choose_recipe, open_source
from sagan.data.recipe import prepare_image
from sagan.run.classes import describe_class, list_classes
from sagan.run.config import Config
from sagan.run.folder import Run
from sagan.run.places import MODEL, find_snapshot
from sagan.run.records import TrainRecord
from sagan.run.weights import load_discriminator, load_snapshot
from sagan.system.callbacks import Progress
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import order as random_order
from sagan.viewing.figures import Exhibit, draw_maps, draw_training, write_table
from sagan.viewing.maps import (
    MEASURES,
    LayerAttention,
    Point,
    choose_points,
    discriminator_attention,
    generator_attention,
    layer_row,
)
from sagan.viewing.page import write_page

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A snapshot to show, its run (None for a file outside of a run), and the settings of its networks."""

    name: str
    path: Path
    run: Run | None
    generator: Generator
    config: Config
    step: int
    chosen: bool
    """Whether this step was asked for, instead of the newest."""
    classes: tuple[str, ...]
    """Their names by number; empty if they are unknown."""
    turns: tuple[int, ...]
    """The numbers of the classes in the order in which pictures take turns; empty without classes."""

    def latents(self, seed: int, count: int) -> tuple[Tensor, Tensor | None]:
        """The z of pictures by number, and their classes."""
        z, labels = numbered_latents(self.generator, seed, range(count))
        return z, None if labels is None else torch.tensor(self.turns)[labels]


def open_subjects(places: Sequence[Path], step: int | None = None) -> list[Subject]:
    """One run or snapshot, or two to be shown side by side. Raises UserError where these cannot be given the same z and
    classes. The second run may number the same classes in another order."""
    subjects = [_open(place, step) for place in places]
    first, last = subjects[0], subjects[-1]
    for name in ("imsize", "z_dim", "num_classes"):
        ours, theirs = (getattr(subject.config.model, name) for subject in (first, last))
        if ours != theirs:
            raise UserError(
                f"{' and '.join(map(str, places))} cannot be put side by side for the same z: their {name} is {ours} "
                f"and {theirs}"
            )
    if first.classes and last.classes:
        if set(first.classes) != set(last.classes):
            raise UserError(
                f"{' and '.join(map(str, places))} cannot be put side by side: their classes are "
                f"{list_classes(first.classes)} and {list_classes(last.classes)}"
            )
        turns = tuple(map(last.classes.index, first.classes))
        subjects[-1] = dataclasses.replace(last, turns=turns)
    if len(subjects) == 2 and first.name == last.name and first.run != last.run:
        names = _told_apart(places)
        return [dataclasses.replace(each, name=name) for each, name in zip(subjects, names, strict=True)]
    return subjects


def _told_apart(places: Sequence[Path]) -> list[str]:
    """Different paths as they were given; of absolute ones, as many of the last parts as tell them apart, as the rest
    says where they are on this machine."""
    if not any(place.is_absolute() for place in places):
        return [str(place) for place in places]
    parts = [place.absolute().parts for place in places]
    tails = ([Path(*each[-count:]).as_posix() for each in parts] for count in range(1, max(map(len, parts))))
    return next((names for names in tails if len(set(names)) == len(names)), [place.name for place in places])


def _open(place: Path, step: int | None) -> Subject:
    path = find_snapshot(place, step)
    folder = path.absolute().parents[1] if place.is_file() else place
    run = Run(folder) if path.parent.name == "snapshots" and (folder / "config.json").is_file() else None
    snapshot = load_snapshot(path)
    refuse_other_than_rgb_squares(snapshot.generator.shape, "showing attention")
    name, chosen = (
        folder.absolute().name if run or path.name == MODEL else path.stem,
        step is not None or not place.is_dir(),
    )
    turns = tuple(range(snapshot.generator.num_classes))
    return Subject(name, path, run, snapshot.generator, snapshot.config, snapshot.step, chosen, snapshot.classes, turns)


def make_exhibit(
    subject: Subject, seed: int, count: int, device: torch.device, console: Console, images: Path | None = None
) -> Exhibit:
    """``count`` pictures drawn from a seed, or of the ``images`` at a path, and where attention looks in them. Raises
    UserError where there is no attention layer, and where there is no discriminator for ``images``."""
    judge = _discriminator(subject, needed=images is not None, console=console)
    layers: list[LayerAttention] = []
    classes: tuple[str, ...] = ()
    if images is not None:
        pictures = read_images(images, subject.config, seed, count)
    else:
        z, labels = subject.latents(seed, count)
        if labels is not None:
            classes = tuple(describe_class(number, subject.classes) for number in labels.tolist())
        pictures, layers = generator_attention(subject.generator.to(device), subject.step, z.to(device), labels)
    if judge is not None:
        layers += discriminator_attention(judge[0].to(device), judge[1], pictures)
    if not layers:
        raise UserError(f"{subject.path} has no attention layer to show: the networks shown were trained without any")
    measures = []
    with console.progress(f"measuring {subject.name}") as progress:
        for number, each in enumerate(layers, 1):
            measures.append(each.measure())
            progress(number, len(layers))
    return Exhibit(subject.name, pictures, layers, measures, classes)


def _discriminator(subject: Subject, *, needed: bool, console: Console) -> tuple[Discriminator, int] | None:
    """The discriminator and its step, or None, said in a sentence, where there is none of the subject's step. Raises
    UserError there if it is ``needed``, to judge images."""
    if subject.run is None:
        missing = f"{subject.path} is a snapshot on its own, and snapshots hold only the generator"
    elif not subject.run.checkpoint_file.is_file():
        missing = f"{subject.name} has no checkpoints/last.pt, and snapshots hold only the generator"
    else:
        discriminator, step = load_discriminator(subject.run)
        if step == subject.step or (needed and not subject.chosen):
            return discriminator, step
        missing = (
            f"there is no discriminator of step {subject.step:,}, because snapshots hold only the generator, and the "
            f"checkpoint of {subject.name} is of step {step:,}"
        )
    if needed:
        raise UserError(f"no discriminator to judge images: {missing}")
    console.say(f"only the generator is shown: {missing}")
    return None


def read_images(place: Path, config: Config, seed: int, count: int) -> Tensor:
    """``count`` of the images at a path, chosen by the seed: uint8 (n, 3, size, size). They are cropped like those of
    the run, so that its discriminator sees what it was trained on."""
    source = open_source(place)
    order = random_order(len(source), random_generator(seed, "images to look at"))
    recipe = choose_recipe(config.data, config.model.imsize, config.model.shape.channels)
    pictures = []
    for number in sorted(order[:count].tolist()):
        prepared = prepare_image(source, number, recipe)
        if prepared.pixels is None:
            raise UserError(f"{prepared.name} cannot be shown: {prepared.reason}")
        pixels = np.frombuffer(prepared.pixels, np.uint8).reshape(recipe.shape.hwc).copy()
        pictures.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(pictures)


def points_of(exhibit: Exhibit, query: Sequence[int] | None = None) -> list[list[Point]]:
    """The points of each picture: those in ``query``, y and x in turn, or those chosen by the layer of the largest map.
    Raises UserError for a point outside the picture."""
    size = exhibit.image_size
    if query is not None:
        given = list(zip(query[::2], query[1::2], strict=True))
        for y, x in given:
            if not (0 <= y < size and 0 <= x < size):
                raise UserError(f"--query points must lie in the picture, 0,0 to {size - 1},{size - 1}; got {y},{x}")
        return [given] * len(exhibit.pictures)
    pairs = zip(exhibit.layers, exhibit.measures, strict=True)
    layer, measures = max(pairs, key=lambda pair: pair[0].pattern.queries)
    middle = [(size // 2, size // 2)]  # for a layer in which no query sees a key
    return [choose_points(layer, measures, i, size) or middle for i in range(len(exhibit.pictures))]


# ---- files


def write_exhibits(
    folder: Path, exhibits: Sequence[Exhibit], points: Sequence[Sequence[Point]], console: Console
) -> list[Row]:
    """Writes a figure of each picture, ``layers.csv``, ``queries.csv`` and ``attention.html``; returns the rows of
    ``layers.csv``."""
    rows = [
        layer_row(exhibit.run, layer, measures)
        for exhibit in exhibits
        for layer, measures in zip(exhibit.layers, exhibit.measures, strict=True)
    ]
    with console.progress("drawing pictures") as progress:
        for image in range(len(points)):
            draw_maps(folder / f"image-{image:04d}.png", exhibits, image, points[image])
            progress(image + 1, len(points))
    write_table(folder / "layers.csv", rows)
    write_table(folder / "queries.csv", list(_query_rows(exhibits, points)))
    write_page(folder / "attention.html", exhibits, points, rows)
    return rows


def _query_rows(exhibits: Sequence[Exhibit], points: Sequence[Sequence[Point]]) -> Iterator[Row]:
    """A row for each point, picture and layer: the measures of its query, and the key with the largest weight."""
    for exhibit in exhibits:
        for layer, measures in zip(exhibit.layers, exhibit.measures, strict=True):
            for image, chosen in enumerate(points):
                queries = [layer.query_at(point, exhibit.image_size) for point in chosen]
                weights = layer.weights(image, queries)
                for (y, x), query, weights_row in zip(chosen, queries, weights, strict=True):
                    row: Row = {"run": exhibit.run, "step": layer.step, "image": image, "y": y, "x": x}
                    row |= {"network": layer.network, "map": layer.pattern.height, "pattern": layer.pattern.label}
                    row |= {name: measures[name][image, query].item() for name in MEASURES}
                    at = divmod(int(weights_row.argmax()), layer.grid[1])
                    row |= {"largest": weights_row.max().item(), "key_row": at[0], "key_column": at[1]}
                    yield row | ({"class": exhibit.classes[image]} if exhibit.classes else {})


def write_training(
    folder: Path, subjects: Sequence[Subject], seed: int, count: int, device: torch.device, console: Console
) -> None:
    """Writes ``training.csv`` and its figures: measures of the generator in every snapshot of the runs, for the same z,
    and the discriminator's gates from the records."""
    rows: list[Row] = []
    for subject in subjects:
        with console.progress(f"measuring the snapshots of {subject.name}") as progress:
            rows += _training_rows(subject, seed, count, device, progress)
    write_table(folder / "training.csv", rows)
    draw_training(folder, rows)


def _training_rows(subject: Subject, seed: int, count: int, device: torch.device, progress: Progress) -> Iterator[Row]:
    assert subject.run is not None, "a snapshot on its own has no training to follow"
    snapshots = subject.run.snapshots()
    for number, path in enumerate(snapshots, 1):
        snapshot = load_snapshot(path)
        z, labels = subject.latents(seed, count)
        _, layers = generator_attention(snapshot.generator.to(device), snapshot.step, z.to(device), labels)
        yield from (layer_row(subject.name, each, each.measure()) for each in layers)
        progress(number, len(snapshots))
    for record in subject.run.records_of(TrainRecord):
        for name, gamma in record.gamma.items():
            if name.startswith("D"):
                place = {"network": "discriminator", "map": int(name[1:])}
                yield {"run": subject.name, "step": record.step, **place, "gamma": gamma}
