"""Files that others may look at meanwhile: written whole or not at all, and locks that end with their holder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Writes a file so that it is at any moment, whatever dies, either its old self or its whole new self.

    ``write`` fills an open file beside it, which is flushed to the disk (unless ``sync`` is false: then a power failure
    may lose it) and takes the name. On an error, such as a full disk, the old file stays and the new one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(partial)):
            error.filename = str(path)  # a full disk does not tell which file it was
        raise
    if sync:
        _sync_folder(path.parent)


def keep_as(path: Path, other: Path) -> None:
    """Gives what a file holds now another name too, in place of what had it; later writes to the file do not reach it
    there, if they are by `write_whole`."""
    partial = other.with_name(f".{other.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # a file system without links
        write_whole(other, lambda file: shutil.copyfileobj(path.open("rb"), file))
        return
    partial.replace(other)
    partial.unlink(missing_ok=True)  # which stays where both are names of one file already


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename is durable by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_WATCHED = 0.2  # seconds in which somebody who only looks whether a lock is held has let go of it


@contextlib.contextmanager
def alone(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file at ``path``; the system lets go of it when its holder dies.

    Where another process holds it, ``busy`` is called once: it raises to give up, or returns to wait.
    """
    while True:
        with path.open("ab") as file:
            if not _lock_soon(file):
                busy()
                while not lock(file):
                    time.sleep(0.1)
            if not _is_at(file, path):  # the holder before us removed it, and someone may hold a newer one
                continue
            try:
                yield
            finally:
                with contextlib.suppress(PermissionError, FileNotFoundError):  # Windows does not remove an open file
                    path.unlink()
            return


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file at a path; a file that a killed process left behind is held by none."""
    try:
        with path.open("rb+") as file:  # taken for a moment where it is free; a lock that is held is not disturbed
            return not _lock_soon(file, shared=True)
    except (FileNotFoundError, PermissionError):
        return False


def _lock_soon(file: IO[bytes], *, shared: bool = False) -> bool:
    """Takes a lock that is free, or held by somebody who only looks."""
    until = time.monotonic() + _WATCHED
    while not lock(file, shared=shared):
        if (shared and sys.platform != "win32") or time.monotonic() > until:  # lookers do not exclude each other
            return False
        time.sleep(0.01)
    return True


def lock(file: IO[bytes], *, shared: bool = False) -> bool:
    """Takes the lock of an open file if nobody else holds it; it is given back when the file is closed. A ``shared``
    one excludes only those that are not (Windows has none: there it is as the others)."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
