"""`sagan sample`: images from a trained generator."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from sagan.cli.flags import class_as_label, read
from sagan.cli.together import compare_flags
from sagan.run.classes import class_number, describe_class, list_classes
from sagan.run.config import MOST_IMAGES, check_device
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_unwritable
from sagan.system.launch import run_on_gpus
from sagan.system.sentences import plural
from sagan.system.typed import fill, refuse_beyond
from sagan.system.world import World, joined

_MOST_IN_A_ROW = 10_000


@dataclass(frozen=True)
class SampleFlags:
    """Draw images from a trained generator, as numbered PNGs. An image depends only on the seed and its number."""

    run: Annotated[Path, Positional]
    """A run's folder, whose newest snapshot is used, a snapshot file, an exported folder, pretrained:faces64, which
    comes with the program, or hf:OWNER/NAME of the Hugging Face hub."""
    out: Path
    """A new or empty folder for the images; or a new file NAME.png, for one grid of them."""
    num: int = 64
    """The number of images."""
    grid: tuple[int, ...] | None = None
    """ROWS COLUMNS of the grid in --out NAME.png; then --num is their product. By default 8 images in a row."""
    seed: int = 0
    """The seed of the latents."""
    batch_size: int = 64
    """Images drawn at once; it only affects speed."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    gpus: int = 1
    """The number of GPUs of this machine that share the work, one process each."""
    step: int | None = None
    """Use the run's snapshot of this step."""
    label: str = ""
    """Draw only images of this class: its name or, if no class has this name, its number, counted from 0.
    By default the classes take turns. --class is the same flag."""
    truncation: float | None = None
    """The largest magnitude of an entry of a latent; those beyond it are drawn again. Smaller values, such as 0.7, give
    more typical and less diverse images. By default nothing is truncated."""

    def __post_init__(self) -> None:
        for name in ("num", "batch_size"):
            refuse_beyond(name, getattr(self, name), MOST_IMAGES)
        refuse_beyond("seed", self.seed)
        if self.grid is not None and not (
            len(self.grid) == 2 and 1 <= min(self.grid) <= max(self.grid) <= _MOST_IN_A_ROW
        ):
            raise UserError(f"`grid` must be rows and columns, each from 1 to {_MOST_IN_A_ROW:,}, got {self.grid}")


def sample(words: Sequence[str], console: Console) -> int:
    """Draw images from a trained generator."""
    with joined() as world:
        return _sample(words, console, world)


def _sample(words: Sequence[str], console: Console, world: World) -> int:
    words = class_as_label(words)
    given = read(SampleFlags, words, "sagan sample")
    flags = fill(SampleFlags, given)
    compare_flags(world, "sample", vars(flags))
    check_device(flags.device)
    if flags.gpus != 1 and world.size == 1:
        return run_on_gpus(flags.gpus, flags.device, ["sample", *words])
    from sagan.core.latents import check_truncation
    from sagan.data.sources.names import is_image
    from sagan.run.places import find_snapshot
    from sagan.run.weights import load_snapshot
    from sagan.system.devices import choose_device
    from sagan.viewing.samples import write_grid, write_samples

    as_grid = flags.out.suffix.lower() == ".png"
    if not as_grid and (is_image(flags.out.name) or flags.out.name.lower() == ".png"):
        raise UserError(f"a grid is a PNG with a name, such as {flags.out.with_name('grid.png')}, got {flags.out}")
    check_truncation(flags.truncation)
    number, columns = flags.num, 8
    if flags.grid is not None:
        rows, columns = flags.grid
        number = rows * columns
        if "num" in given and flags.num != number:
            raise UserError(f"a `grid` of {rows} by {columns} has {number} images, and `num` is {flags.num}: omit it")
        if not as_grid:
            raise UserError(f"a `grid` is one picture, such as {flags.out.with_name('grid.png')}, got {flags.out}")
    world.in_turn(lambda: refuse_unwritable(flags.out.parent if as_grid else flags.out, "--out"))
    path = world.in_turn(lambda: find_snapshot(flags.run, flags.step))  # one process may fetch it for the others
    snapshot = load_snapshot(path)
    names, count = snapshot.classes, snapshot.generator.num_classes
    label = class_number(flags.label, names, count) if flags.label else None
    if as_grid and not world.leads:
        return 0
    write = functools.partial(write_grid, columns=columns) if as_grid else functools.partial(write_samples, world=world)
    with console.progress("drawing images") as progress:
        write(
            snapshot.generator,
            flags.out,
            number,
            seed=flags.seed,
            batch_size=flags.batch_size,
            device=choose_device(flags.device),
            label=label,
            truncation=flags.truncation,
            progress=progress,
        )
    drawn = "" if label is None else f" of class {describe_class(label, names)}"
    console.say(
        f"{plural(number, 'image')}{drawn} in {flags.out}, of step {snapshot.step:,} ({path}), seed {flags.seed}"
        + ("" if flags.truncation is None else f", truncation {flags.truncation:g}")
    )
    if names and label is None:
        console.say(f"the classes take turns: {list_classes(names)}")
    return 0
