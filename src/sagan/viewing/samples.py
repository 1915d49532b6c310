"""Many images from a snapshot, written as numbered PNG files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from sagan.core.networks.interface import Generator
from sagan.core.sampling import numbered_images, numbered_latents
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.images import save_png

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
    name: Callable[[int], str] = "{:06d}.png".format,
    progress: Progress = lambda done, total: None,
) -> None:
    """Writes images 0 to count - 1 of a seed into a new or empty folder, without gaps.

    Image i depends only on the generator, the seed and i; with another batch size it may differ by one grey level, as
    sums are rounded in another order. Classes come in turn, or all images are of the class ``label``. Raises UserError
    for a folder that is not empty, and for a class that does not exist.
    """
    for what, number in (("num", count), ("batch_size", batch_size)):
        if number < 1:
            raise UserError(f"{what} must be 1 or more, got {number}")
    numbered_latents(generator, seed, range(1), label)  # refuses a class before a folder is made
    _make_empty_folder(folder)
    generator = generator.to(device)
    images = numbered_images(
        generator, seed, range(count), device=torch.device(device), batch_size=batch_size, label=label
    )
    with ThreadPoolExecutor() as writers:
        waiting = []
        for number, image in images:
            waiting.append(writers.submit(save_png, image.permute(1, 2, 0).numpy(), folder / name(number)))
            if len(waiting) == _WAITING or number == count - 1:
                for written in waiting:
                    written.result()
                waiting = []
            progress(number + 1, count)


def _make_empty_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: images need a new or empty folder")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and samples of two generators would mix: images need an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
