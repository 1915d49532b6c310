"""`sagan walk` and `sagan film`: moving pictures."""

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
from sagan.system.sentences import plural
from sagan.system.typed import refuse_beyond

_MOST = 100_000
_HOLD = 2  # seconds that the end of a film stays


@dataclass(frozen=True)
class WalkFlags:
    """Walk through the latents of a trained generator: from the image of a seed to the next, and back to the first."""

    run: Annotated[Path, Positional]
    """A run's folder, a snapshot file, or another place that `sagan sample` takes."""
    out: Path
    """A new file: NAME.webp, NAME.gif, or NAME.mp4 (pip install 'sagan-attention[video]')."""
    step: int | None = None
    """Use the run's snapshot of this step."""
    seed: int = 0
    """The seed of the images on the way: the first ones of `sagan sample`."""
    seeds: int = 8
    """The number of images on the way."""
    frames: int = 24
    """Frames from an image to the next."""
    fps: float = 24.0
    """Frames a second."""
    label: str = ""
    """The class of all images: its name or, if no class has this name, its number. By default the first class.
    --class is the same flag."""
    truncation: float | None = None
    """The largest magnitude of an entry of a latent on the way."""
    beside: Path | None = None
    """Another run or snapshot, walking beside it through the same latents: span 0 beside span 3."""
    attention: tuple[int, ...] | None = None
    """Y X: a pixel of the picture; where it looks in the last attention layer is drawn as light."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        for name in ("seeds", "frames"):
            refuse_beyond(name, getattr(self, name), _MOST)
        refuse_beyond("seed", self.seed)
        if self.attention is not None and len(self.attention) != 2:
            raise UserError(f"`attention` must be two numbers, Y and X of a pixel, got {self.attention}")


def walk(words: Sequence[str], console: Console) -> int:
    """A film of a way through a generator's images."""
    flags = parse(WalkFlags, class_as_label(words), "sagan walk")
    check_device(flags.device)
    from sagan.run.classes import class_number
    from sagan.run.places import find_snapshot
    from sagan.run.weights import load_snapshot
    from sagan.system.devices import choose_device
    from sagan.viewing.animation import check_animation, write_animation
    from sagan.viewing.walks import Walk, class_in_each, walk_frames

    check_animation(flags.out, flags.fps)
    refuse_unwritable(flags.out.parent, "--out")
    snapshot = load_snapshot(find_snapshot(flags.run, flags.step))
    shown = [snapshot]
    if flags.beside is not None:
        shown.append(load_snapshot(find_snapshot(flags.beside)))
    generators = [each.generator for each in shown]
    label = class_number(flags.label, snapshot.classes, snapshot.generator.num_classes) if flags.label else None
    labels = class_in_each(shown, label)
    point = None if flags.attention is None else (flags.attention[0], flags.attention[1])
    way = Walk(flags.seed, flags.seeds, flags.frames, labels, flags.truncation, point)
    with console.progress("drawing frames") as progress:
        frames = walk_frames(generators, way, choose_device(flags.device), progress)
        count = write_animation(flags.out, frames, flags.fps)
    console.say(f"{flags.out}: {plural(count, 'frame')}, {count / flags.fps:.1f} s, of step {snapshot.step:,}")
    return 0


@dataclass(frozen=True)
class FilmFlags:
    """Show the training of a run as a film: the same latents in each of its snapshots."""

    run: Annotated[Path, Positional]
    """A run's folder."""
    out: Path
    """A new file: NAME.webp, NAME.gif, or NAME.mp4 (pip install 'sagan-attention[video]')."""
    num: int = 16
    """Images in a frame."""
    seed: int = 0
    """The seed of the images."""
    fps: float = 4.0
    """Snapshots a second."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        refuse_beyond("num", self.num, 10_000)
        refuse_beyond("seed", self.seed)
        if self.num < 1:
            raise UserError(f"`num` must be 1 or more, got {self.num}")


def film(words: Sequence[str], console: Console) -> int:
    """A film of a run's training, from its snapshots."""
    flags = parse(FilmFlags, words, "sagan film")
    check_device(flags.device)
    from sagan.run.folder import Run
    from sagan.system.devices import choose_device
    from sagan.viewing.animation import check_animation, write_animation
    from sagan.viewing.walks import film_frames

    check_animation(flags.out, flags.fps)
    refuse_unwritable(flags.out.parent, "--out")
    run = Run.open(flags.run)
    with console.progress("drawing snapshots") as progress:
        hold = max(1, round(_HOLD * flags.fps))
        frames = film_frames(run, flags.num, flags.seed, choose_device(flags.device), progress, hold=hold)
        count = write_animation(flags.out, frames, flags.fps)
    console.say(f"{flags.out}: {plural(count - hold + 1, 'snapshot')}, the last for {_HOLD} seconds")
    return 0
