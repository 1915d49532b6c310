"""`sagan directions`: what changes an image most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import class_as_label, parse
from sagan.run.config import check_device
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_unwritable
from sagan.system.typed import refuse_beyond

_FARTHEST = 1000


@dataclass(frozen=True)
class DirectionsFlags:
    """Draw what the main directions of the latents do, as a sheet: a row is a direction, from -reach to +reach. The
    directions are those in which the first layer changes most (SeFa, arXiv 2007.06600)."""

    run: Annotated[Path, Positional]
    """A run's folder, a snapshot file, or another place that `sagan sample` takes."""
    out: Path
    """A new file NAME.png; the directions themselves are written beside it, as NAME.csv."""
    step: int | None = None
    """Use the run's snapshot of this step."""
    num: int = 8
    """The number of directions."""
    columns: int = 7
    """Images in a row."""
    reach: float = 3.0
    """How far to go along a direction, whose length is 1."""
    seed: int = 0
    """The seed of the image in the middle: the first one of `sagan sample`."""
    label: str = ""
    """The class of all images: its name or, if no class has this name, its number. --class is the same flag."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        for name in ("num", "columns"):
            refuse_beyond(name, getattr(self, name), 1000)
        refuse_beyond("seed", self.seed)
        if not 0 < self.reach <= _FARTHEST:
            raise UserError(f"`reach` must be more than 0 and at most {_FARTHEST}, got {self.reach:g}")
        if self.columns < 2:
            raise UserError(f"`columns` must be 2 or more, got {self.columns}")


def directions(words: Sequence[str], console: Console) -> int:
    """A sheet of what the main directions of the latents do."""
    flags = parse(DirectionsFlags, class_as_label(words), "sagan directions")
    check_device(flags.device)
    from sagan.core.latents import principal_directions
    from sagan.data.sources.own import SOFTWARE
    from sagan.run.classes import class_number
    from sagan.run.places import find_snapshot
    from sagan.run.weights import load_snapshot
    from sagan.system.devices import choose_device
    from sagan.system.images import grid, save_png
    from sagan.viewing.directions import direction_images, write_directions

    table = flags.out.with_suffix(".csv")
    if flags.out.suffix.lower() != ".png":
        raise UserError(f"`out` must be a PNG, such as {flags.out.with_name('directions.png')}, got {flags.out}")
    for path in (flags.out, table):
        if path.exists():
            raise UserError(f"{path} is there already: give another `out`, or remove it")
    refuse_unwritable(flags.out.parent, "--out")
    snapshot = load_snapshot(find_snapshot(flags.run, flags.step))
    label = class_number(flags.label, snapshot.classes, snapshot.generator.num_classes) if flags.label else None
    rows, strengths = principal_directions(snapshot.generator, flags.num)
    device = choose_device(flags.device)
    with console.progress("drawing images") as progress:
        images = direction_images(
            snapshot.generator, rows, flags.reach, flags.columns, flags.seed, label, device, progress
        )
    save_png(grid(images, columns=flags.columns), flags.out, software=SOFTWARE)
    write_directions(table, rows, strengths)
    console.say(
        f"{flags.out}: {flags.num} directions from -{flags.reach:g} to +{flags.reach:g}; their entries: {table}"
    )
    return 0
