"""Which images these are, told by their bytes: names, sizes and times can be the same for different files."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sagan.data.sources.names import digest
from sagan.system.callbacks import Progress
from sagan.system.files import file_sha256

_READERS = 8  # threads: small files on a distant disk are waited for
_AT_ONCE = 256


def stamp(state: os.stat_result) -> str:
    """What changes whenever a file does, on one machine: no program can set back its time of change."""
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino} {state.st_dev}"


def file_stamp(path: Path) -> str:
    """The digest of a file's place and stamp."""
    return digest([os.path.realpath(path), stamp(path.stat())])


def digest_file(path: Path, stamped: str, progress: Progress) -> str:
    """The digest of one file's bytes. Raises OSError if the file is not the one with this `file_stamp`."""
    found = digest(hash_files([("", path)], progress))
    refuse_changed(path, stamped)
    return found


def refuse_changed(path: Path, stamped: str) -> None:
    """Raises OSError if a file is not the one with this `file_stamp`: then what fails in it says nothing about it."""
    if file_stamp(path) != stamped:
        raise OSError(errno.ESTALE, "the file changed while it was read", str(path))


def hash_files(files: Sequence[tuple[str, Path | None]], progress: Progress) -> list[str]:
    """A line for each file, its name and the hash of its bytes, in this order. A file that is None has no bytes."""
    lines: list[str] = []
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(files), _AT_ONCE):
            some = files[start : start + _AT_ONCE]
            hashes = readers.map(lambda file: "" if file[1] is None else file_sha256(file[1]), some)
            lines += [f"{name} {sha256}" for (name, _), sha256 in zip(some, hashes, strict=True)]
            progress(len(lines), len(files))
    return lines
