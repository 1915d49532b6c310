"""Many images from a snapshot, written as numbered PNG files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from sagan.core.networks.interface import Generator
from sagan.core.sampling import numbered_images, numbered_latents
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.images import save_png

_WAITING = 512  # images that may wait to be written before drawing waits for the disk


def write_samples(
    generator: Generator,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    label: int | None = None,
    name: Callable[[int], str] = "{:06d}.png".format,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes images 0 to count - 1 of a seed into a new or empty folder, without gaps.

    Image i depends on the generator, the seed and i alone; on another batch size it may differ by one grey level, as
    sums are rounded in another order. Classes come in turn, or all are of the class ``label``. Raises UserError for a
    folder that already holds something, and for a class that there is not.
    """
    for what, number in (("num", count), ("batch_size", batch_size)):
        if number < 1:
            raise UserError(f"{what} must be 1 or more, got {number}")
    numbered_latents(generator, seed, range(1), label)  # a class that there is not is said before a folder is made
    _make_empty_folder(folder)
    generator = generator.to(device)
    images = numbered_images(
        generator, seed, range(count), device=torch.device(device), batch_size=batch_size, label=label
    )
    with ThreadPoolExecutor() as writers:
        waiting: list[Future[None]] = []
        for number, image in images:
            waiting.append(writers.submit(_write, image, folder / name(number)))
            if len(waiting) == _WAITING:
                waiting = _finish(waiting)
            progress(number + 1, count)
        _finish(waiting)


def _make_empty_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: images need a new or empty folder")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and samples of two generators would mix: images need an empty folder")
    folder.mkdir(parents=True, exist_ok=True)


def _write(image: Tensor, path: Path) -> None:
    save_png(image.permute(1, 2, 0).numpy(), path)


def _finish(waiting: list[Future[None]]) -> list[Future[None]]:
    for written in waiting:
        written.result()
    return []
