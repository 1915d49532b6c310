"""Where the attention of trained networks looks: from a run or a snapshot to pictures, tables and a page."""

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
from sagan.data import choose_recipe, open_source
from sagan.data.recipe import prepare_image
from sagan.run.config import Config
from sagan.run.folder import Run, find_snapshot
from sagan.run.records import TrainRecord
from sagan.run.weights import load_snapshot
from sagan.system.callbacks import Progress
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.randomness import generator as random_generator
from sagan.system.randomness import order as random_order
from sagan.viewing.figures import Exhibit, draw_maps, draw_training, write_table
from sagan.viewing.maps import (
    MEASURES,
    Looks,
    Point,
    choose_points,
    layer_row,
    load_discriminator,
    look_generating,
    look_judging,
)
from sagan.viewing.page import write_page

POINTS = 4  # of a picture, chosen where attention is sharpest

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A snapshot to look at, the run that it is of (None for a file on its own), and the settings of its networks."""

    name: str
    path: Path
    run: Run | None
    generator: Generator
    config: Config
    step: int
    chosen: bool
    """Whether this step was asked for, and not the newest there is."""


def open_subjects(places: Sequence[Path], step: int | None = None) -> list[Subject]:
    """One or two runs or snapshots, to be put side by side. Raises UserError where they cannot be given the same z."""
    subjects = [_open(place, step) for place in places]
    first, last = subjects[0], subjects[-1]
    for name in ("imsize", "z_dim", "num_classes"):
        ours, theirs = (getattr(subject.config.model, name) for subject in (first, last))
        if ours != theirs:
            raise UserError(
                f"{' and '.join(map(str, places))} cannot be put side by side for the same z: their {name} is {ours} "
                f"and {theirs}"
            )
    if len(subjects) == 2 and first.name == last.name and first.run != last.run:
        return [dataclasses.replace(each, name=str(place)) for each, place in zip(subjects, places, strict=True)]
    return subjects


def _open(place: Path, step: int | None) -> Subject:
    path = find_snapshot(place, step)
    folder = path.absolute().parents[1] if place.is_file() else place
    run = Run(folder) if path.parent.name == "snapshots" and (folder / "config.json").is_file() else None
    snapshot = load_snapshot(path)
    name, chosen = folder.absolute().name if run else path.stem, step is not None or not place.is_dir()
    return Subject(name, path, run, snapshot.generator, snapshot.config, snapshot.step, chosen)


def make_exhibit(
    subject: Subject, seed: int, count: int, device: torch.device, console: Console, images: Path | None = None
) -> Exhibit:
    """Pictures that a subject draws of a seed, or some of the ``images`` at a place, and where attention looks in them.

    Raises UserError where there is no attention, and no discriminator to judge images.
    """
    judge = _discriminator(subject, needed=images is not None, console=console)
    looks: list[Looks] = []
    if images is not None:
        pictures = read_images(images, subject.config, seed, count)
    else:
        z, labels = numbered_latents(subject.generator, seed, range(count))
        pictures, looks = look_generating(subject.generator.to(device), subject.step, z.to(device), labels)
    if judge is not None:
        looks += look_judging(judge[0].to(device), judge[1], pictures)
    if not looks:
        raise UserError(f"{subject.path} has no attention layer to look at: its run was trained without any there")
    numbers = []
    with console.progress(f"measuring {subject.name}") as progress:
        for number, each in enumerate(looks, 1):
            numbers.append(each.measure())
            progress(number, len(looks))
    return Exhibit(subject.name, pictures, looks, numbers)


def _discriminator(subject: Subject, *, needed: bool, console: Console) -> tuple[Discriminator, int] | None:
    """The discriminator and its step, or None, with a sentence that says so, where there is none of the step that is
    looked at. Raises UserError where it is ``needed``, to judge images."""
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
    """``count`` of the images at a place, which ones decided by the seed: uint8 (n, 3, size, size). They are cropped as
    the images of the run, so that its discriminator sees what it was trained on."""
    source, size = open_source(place), config.model.imsize
    order = random_order(len(source), random_generator(seed, "images to look at"))
    recipe = choose_recipe(config.data, size)
    pictures = []
    for number in sorted(order[:count].tolist()):
        prepared = prepare_image(source, number, recipe)
        if prepared.pixels is None:
            raise UserError(f"{prepared.name} cannot be shown: {prepared.reason}")
        pixels = np.frombuffer(prepared.pixels, np.uint8).reshape(size, size, 3).copy()
        pictures.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(pictures)


def points_of(exhibit: Exhibit, query: Sequence[int] | None = None) -> list[list[Point]]:
    """The points of each picture: those asked for, y and x in turn, or chosen by the layer of the largest map. Raises
    UserError for a point outside the picture."""
    size = exhibit.image_size
    if query is not None:
        given = list(zip(query[::2], query[1::2], strict=True))
        for y, x in given:
            if not (0 <= y < size and 0 <= x < size):
                raise UserError(f"--query points must lie in the picture, 0,0 to {size - 1},{size - 1}; got {y},{x}")
        return [given] * len(exhibit.pictures)
    layer = max(range(len(exhibit.looks)), key=lambda number: exhibit.looks[number].pattern.queries)
    looks, numbers = exhibit.looks[layer], exhibit.numbers[layer]
    middle = [(size // 2, size // 2)]  # where no query sees anything
    return [choose_points(looks, numbers, i, size, POINTS) or middle for i in range(len(exhibit.pictures))]


# ---- what is written


def write_exhibits(
    folder: Path, exhibits: Sequence[Exhibit], points: Sequence[Sequence[Point]], console: Console
) -> list[Row]:
    """Writes a figure of each picture, ``layers.csv``, ``queries.csv`` and ``attention.html``; gives the rows of
    layers."""
    rows = [
        layer_row(exhibit.run, looks, numbers)
        for exhibit in exhibits
        for looks, numbers in zip(exhibit.looks, exhibit.numbers, strict=True)
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
    """A row for each point, picture and layer: what is measured of its query, and where it looks most."""
    for exhibit in exhibits:
        for looks, numbers in zip(exhibit.looks, exhibit.numbers, strict=True):
            for image, chosen in enumerate(points):
                queries = [looks.query_at(point, exhibit.image_size) for point in chosen]
                weights = looks.weights(image, queries)
                for (y, x), query, weights_row in zip(chosen, queries, weights, strict=True):
                    row: Row = {"run": exhibit.run, "step": looks.step, "image": image, "y": y, "x": x}
                    row |= {"network": looks.network, "map": looks.pattern.height, "pattern": looks.pattern.label}
                    row |= {name: numbers[name][image, query].item() for name in MEASURES}
                    at = divmod(int(weights_row.argmax()), looks.grid[1])
                    yield row | {"largest": weights_row.max().item(), "key_row": at[0], "key_column": at[1]}


def write_training(
    folder: Path, subjects: Sequence[Subject], seed: int, count: int, device: torch.device, console: Console
) -> None:
    """Writes ``training.csv`` and its figures: measures of the generator of every snapshot of runs, from the same z,
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
        z, labels = numbered_latents(snapshot.generator, seed, range(count))
        _, looks = look_generating(snapshot.generator.to(device), snapshot.step, z.to(device), labels)
        yield from (layer_row(subject.name, each, each.measure()) for each in looks)
        progress(number, len(snapshots))
    for record in subject.run.records_of(TrainRecord):
        for name, gamma in record.gamma.items():
            if name.startswith("D"):
                place = {"network": "discriminator", "map": int(name[1:])}
                yield {"run": subject.name, "step": record.step, **place, "gamma": gamma}
