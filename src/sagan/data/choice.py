"""The source and the recipe that settings specify, in one place for all callers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sagan.core.shapes import CHANNELS, ImageShape
from sagan.data.faces import FacesSource
from sagan.data.prepare import open_or_prepare, settle_identity
from sagan.data.recipe import Recipe
from sagan.data.sources.folder import FolderSource
from sagan.data.sources.open import open_source
from sagan.data.sources.own import MARK
from sagan.data.sources.places import PUBLISHED_CROPS, find_dataset
from sagan.data.sources.source import Source
from sagan.data.sources.stored import StoreSource
from sagan.run.config import AnyChannels, DataConfig
from sagan.run.store import Store, is_store
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import expand

FACES = 10_000


def choose_source(data: DataConfig, size: int | str, channels: AnyChannels = CHANNELS) -> Source:
    """The images that the settings specify: a data set, a path, or drawn faces, squares as large as the longer side.
    Raises UserError for a prepared store whose images are not as the settings want them."""
    if data.dataset is None and data.data in (None, "faces"):
        shape = ImageShape.of(size)
        return FacesSource(FACES, max(shape.height, shape.width))
    source = open_source(_place(data), split=data.split, max_pixels=data.max_pixels)
    if isinstance(source, StoreSource):
        source.served(size, data.crop, data.filter, channels, data.range)
    if source.ours:
        raise UserError(
            f"{source.place} holds {source.ours} of sagan, not images to train on: give other images (or remove "
            f"{MARK} from that folder, if you want to train on what a generator drew)"
        )
    return source


def _place(data: DataConfig) -> Path:
    if data.dataset is None:
        return Path(str(data.data))
    place = expand(data.image_path)
    return place if is_store(place) else find_dataset(data.dataset, place)


def choose_recipe(data: DataConfig, size: int | str, channels: AnyChannels = CHANNELS) -> Recipe:
    """How images become those of a size; by default a published data set is cropped as published."""
    crop = PUBLISHED_CROPS.get(data.dataset or "", "fill") if data.crop == "auto" else data.crop
    return Recipe(size, crop, data.filter, channels, data.values)


def prepared_store(
    data: DataConfig,
    size: int | str,
    console: Console,
    source: Source | None = None,
    outputs: Sequence[str | Path | None] = (),
    channels: AnyChannels = CHANNELS,
) -> Store:
    """The prepared images that the settings specify. Prints a description and what was skipped.

    ``source``: the result of `choose_source`, if it was called before. ``outputs``: where more will be written; what
    of it lies in the folder of the images is named. ``channels``: 1, 3 or 4, or "auto" for what the images need.
    """
    source = choose_source(data, size, channels) if source is None else source
    for remark in source.remarks:
        console.warn(remark)
    root = expand(data.prepared)
    if isinstance(source, FolderSource) and (sentence := outputs_inside(source.root, [*outputs, root])):
        console.say(sentence)
    if isinstance(source, StoreSource):
        with console.progress("looking the prepared images through") as progress:
            settle_identity(source, root, progress)
        store = source.served(size, data.crop, data.filter, channels, data.range)
        console.say(store.describe())
        return store
    recipe = choose_recipe(data, size, channels)
    try:
        with console.progress("preparing images") as progress:
            store = open_or_prepare(source, recipe, root, strict=data.strict, progress=progress, warn=console.warn)
    except KeyboardInterrupt as interruption:
        interruption.add_note("what is prepared is kept, and the same command resumes from there")
        raise
    except (FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError) as error:
        if error.filename is None or Path(error.filename).absolute().is_relative_to(root.absolute()):
            error.add_note(f"prepared images cannot be kept in {root}: give another folder as `prepared`")
        raise
    console.say(store.describe())
    return store


def outputs_inside(images: Path, outputs: Sequence[str | Path | None]) -> str:
    """A sentence that names the folders for output that lie inside a folder of images, "" where none does."""
    root = expand(images).resolve()
    places = [expand(output).resolve() for output in outputs if output is not None]
    inside = list(dict.fromkeys(str(place.relative_to(root)) for place in places if place.is_relative_to(root)))
    if not inside:
        return ""
    listed = f"{', '.join(inside[:-1])} and {inside[-1]} lie" if len(inside) > 1 else f"{inside[0]} lies"
    what = "what is written there is" if len(inside) == 1 else "what is written to them is"
    return f"{listed} inside the folder of the images, {images}: {what} left out of the images"
