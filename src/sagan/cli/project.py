"""`sagan project`: the latents of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from sagan.cli.flags import class_as_label, parse
from sagan.run.config import check_device
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import refuse_unwritable
from sagan.system.sentences import plural
from sagan.system.typed import refuse_beyond

if TYPE_CHECKING:
    from torch import Tensor

    from sagan.core.networks.interface import Discriminator
    from sagan.run.weights import Snapshot

_REPRESENTED = 2  # times the error of samples, up to which a picture is one of the generator's
_NEGLIGIBLE = 1.0  # an error, in grey levels, that nobody sees
_REAL = "training images"
_COMPARED = 8  # training images and samples whose errors an error is compared with


@dataclass(frozen=True)
class ProjectFlags:
    """Find the latents whose images are nearest to pictures. Writes a sheet, a row for each picture: the picture, the
    nearest image, their difference; and the latents as CSV."""

    run: Annotated[Path, Positional]
    """A run's folder, a snapshot file, or another place that `sagan sample` takes."""
    images: Annotated[tuple[Path, ...], Positional]
    """Pictures: files, or a folder, a zip or another source of images. They are cropped and resized as the run's own
    images were."""
    out: Path
    """A new file NAME.png; the latents are written beside it, as NAME.csv."""
    step: int | None = None
    """Use the run's snapshot of this step."""
    starts: int = 4
    """Latents to start from; the best end is kept."""
    steps: int = 200
    """Steps of gradient descent."""
    seed: int = 0
    """The seed of the starts."""
    label: str = ""
    """The class of the pictures: its name or, if no class has this name, its number. Needed if there are classes.
    --class is the same flag."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        for name in ("starts", "steps"):
            refuse_beyond(name, getattr(self, name), 100_000)
        refuse_beyond("seed", self.seed)


def project(words: Sequence[str], console: Console) -> int:
    """The images of a generator that are nearest to pictures."""
    flags = parse(ProjectFlags, class_as_label(words), "sagan project")
    check_device(flags.device)
    import torch

    from sagan.data.sources.own import SOFTWARE
    from sagan.run.classes import class_number, list_classes
    from sagan.run.places import find_snapshot
    from sagan.run.weights import load_snapshot
    from sagan.system.devices import choose_device
    from sagan.system.images import grid, save_png
    from sagan.viewing.directions import write_latents
    from sagan.viewing.project import project as find_latents
    from sagan.viewing.project import read_pictures

    table = flags.out.with_suffix(".csv")
    if flags.out.suffix.lower() != ".png":
        raise UserError(f"`out` must be a PNG, such as {flags.out.with_name('projected.png')}, got {flags.out}")
    for path in (flags.out, table):
        if path.exists():
            raise UserError(f"{path} is there already: give another `out`, or remove it")
    refuse_unwritable(flags.out.parent, "--out")
    path = find_snapshot(flags.run, flags.step)
    snapshot = load_snapshot(path)
    classes = snapshot.generator.num_classes
    if classes and not flags.label:
        raise UserError(f"give the class of the pictures by `label`: {list_classes(snapshot.classes) or classes}")
    label = class_number(flags.label, snapshot.classes, classes) if flags.label else None
    names, pictures = read_pictures(flags.images, snapshot.config)
    known, compared = _compared(path, snapshot, label, flags.seed, console)
    targets = torch.cat([pictures, *compared.values()])
    labels = None if label is None else torch.full((len(targets),), label)
    judge = _judge(path, console)
    with console.progress(f"projecting {plural(len(pictures), 'picture')}, and {known} to compare with") as progress:
        found = find_latents(
            snapshot.generator,
            targets,
            labels=labels,
            judge=judge,
            starts=flags.starts,
            steps=flags.steps,
            seed=flags.seed,
            device=choose_device(flags.device),
            progress=progress,
        )
    count = len(pictures)
    usual = {}
    for name, images in compared.items():
        usual[name] = found.errors[count : count + len(images)].median().item()
        count += len(images)
    rows = [["picture", "error (grey levels)", *(f"median of {len(compared[name])} {name}" for name in usual)]]
    errors = found.errors[: len(pictures)].tolist()
    rows += [
        [name, f"{error:.1f}", *(f"{value:.1f}" for value in usual.values())]
        for name, error in zip(names, errors, strict=True)
    ]
    console.table(rows)
    for name, error in zip(names, errors, strict=True):
        least = max(usual["samples"], _NEGLIGIBLE)
        if error > _REPRESENTED * least:
            real = f"; that of training images is {usual[_REAL] / least:.1f} times" if _REAL in usual else ""
            times = f"{error / least:.1f} times that of the generator's samples{real}"
            console.say(f"{name} cannot be represented: its error is {times}")
    difference = (found.images[: len(pictures)].int() - pictures.int()).abs().to(torch.uint8)
    sheet = torch.stack([pictures, found.images[: len(pictures)], difference], 1).flatten(0, 1)
    save_png(grid(sheet, columns=3), flags.out, software=SOFTWARE)
    write_latents(table, names, found.z[: len(pictures)])
    console.say(f"{flags.out}: picture, nearest image, difference; the latents: {table}")
    return 0


def _compared(
    path: Path, snapshot: Snapshot, label: int | None, seed: int, console: Console
) -> tuple[str, dict[str, Tensor]]:
    """Samples of a snapshot at ``path`` and, where they are found, training images, of the same class, to compare
    errors with."""
    import torch

    from sagan.core.sampling import numbered_images
    from sagan.data import choose_source
    from sagan.run.folder import Run, owner
    from sagan.viewing.project import some_pictures

    drawn = numbered_images(snapshot.generator, seed, range(_COMPARED), device=torch.device("cpu"), label=label)
    compared = {"samples": torch.stack([image for _, image in drawn])}
    try:
        run = owner(path)
        config = snapshot.config if run is None else Run.open(run).config()  # a snapshot does not say where images are
        of_class = snapshot.classes[label] if label is not None and snapshot.classes else None
        source = choose_source(config.data, config.model.imsize, config.model.channels)
        compared[_REAL] = some_pictures(source, config, seed, _COMPARED, of_class)
    except (UserError, OSError) as error:
        console.say(f"no training images are compared: {error}")
    return " and ".join(f"{len(images)} {name}" for name, images in compared.items()), compared


def _judge(path: Path, console: Console) -> Discriminator | None:
    """The discriminator of the checkpoint of a snapshot's run, of whatever step, whose features are compared too, or
    None, said in a sentence."""
    from sagan.run.folder import Run, owner
    from sagan.run.weights import load_discriminator

    run = owner(path)
    if run is None or not Run(run).checkpoint_file.is_file():
        console.say(
            "only pixels are compared: features are those of a discriminator, and there is no checkpoint with one"
        )
        return None
    return load_discriminator(Run(run))[0]
