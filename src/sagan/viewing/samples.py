"""Many images from a snapshot, written as numbered PNG files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from sagan.core.networks.interface import Generator
from sagan.core.sampling import numbered_images, numbered_latents
from sagan.data.sources.own import SOFTWARE, is_unused, mark_as_ours
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import open_regular, read_regular, remove_partial_files, write_whole
from sagan.system.images import grid, save_png
from sagan.system.world import SINGLE_PROCESS, World

_BEGUN = ".begun.json"
_SHOWN_AFTER = 5.0  # seconds
_END = b"IEND\xaeB\x60\x82"  # the last bytes of a PNG
_LARGEST_GRID = 2**30  # pixels, 3 GiB
_WAITING = 512  # images that are drawn before those not yet written are waited for


def write_samples(
    generator: Generator,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    label: int | None = None,
    truncation: float | None = None,
    name: Callable[[int], str] = "{:06d}.png".format,
    progress: Progress = lambda done, total: None,
    world: World = SINGLE_PROCESS,
) -> None:
    """Writes images 0 to count - 1 of a seed into a new or empty folder, without gaps. What a killed process began,
    the same call goes on with.

    Image i depends only on the generator, the seed and i; with another batch size it may differ by one grey level, as
    sums are rounded in another order. Classes come in turn, or all images are of the class ``label``. Raises UserError
    for a folder that is not empty, and for a class that does not exist. The processes of a ``world`` take the batches
    in turn.
    """
    _check(generator, count, seed, batch_size, label, truncation)
    what = [_digest(generator), count, seed, label, name(0), *([] if truncation is None else [truncation])]
    world.compare({"generator": what[0]})
    wanted = json.dumps(what).encode()
    world.in_turn(lambda: _make_folder(folder, wanted) if world.leads else _find_folder(folder, wanted))
    first = world.share(lambda: _first_missing(folder, name, count), "the first image")
    images = _draw(
        generator, range(first - first % batch_size, count), seed, batch_size, device, label, truncation, world
    )
    with ThreadPoolExecutor() as writers:
        waiting = []
        for number, image in images:
            waiting.append(writers.submit(save_png, image.permute(1, 2, 0).numpy(), folder / name(number)))
            if len(waiting) == _WAITING:
                for written in waiting:
                    written.result()
                waiting = []
            progress(number + 1, count)
        for written in waiting:
            written.result()
    world.gather(None, "the last image")  # all are there
    if world.leads:
        (folder / _BEGUN).unlink(missing_ok=True)


def write_grid(
    generator: Generator,
    path: Path,
    count: int,
    *,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    label: int | None = None,
    truncation: float | None = None,
    columns: int = 8,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes the images that `write_samples` writes as one picture, ``columns`` in a row, into a new file.

    Its metadata tell it from a person's images, so it is no training image. Raises UserError for a file that is there.
    """
    _check(generator, count, seed, batch_size, label, truncation)
    if path.exists():
        raise UserError(f"{path} is there already: give another `out`")
    pixels = count * generator.shape.height * generator.shape.width
    if pixels > _LARGEST_GRID:
        raise UserError(f"a grid of {count:,} images has {pixels:,} pixels, more than {_LARGEST_GRID:,}: draw fewer")
    images = []
    for number, image in _draw(generator, range(count), seed, batch_size, device, label, truncation):
        images.append(image)
        progress(number + 1, count)
    save_png(grid(torch.stack(images), columns=columns), path, software=SOFTWARE)


def _check(
    generator: Generator, count: int, seed: int, batch_size: int, label: int | None, truncation: float | None
) -> None:
    """Raises UserError for what cannot be drawn, before anything is made."""
    for what, number in (("num", count), ("batch_size", batch_size)):
        if number < 1:
            raise UserError(f"`{what}` must be 1 or more, got {number}")
    numbered_latents(generator, seed, range(1), label, truncation)


def _draw(
    generator: Generator,
    numbers: range,
    seed: int,
    batch_size: int,
    device: torch.device | str,
    label: int | None,
    truncation: float | None = None,
    world: World = SINGLE_PROCESS,
) -> Iterator[tuple[int, Tensor]]:
    """Images by number; the processes of a ``world`` take the batches in turn."""
    device = torch.device(device)
    generator = generator.to(device)
    for start in range(world.rank * batch_size, len(numbers), world.size * batch_size):
        some = numbers[start : start + batch_size]
        yield from numbered_images(
            generator, seed, some, device=device, batch_size=batch_size, label=label, truncation=truncation
        )


# ---- a folder that a killed process has begun


def refuse_finished(folder: Path) -> None:
    """Raises UserError for a folder with something in it, unless a process has begun to draw samples there."""
    if not is_unused(folder) and not (folder / _BEGUN).is_file():
        raise UserError(f"{folder} is not empty, and what is there is kept: rename it, or delete it to draw anew")


def _make_folder(folder: Path, wanted: bytes) -> None:
    """Makes the folder, with a file that says what will be in it, until it is. Raises UserError for one that is not
    empty, unless the file in it says the same."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: images need a new or empty folder")
    begun = folder / _BEGUN
    if begun.is_file() and read_regular(begun) == wanted:
        remove_partial_files(folder)
        return
    if not is_unused(folder):
        hint = "; the command that was stopped there goes on with its own" if begun.is_file() else ""
        raise UserError(
            f"{folder} is not empty, and samples of two generators would mix: images need an empty folder{hint}"
        )
    mark_as_ours(folder)
    remove_partial_files(folder)
    write_whole(begun, lambda file: file.write(wanted))


def _find_folder(folder: Path, wanted: bytes) -> None:
    """Raises UserError unless another process made the folder, on a disk that this one shares. Such a disk may show a
    file only after some seconds."""
    begun, until = folder / _BEGUN, time.monotonic() + _SHOWN_AFTER
    while not (begun.is_file() and read_regular(begun) == wanted):
        if time.monotonic() > until:
            raise UserError(f"{folder} is not the folder that rank 0 writes into: `out` must be one that all share")
        time.sleep(0.1)


def _first_missing(folder: Path, name: Callable[[int], str], count: int) -> int:
    """The number of the first image that is not there as a whole. All from its batch on are drawn again, so that the
    batches are those of a process that was not stopped."""
    return next((number for number in range(count) if not _is_whole(folder / name(number))), count)


def _is_whole(path: Path) -> bool:
    """Whether a PNG is there to its end: a power failure may tear it."""
    try:
        with open_regular(path) as file:
            file.seek(-len(_END), os.SEEK_END)
            return file.read(len(_END)) == _END
    except (OSError, UserError):  # there is none, or it is shorter
        return False


def _digest(generator: Generator) -> str:
    """Tells generators apart by their weights."""
    state = hashlib.sha256()
    for name, tensor in generator.state_dict().items():
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
