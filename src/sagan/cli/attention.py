"""The command that shows where attention looks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from sagan.cli.flags import asks_help, read, show_help
from sagan.run.config import Config, check_device
from sagan.run.records import TrainRecord
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.typed import fill

if TYPE_CHECKING:
    from torch import Tensor

    from sagan.core.networks.interface import Discriminator, Generator
    from sagan.run.folder import Run
    from sagan.viewing.figures import Exhibit
    from sagan.viewing.maps import Looks, Point

_POINTS = 4  # of a picture, chosen where attention is sharpest


@dataclass(frozen=True)
class AttentionFlags:
    """Show where attention looks: a page to point at (attention.html), a PNG of each picture, the numbers as CSV.
    Pictures are drawn from the generator and judged by the discriminator of the same step, or are real images."""

    target: Annotated[Path, Positional]
    """A run's folder (its newest snapshot is used) or one snapshot file."""
    step: int | None = None
    """Use the run's snapshot of this step. The discriminator is kept of the last checkpoint only."""
    seed: int = 0
    """Another seed draws other pictures, or chooses others among --images."""
    num: int = 4
    """How many pictures."""
    images: Path | None = None
    """Real images for the discriminator to look at: a folder, a zip, an LMDB or a .npy. Each is
    cropped as the images that the run was trained on (of a celeb run: to 160 pixels) and brought to the run's size."""
    query: tuple[int, ...] | None = None
    """Points to look from, as y,x in pixels of the picture, such as 12,10 12,22.
    By default four of each picture from where attention is sharpest: lowest entropy, well apart."""
    compare: Path | None = None
    """Another run or snapshot to show beside it, from the same z: full attention against sparse, say."""
    over_training: bool = False
    """Also measure the generator of every snapshot of the run, from the same z, and draw it over the steps."""
    out: Path | None = None
    """A new or empty folder for the files; by default RUN/attention/STEP."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def attention(arguments: Sequence[str], console: Console) -> int:
    """Show where attention looks, in pictures, numbers and a page to point at."""
    if asks_help(arguments):
        show_help(AttentionFlags, "sagan attention")
        return 0
    flags = fill(AttentionFlags, read(AttentionFlags, arguments, "sagan attention"))
    _check(flags)
    from sagan.viewing.figures import draw_maps, write_table
    from sagan.viewing.maps import layer_row
    from sagan.viewing.page import write_page

    subjects = _open_all(flags)
    exhibits = [_exhibit(subject, flags, console) for subject in subjects]
    _warn_of_other_steps(exhibits, console)
    points = _points(exhibits[0], flags)
    rows = [
        layer_row(exhibit.run, looks, numbers)
        for exhibit in exhibits
        for looks, numbers in zip(exhibit.looks, exhibit.numbers, strict=True)
    ]
    folder = _make_folder(subjects[0], flags)
    with console.progress("drawing pictures") as progress:
        for image in range(len(points)):
            draw_maps(folder / f"image-{image:04d}.png", exhibits, image, points[image])
            progress(image + 1, len(points))
    write_table(folder / "layers.csv", rows)
    write_table(folder / "queries.csv", list(_query_rows(exhibits, points)))
    write_page(folder / "attention.html", exhibits, points, rows)
    if flags.over_training:
        _follow_training(subjects, flags, folder, console)
    console.table(_summary(rows, several=len(exhibits) > 1))
    console.say(
        "entropy in bits, distance in pixels of the map; in brackets, what it would be of looking at all that may be "
        "seen alike"
    )
    console.say(f"point at pixels in {folder / 'attention.html'}; the same as pictures and CSV are beside it")
    return 0


def _check(flags: AttentionFlags) -> None:
    check_device(flags.device)
    if flags.num < 1:
        raise UserError(f"num must be 1 or more, got {flags.num}")
    if flags.query is not None and (not flags.query or len(flags.query) % 2):
        raise UserError(f"--query takes points as y,x, such as 12,10 12,22; got {len(flags.query)} numbers")
    if flags.images is not None and flags.over_training:
        raise UserError(
            "--over_training follows the snapshots, and snapshots hold only the generator, which real images do not "
            "pass: leave out --images or --over_training"
        )
    if flags.out is not None and flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise UserError(f"{flags.out} is not an empty folder, and pictures of two looks would mix: give another --out")


# ---- what is looked at


@dataclass(frozen=True)
class _Subject:
    """A snapshot, the run that it is of (None for a file on its own), and the settings of its networks."""

    name: str
    path: Path
    run: Run | None
    generator: Generator
    config: Config
    step: int


def _open_all(flags: AttentionFlags) -> list[_Subject]:
    """The target, and what it is compared with. Raises UserError where the same z cannot be given to both, or there
    are no snapshots to follow."""
    subjects = [_open(place, flags.step) for place in (flags.target, flags.compare) if place is not None]
    first, last = subjects[0], subjects[-1]
    for name in ("imsize", "z_dim", "num_classes"):
        ours, theirs = (getattr(subject.config.model, name) for subject in (first, last))
        if ours != theirs:
            raise UserError(
                f"{flags.target} and {flags.compare} cannot be put side by side for the same z: their {name} is "
                f"{ours} and {theirs}"
            )
    for subject in subjects:
        if flags.over_training and subject.run is None:
            raise UserError(f"--over_training follows a run's snapshots, and {subject.path} is one on its own")
    if len(subjects) == 2 and first.name == last.name and first.run != last.run:
        places = (str(flags.target), str(flags.compare))
        return [dataclasses.replace(subject, name=name) for subject, name in zip(subjects, places, strict=True)]
    return subjects


def _open(place: Path, step: int | None) -> _Subject:
    from sagan.run.folder import Run, find_snapshot
    from sagan.run.weights import load_snapshot

    path = find_snapshot(place, step)
    folder = path.absolute().parents[1] if place.is_file() else place
    run = Run(folder) if path.parent.name == "snapshots" and (folder / "config.json").is_file() else None
    snapshot = load_snapshot(path)
    name = folder.absolute().name if run else path.stem
    return _Subject(name, path, run, snapshot.generator, snapshot.config, snapshot.step)


def _exhibit(subject: _Subject, flags: AttentionFlags, console: Console) -> Exhibit:
    from sagan.core.sampling import numbered_latents
    from sagan.system.devices import choose_device
    from sagan.viewing.figures import Exhibit
    from sagan.viewing.maps import look_generating, look_judging

    device = choose_device(flags.device)
    judge = _discriminator(subject, flags, console)
    looks: list[Looks] = []
    if flags.images is not None:
        pictures = _read_images(flags.images, subject.config, flags)
    else:
        z, labels = numbered_latents(subject.generator, flags.seed, range(flags.num))
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


def _discriminator(subject: _Subject, flags: AttentionFlags, console: Console) -> tuple[Discriminator, int] | None:
    """The discriminator and its step, or None, with a sentence that says so, where there is none of the step that is
    looked at. Raises UserError where it was to judge images."""
    from sagan.viewing.maps import load_discriminator

    needed = flags.images is not None
    if subject.run is None:
        missing = f"{subject.path} is a snapshot on its own, and snapshots hold only the generator"
    elif not subject.run.checkpoint_file.is_file():
        missing = f"{subject.name} has no checkpoints/last.pt, and snapshots hold only the generator"
    else:
        discriminator, step = load_discriminator(subject.run)
        asked = flags.step is not None or not flags.target.is_dir()  # for one step, not for what there is
        if step == subject.step or (needed and not asked):
            return discriminator, step
        missing = (
            f"there is no discriminator of step {subject.step:,}, because snapshots hold only the generator, and the "
            f"checkpoint of {subject.name} is of step {step:,}"
        )
    if needed:
        raise UserError(f"no discriminator to judge images: {missing}")
    console.say(f"only the generator is shown: {missing}")
    return None


def _warn_of_other_steps(exhibits: Sequence[Exhibit], console: Console) -> None:
    steps = {exhibit.looks[0].step for exhibit in exhibits}
    if len(steps) > 1:
        listed = " and ".join(f"{step:,}" for step in sorted(steps))
        console.warn(f"networks of different steps are put side by side, {listed}: --step chooses one for both")


def _read_images(place: Path, config: Config, flags: AttentionFlags) -> Tensor:
    """``num`` of the images at a place, which ones decided by the seed: uint8 (n, 3, size, size)."""
    import numpy as np
    import torch

    from sagan.data import choose_recipe, open_source
    from sagan.data.recipe import prepare_image
    from sagan.system.randomness import generator

    source, size = open_source(place), config.model.imsize
    order = torch.randperm(len(source), generator=generator(flags.seed, "images to look at"))
    recipe = choose_recipe(config.data, size)  # the run's, so that its discriminator sees what it was trained on
    pictures = []
    for number in sorted(order[: flags.num].tolist()):
        prepared = prepare_image(source, number, recipe)
        if prepared.pixels is None:
            raise UserError(f"{prepared.name} cannot be shown: {prepared.reason}")
        pixels = np.frombuffer(prepared.pixels, np.uint8).reshape(size, size, 3).copy()
        pictures.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(pictures)


def _points(exhibit: Exhibit, flags: AttentionFlags) -> list[list[Point]]:
    """The points of each picture: those asked for, or chosen by the layer of the largest map."""
    from sagan.viewing.maps import choose_points

    size = exhibit.image_size
    if flags.query is not None:
        given = list(zip(flags.query[::2], flags.query[1::2], strict=True))
        for y, x in given:
            if not (0 <= y < size and 0 <= x < size):
                raise UserError(f"--query points must lie in the picture, 0,0 to {size - 1},{size - 1}; got {y},{x}")
        return [given] * len(exhibit.pictures)
    layer = max(range(len(exhibit.looks)), key=lambda number: exhibit.looks[number].pattern.queries)
    looks, numbers = exhibit.looks[layer], exhibit.numbers[layer]
    middle = [(size // 2, size // 2)]  # where no query sees anything
    return [choose_points(looks, numbers, i, size, _POINTS) or middle for i in range(len(exhibit.pictures))]


# ---- what is written


def _make_folder(subject: _Subject, flags: AttentionFlags) -> Path:
    from sagan.run.folder import make_free_folder

    if flags.out is not None:
        flags.out.mkdir(parents=True, exist_ok=True)
        return flags.out
    if subject.run is None:
        return make_free_folder(Path(f"{subject.path.stem}-attention"))
    what = "-images" if flags.images is not None else ""
    return make_free_folder(subject.run.folder / "attention" / f"{subject.step:08d}{what}")


def _query_rows(exhibits: Sequence[Exhibit], points: Sequence[Sequence[Point]]) -> Iterator[dict[str, Any]]:
    """A row for each point, picture and layer: what is measured of its query, and where it looks most."""
    from sagan.viewing.maps import MEASURES

    for exhibit in exhibits:
        for looks, numbers in zip(exhibit.looks, exhibit.numbers, strict=True):
            for image, chosen in enumerate(points):
                queries = [looks.query_at(point, exhibit.image_size) for point in chosen]
                weights = looks.weights(image, queries)
                for (y, x), query, weights_row in zip(chosen, queries, weights, strict=True):
                    row = {"run": exhibit.run, "step": looks.step, "image": image, "y": y, "x": x}
                    row |= {"network": looks.network, "map": looks.pattern.height, "pattern": looks.pattern.label}
                    row |= {name: numbers[name][image, query].item() for name in MEASURES}
                    at = divmod(int(weights_row.argmax()), looks.grid[1])
                    yield row | {"largest": weights_row.max().item(), "key_row": at[0], "key_column": at[1]}


def _follow_training(subjects: Sequence[_Subject], flags: AttentionFlags, folder: Path, console: Console) -> None:
    """Measures the generator of every snapshot, and takes the discriminator's gates from the records."""
    from sagan.viewing.figures import draw_training, write_table

    rows: list[dict[str, Any]] = []
    for subject in subjects:
        with console.progress(f"measuring the snapshots of {subject.name}") as progress:
            rows += _training_rows(subject, flags, progress)
    write_table(folder / "training.csv", rows)
    draw_training(folder, rows)


def _training_rows(
    subject: _Subject, flags: AttentionFlags, progress: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    from sagan.core.sampling import numbered_latents
    from sagan.run.weights import load_snapshot
    from sagan.system.devices import choose_device
    from sagan.viewing.maps import layer_row, look_generating

    assert subject.run is not None
    device, snapshots = choose_device(flags.device), subject.run.snapshots()
    for number, path in enumerate(snapshots, 1):
        snapshot = load_snapshot(path)
        z, labels = numbered_latents(snapshot.generator, flags.seed, range(flags.num))
        _, looks = look_generating(snapshot.generator.to(device), snapshot.step, z.to(device), labels)
        yield from (layer_row(subject.name, each, each.measure()) for each in looks)
        progress(number, len(snapshots))
    for record in subject.run.records_of(TrainRecord):
        for name, gamma in record.gamma.items():
            if name.startswith("D"):
                place = {"network": "discriminator", "map": int(name[1:])}
                yield {"run": subject.name, "step": record.step, **place, "gamma": gamma}


def _summary(rows: Sequence[dict[str, Any]], *, several: bool) -> list[list[str]]:
    """The table of layers for a terminal: each measure, and in brackets what even attention would have."""
    table = [["layer", "pattern", "gamma", "entropy", "distance", "inside", "border"]]
    for row in rows:
        cells = [f"{row['network']} {row['map']}x{row['map']}", row["pattern"], f"{row['gamma']:+.3f}"]
        for name, form in (("entropy", ".2f"), ("distance", ".2f"), ("inside", ".1%"), ("border", ".1%")):
            value, even = row[name], row[f"{name}_if_even"]
            cells.append("looks at nothing" if math.isnan(value) else f"{value:{form}} ({even:{form}})")
        table.append(cells)
    if several:
        table = [[run, *cells] for run, cells in zip(["run", *(row["run"] for row in rows)], table, strict=True)]
    return table
