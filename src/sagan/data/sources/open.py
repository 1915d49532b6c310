"""The source that reads a path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from sagan.data.sources.array import ArraySource
from sagan.data.sources.decode import MAX_PIXELS
from sagan.data.sources.folder import FolderSource
from sagan.data.sources.lmdb import LmdbSource
from sagan.data.sources.names import is_image
from sagan.data.sources.source import Source
from sagan.data.sources.splits import ALL, AUTO, choose_splits
from sagan.data.sources.stored import StoreSource
from sagan.data.sources.zip import ZipSource
from sagan.run.store import is_store
from sagan.system.errors import UserError
from sagan.system.files import expand, is_regular


def open_source(path: str | os.PathLike[str], *, split: str = AUTO, max_pixels: int = MAX_PIXELS) -> Source:
    """The source at ``path``: a folder of images, a prepared store, a folder holding ``data.mdb``, a zip, a ``.mdb``
    or a ``.npy``. Of a data set that is divided into splits, ``split`` is taken: see `choose_splits`.

    Images of more than ``max_pixels`` count as damaged. Raises UserError, with what was found and what to do, for a
    path that is missing, empty or anything else.
    """
    path = expand(path)
    if not path.exists():
        raise UserError(missing(path))
    try:
        source = _open(path, split)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed read does not name it
        raise
    except MemoryError as error:
        error.add_note(f"it ran out while {path} was opened")
        raise
    source.max_pixels = max_pixels
    return source


def _open(path: Path, split: str) -> Source:
    if is_store(path) or (path / "data.mdb").is_file() or (path.name == "data.mdb" and path.is_file()):
        source = StoreSource(path) if is_store(path) else LmdbSource(path.parent if path.is_file() else path)
        return _undivided(source, split)
    if path.is_dir():
        return FolderSource(path, split)
    opener = OPENERS.get(path.suffix.lower())
    if opener is None or not is_regular(path.stat()):  # a pipe would be waited for, and a device has no end
        raise UserError(not_a_source(path))
    return opener(path, split)


def _undivided(source: Source, split: str) -> Source:
    """A source that has no splits. Raises UserError where one was asked for, unless its images were chosen before."""
    if isinstance(source, StoreSource) and split not in (AUTO, ALL):
        said = f"{source.place} holds images that are prepared already: `split` {split} chooses none of them"
        source.remarks = (*source.remarks, said)
    else:
        choose_splits({}, split, str(source.place))
    return source


Opener = Callable[[Path, str], Source]
OPENERS: dict[str, Opener] = {
    ".zip": ZipSource,
    ".npy": lambda path, split: _undivided(ArraySource(path), split),
    ".mdb": lambda path, split: _undivided(LmdbSource(path), split),
    ".lmdb": lambda path, split: _undivided(LmdbSource(path), split),
}


def missing(path: Path) -> str:
    """The sentence for a path that does not exist, with the nearest existing name in its last existing folder."""
    folder, name = path.parent, path.name
    while not folder.exists() and folder != folder.parent:
        folder, name = folder.parent, folder.name
    siblings = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    lowered = {sibling.lower(): sibling for sibling in sorted(siblings, reverse=True)}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    hint = f": did you mean {folder / lowered[near[0]]}?" if near else f": {folder} has no {name!r}"
    return f"{path} does not exist{hint}"


def not_a_source(path: Path) -> str:
    if not is_regular(path.stat()):
        return f"{path} is a pipe or a device, not a file"
    if is_image(path.name):
        return f"{path} is one image: give the folder of your images"
    return f"{path} is not a folder of images, a zip, an LMDB (data.mdb) or a .npy array"
