"""How fast images are decoded when a data set is prepared, and loaded during training."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from sagan.bench.pace import batches_of
from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.timing import time_in_turns
from sagan.data import Recipe, Store, open_or_prepare, open_source
from sagan.data.prepare import cores
from sagan.system.callbacks import Progress

_PHOTO = 178, 218  # width and height, as CelebA's


def measure_loading(settings: BenchSettings, progress: Progress) -> Result:
    """Images a second: decoded from JPEG, cropped and resized by `prepare`, and sent to the device in batches."""
    count = max(64 if settings.quick else 512, settings.batch_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_photos(folder / "photos", count)
        source, numbers = open_source(folder / "photos"), itertools.count()

        def prepare() -> Store:
            return open_or_prepare(source, Recipe(settings.imsize), folder / f"prepared{next(numbers)}")

        batches = batches_of(prepare().images, settings.config(), settings.device)
        ways = {"prepare": prepare, "batches": lambda: batches.batch(next(numbers))}
        timings = time_in_turns(ways, settings.device, on_round=progress)
    return {
        "photos": count,
        "photo_size": list(_PHOTO),
        "threads": cores(),
        "prepare_seconds": timings["prepare"].to_dict(),
        "prepare_images_per_second": count / timings["prepare"].median,
        "batch_seconds": timings["batches"].to_dict(),
        "batch_images_per_second": settings.batch_size / timings["batches"].median,
        "notes": [],
    }


def _write_photos(folder: Path, count: int) -> None:
    """Smooth noise, whose JPEG files are about as large as those of photographs of faces."""
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (count, 28, 23, 3), np.uint8)
    for number, pixels in enumerate(coarse):
        Image.fromarray(pixels).resize(_PHOTO, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def loading_rows(result: Result) -> Rows:
    width, height = result["photo_size"]
    return [
        ["what", "images a second", "least s", "spread"],
        [f"prepare, {width}x{height} JPEG, {result['threads']} threads", *_cells(result, "prepare")],
        ["batches to the device", *_cells(result, "batch")],
    ]


def _cells(result: Result, what: str) -> list[str]:
    seconds = result[f"{what}_seconds"]
    return [f"{result[f'{what}_images_per_second']:,.0f}", f"{seconds['least']:.3g}", f"{seconds['spread']:.0%}"]
