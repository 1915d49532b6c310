"""The source that reads a path."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

from sagan.data.sources.array import ArraySource
from sagan.data.sources.cifar import is_cifar, open_cifar, open_cifar_file, refuse_pickles
from sagan.data.sources.decode import MAX_PIXELS
from sagan.data.sources.folder import FolderSource, walk
from sagan.data.sources.hub import fetch_dataset, on_the_hub
from sagan.data.sources.idx import is_idx, open_idx, open_idx_file
from sagan.data.sources.lmdb import LmdbSource
from sagan.data.sources.names import is_image
from sagan.data.sources.npz import open_npz
from sagan.data.sources.parquet import ParquetSource
from sagan.data.sources.shards import Files
from sagan.data.sources.source import Source
from sagan.data.sources.splits import ALL, AUTO, choose_splits
from sagan.data.sources.stored import StoreSource
from sagan.data.sources.tar import TarSource
from sagan.data.sources.zip import ZipSource
from sagan.run.store import is_store
from sagan.system.errors import UserError
from sagan.system.files import expand, is_regular


def open_source(path: str | os.PathLike[str], *, split: str = AUTO, max_pixels: int = MAX_PIXELS) -> Source:
    """The source at ``path``: a prepared store; a folder of images, or of files of many images; one such file (a zip,
    tar, parquet, LMDB, ``.npy``, ``.npz``, idx or CIFAR's); or ``hf:OWNER/NAME``, a data set on the Hugging Face hub.
    Of a data set that is divided into splits, ``split`` is taken: see `choose_splits`.

    Images of more than ``max_pixels`` count as damaged. Raises UserError, with what was found and what to do, for a
    path that is missing, empty or anything else.
    """
    name = on_the_hub(Path(path).as_posix())
    path = fetch_dataset(name) if name else expand(path)
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
        return _open_folder(path, split)
    opener = OPENERS.get(path.suffix.lower()) or next((one for suits, one in NAMED if suits(path.name)), None)
    if opener is None or not is_regular(path.stat()):  # a pipe would be waited for, and a device has no end
        raise UserError(not_a_source(path))
    return opener(path, split)


def _open_folder(path: Path, split: str) -> Source:
    """A folder of images or, where it has none, of files that hold many each."""
    found = walk(path)
    shards = {name: [file for file in found.files if suits(file)] for name, (suits, _) in FOLDERS.items()}
    shards = {name: files for name, files in shards.items() if files}
    if found.root_is or not shards or any(map(is_image, found.files)):
        refuse_pickles(path, [] if any(map(is_image, found.files)) else found.files)
        source = FolderSource(path, split, found)
        said = (f"{path} also holds {', '.join(shards)}, which are not read: name them to use them",) if shards else ()
        source.remarks = (*source.remarks, *said)
        return source
    if len(shards) > 1:
        raise UserError(f"{path} holds {' and '.join(shards)}: name the folder of one of these kinds")
    ((name, files),) = shards.items()
    return FOLDERS[name][1](path, {file: path / file for file in files}, split)


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
    ".npz": open_npz,
    ".parquet": lambda path, split: ParquetSource(path, {"": path}, split),
    ".tar": lambda path, split: TarSource(path, {"": path}, split),
    ".npy": lambda path, split: _undivided(ArraySource(path), split),
    ".mdb": lambda path, split: _undivided(LmdbSource(path), split),
    ".lmdb": lambda path, split: _undivided(LmdbSource(path), split),
}


NAMED: list[tuple[Callable[[str], bool], Opener]] = [(is_idx, open_idx_file), (is_cifar, open_cifar_file)]
FOLDERS: dict[str, tuple[Callable[[str], bool], Callable[[Path, Files, str], Source]]] = {
    "parquet files": (lambda name: name.lower().endswith(".parquet"), ParquetSource),
    "tars": (lambda name: name.lower().endswith(".tar"), TarSource),
    "idx files": (is_idx, open_idx),
    "files of CIFAR": (is_cifar, open_cifar),
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
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".gz")):
        return f"{path} is compressed: unpack it first, and name what it holds"
    refuse_pickles(path, [path.name])
    return f"{path} is not a folder of images, {KINDS}"


KINDS = "a zip, tar, parquet, LMDB (data.mdb), .npy, .npz, or a file of MNIST (idx) or CIFAR (binary)"
