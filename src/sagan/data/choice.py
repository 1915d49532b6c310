"""The source and the recipe that settings specify, in one place for all callers."""

from __future__ import annotations

from pathlib import Path

from sagan.data.faces import FacesSource
from sagan.data.prepare import open_or_prepare
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from sagan.data.sources.places import PUBLISHED_CROPS, find_dataset
from sagan.data.sources.source import Source
from sagan.run.config import DataConfig
from sagan.run.store import Store
from sagan.system.console import Console
from sagan.system.files import expand

FACES = 10_000


def choose_source(data: DataConfig, size: int) -> Source:
    """The images that the settings specify: a data set, a path, or the drawn faces."""
    if data.dataset is None and data.data in (None, "faces"):
        return FacesSource(FACES, size)
    place = Path(str(data.data)) if data.dataset is None else find_dataset(data.dataset, Path(data.image_path))
    return open_source(place, max_pixels=data.max_pixels)


def choose_recipe(data: DataConfig, size: int) -> Recipe:
    """How images become ``size`` x ``size`` pixels; by default a published data set is cropped as published."""
    crop = PUBLISHED_CROPS.get(data.dataset or "", "square") if data.crop == "auto" else data.crop
    return Recipe(size, crop, data.filter)


def prepared_store(data: DataConfig, size: int, console: Console, source: Source | None = None) -> Store:
    """The prepared images that the settings specify. Prints a description and what was skipped.

    ``source``: the result of `choose_source`, if it was called before.
    """
    source = choose_source(data, size) if source is None else source
    for remark in source.remarks:
        console.warn(remark)
    recipe, root = choose_recipe(data, size), expand(data.prepared)
    try:
        with console.progress("preparing images") as progress:
            store = open_or_prepare(source, recipe, root, strict=data.strict, progress=progress, warn=console.warn)
    except KeyboardInterrupt as interruption:
        interruption.add_note("what is prepared is kept, and the same command resumes from there")
        raise
    except (FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError) as error:
        if error.filename is None or Path(error.filename).absolute().is_relative_to(root.absolute()):
            error.add_note(f"prepared images cannot be kept in {root}: give another folder as prepared")
        raise
    console.say(store.describe())
    return store
