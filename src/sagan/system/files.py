"""Files that other processes may read meanwhile: written whole or not at all, and locks that end with their holder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


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


_WATCHED = 0.2  # seconds after which a lock that is still taken is held, and not only looked at


@contextlib.contextmanager
def alone(path: Path, busy: Callable[[], object]) -> Iterator[None]:
    """Holds an exclusive lock, the file at ``path``, which the system releases when the process ends.

    Where another process holds it, ``busy`` is called once: it raises to give up, or returns to wait. The file is
    removed afterwards.
    """
    from filelock import FileLock, Timeout  # here, because a command's help needs none

    path.touch()  # filelock would make missing folders
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock outlives its process
    try:
        held = lock.acquire(timeout=_WATCHED, poll_interval=0.01)
    except Timeout:
        busy()
        held = lock.acquire(poll_interval=0.1)
    with held:
        try:
            yield
        finally:  # while it is held: whoever gets the lock of a removed file tries again
            with contextlib.suppress(PermissionError, FileNotFoundError):  # Windows does not remove an open file
                path.unlink()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file at a path; a file that a killed process left behind is held by none.

    On POSIX this takes a shared lock, which filelock does not have: those who look do not exclude each other, and one
    who begins meanwhile gets the lock in a moment. On Windows they do for a moment.
    """
    if sys.platform == "win32":
        from filelock import FileLock, Timeout

        try:
            with contextlib.suppress(PermissionError):
                if path.exists():
                    FileLock(path).acquire(timeout=_WATCHED, poll_interval=0.01).lock.release()
        except Timeout:
            return True
        return False
    import fcntl

    try:
        file = path.open("rb")
    except (FileNotFoundError, PermissionError):
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
    return False


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
