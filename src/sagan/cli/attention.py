"""`sagan attention`: what attention attends to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from sagan.cli.flags import parse
from sagan.run.classes import list_classes
from sagan.run.config import check_device
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_links_out, refuse_unwritable
from sagan.system.sentences import plural
from sagan.system.typed import refuse_beyond

if TYPE_CHECKING:
    from sagan.viewing.exhibits import Subject
    from sagan.viewing.figures import Exhibit


_MOST = 10_000  # pictures on one page


@dataclass(frozen=True)
class AttentionFlags:
    """Show what attention attends to: an interactive page (attention.html), a PNG for each image, measures as CSV.
    The images are drawn by the generator and also shown to the discriminator of the same step, or they are real."""

    target: Annotated[Path, Positional]
    """A run's folder, whose newest snapshot is used, or a snapshot file."""
    step: int | None = None
    """Use the run's snapshot of this step. Only the last checkpoint contains a discriminator."""
    seed: int = 0
    """The seed that draws the images, or chooses them among --images."""
    num: int = 4
    """The number of images."""
    images: Path | None = None
    """Real images to show to the discriminator: a folder, a zip, tar, parquet, LMDB, .npy or .npz.
    They are cropped and resized as the run's own images were."""
    query: tuple[int, ...] | None = None
    """Query pixels as y,x in the image, such as 12,10 12,22.
    By default four in each image where attention is sharpest (lowest entropy), some distance apart."""
    compare: Path | None = None
    """Another run or snapshot to show beside it, with the same latents, such as full attention beside sparse."""
    over_training: bool = False
    """Also measure the generator of every snapshot of the run, with the same latents, and plot it over the steps."""
    out: Path | None = None
    """A new or empty folder for the files. By default RUN/attention/STEP."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""


def attention(words: Sequence[str], console: Console) -> int:
    """Show what attention attends to: images, measures and an interactive page."""
    flags = parse(AttentionFlags, words, "sagan attention")
    _check(flags)
    from sagan.data.sources.own import appearing_together
    from sagan.system.devices import choose_device
    from sagan.viewing.exhibits import make_exhibit, open_subjects, points_of, write_exhibits, write_training

    subjects = open_subjects([place for place in (flags.target, flags.compare) if place is not None], flags.step)
    for subject in subjects:
        if flags.over_training and subject.run is None:
            raise UserError(f"--over_training needs a run's folder, got the snapshot {subject.path}")
    device = choose_device(flags.device)
    exhibits = [make_exhibit(each, flags.seed, flags.num, device, console, flags.images) for each in subjects]
    _warn_of_other_steps(exhibits, console)
    points = points_of(exhibits[0], flags.query)
    folder = _make_folder(subjects[0], flags, console)
    with appearing_together(folder) as aside:
        rows = write_exhibits(aside, exhibits, points, console)
        if flags.over_training:
            write_training(aside, subjects, flags.seed, flags.num, device, console)
    if subjects[0].classes and flags.images is None:
        console.say(f"the classes take turns: {list_classes(subjects[0].classes)}")
    console.table(_summary(rows, several=len(exhibits) > 1))
    console.say("entropy in bits, distance in pixels of the map; in brackets, the value of uniform attention")
    console.say(f"interactive page: {folder / 'attention.html'}; images and CSV are beside it")
    return 0


def _check(flags: AttentionFlags) -> None:
    check_device(flags.device)
    if flags.num < 1:
        raise UserError(f"`num` must be 1 or more, got {flags.num}")
    refuse_beyond("num", flags.num, _MOST)
    refuse_beyond("seed", flags.seed)
    if flags.query is not None and (not flags.query or len(flags.query) % 2):
        raise UserError(f"--query takes points as y,x, such as 12,10 12,22; got {plural(len(flags.query), 'number')}")
    if flags.images is not None and flags.over_training:
        raise UserError(
            "--over_training measures the generator of each snapshot, and --images are for the discriminator: leave "
            "out one of them"
        )
    if flags.out is not None:
        from sagan.data.sources.own import is_unused

        if not is_unused(flags.out):
            raise UserError(f"{flags.out} is not an empty folder: give another --out")
        refuse_unwritable(flags.out, "--out")


def _warn_of_other_steps(exhibits: Sequence[Exhibit], console: Console) -> None:
    steps = {exhibit.layers[0].step for exhibit in exhibits}
    if len(steps) > 1:
        listed = " and ".join(f"{step:,}" for step in sorted(steps))
        console.warn(f"the networks compared are of different steps, {listed}: --step chooses one for both")


def _make_folder(subject: Subject, flags: AttentionFlags, console: Console) -> Path:
    from sagan.data.sources.own import is_left_behind, mark_as_ours
    from sagan.run.folder import make_free_folder

    if flags.out is None and subject.run is not None:
        refuse_links_out(subject.run.folder)
        what = "-images" if flags.images is not None else ""
        wanted = subject.run.folder / "attention" / f"{subject.step:08d}{what}"
        folder = make_free_folder(wanted, is_left_behind)
    elif flags.out is None:
        wanted = Path(f"{subject.path.stem}-attention")
        folder = make_free_folder(wanted, is_left_behind)
        mark_as_ours(folder)
    else:
        wanted = folder = flags.out
        mark_as_ours(folder)
    if folder != wanted:
        console.say(f"{wanted} was made before and stays as it is: this goes to {folder}")
    return folder


def _summary(rows: Sequence[dict[str, Any]], *, several: bool) -> list[list[str]]:
    """The table of layers for a terminal: each measure, and in brackets that of uniform attention."""
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
