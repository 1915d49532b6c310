"""Files that other processes may read at any time: complete writes, and locks that are released with their process."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from sagan.system.console import Console
from sagan.system.errors import UserError

_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""How file systems, mostly those of a network, say that they have no locks, or cannot flush a file or a folder."""


def expand(path: str | os.PathLike[str]) -> Path:
    """A path as a person writes it, with ``~`` and ``~name`` as home folders. Raises UserError for an unknown user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        name = Path(path).parts[0]
        raise UserError(f"{path} cannot be expanded: {name} is not the home folder of a user here") from error


def is_regular(state: os.stat_result) -> bool:
    """Whether this is a file with an end: no folder, pipe or device, and none of the system's own, such as /proc/kmsg,
    which look like files."""
    return stat.S_ISREG(state.st_mode) and not is_of_the_system(state)


def is_of_the_system(state: os.stat_result) -> bool:
    """Whether a file or a folder is on no disk, but shows the state of the system."""
    return state.st_dev in _system_devices()


@functools.cache
def _system_devices() -> frozenset[int]:
    return frozenset(place.stat().st_dev for place in map(Path, ("/proc", "/sys", "/dev")) if place.is_mount())


def open_regular(path: Path, what: str = "file") -> BinaryIO:
    """A file, open for reading. Raises UserError for a folder, and for a pipe or a device, which would be waited for;
    OSError if it cannot be reached. ``what`` it should be, for the sentence."""
    try:
        file = open(os.fspath(path), "rb", opener=_open_at_once)  # noqa: SIM115 - a Path has no opener; it is returned
    except OSError:
        _refuse_special(path.stat(), path, what)
        raise
    try:  # of the open file: another may have its name by now
        _refuse_special(os.fstat(file.fileno()), path, what)
    except UserError:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    """A pipe is not waited for. Windows has none among its files."""
    return os.open(path, flags if sys.platform == "win32" else flags | os.O_NONBLOCK)


def _refuse_special(state: os.stat_result, path: Path, what: str) -> None:
    if not is_regular(state):
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind}, not a {what}")


LARGEST_FILE = 2**30  # bytes of a file that is read as a whole


def read_regular(path: Path, most: int = LARGEST_FILE, what: str = "file") -> bytes:
    """The bytes of a file, as many as it has when it is opened: files of the system, such as those in /proc, say 0 and
    may have no end. Raises UserError for more than ``most``, else as `open_regular`."""
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UserError(f"{path} has {size:,} bytes, more than the {most:,} that are read of such a file")
        return file.read(size)


def own_cache() -> Path:
    """``~/.cache/sagan``, or ``sagan`` in the folder that XDG_CACHE_HOME names; in a container whose user has no home,
    in the folder of temporary files."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return expand(named) / "sagan"
    try:
        return Path.home() / ".cache" / "sagan"
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"sagan-{os.getuid()}")


def write_whole(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Writes a file completely or not at all: at any moment, even after a crash, it is the old file or the new one.

    ``write`` fills a temporary file beside it, which is flushed to the disk (unless ``sync`` is false: then a power
    failure may lose it) and renamed. On an error, such as a full disk, the old file stays and the new one is removed.
    Several processes may write the same file at once: it is that of the last one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with partial.open("xb") as file:
            write(file)
            file.flush()
            if sync:
                flush_to_disk(file.fileno(), path)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(partial)):
            error.filename = str(path)  # that of a full disk names no file
        raise
    if sync:
        _sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write files into, which becomes ``folder`` at the end; on an error there is none.

    Raises UserError where there is something of this name already, unless it is an empty folder.
    """
    _refuse_taken(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(folder)
    try:
        partial.mkdir()
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    flush_to_disk(file.fileno(), path)
        _refuse_taken(folder)
        if folder.is_dir():
            folder.rmdir()  # where renaming does not replace an empty one
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_folder(folder.parent)


def _refuse_taken(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there already: give another `out`, or remove it")


def _partial(path: Path) -> Path:
    """A new name for a file that will become ``path``. No two writers use the same one."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def partial_files(folder: Path, of: str = "") -> list[Path]:
    """The unfinished files in a folder, by default those of any name: being written, or left by killed processes."""
    return [path for path in folder.glob(f".{glob.escape(of)}*.partial") if path.is_symlink() or path.is_file()]


def remove_partial_files(folder: Path, of: str = "") -> None:
    """Removes the unfinished files that killed processes left, where no other process writes files of these names."""
    for path in partial_files(folder, of):
        path.unlink(missing_ok=True)


def flush_to_disk(descriptor: int, path: Path) -> None:
    """Flushes an open file or folder, that at ``path``, to the disk. Warns once where the file system cannot do it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        _allow_unsupported(error, path, "cannot flush to the disk: a power failure may lose what was just written")


_warned: set[str] = set()


def _allow_unsupported(error: OSError, path: Path, lack: str) -> None:
    """Warns, once for each ``lack`` of file systems. Raises every other error."""
    if error.errno not in _UNSUPPORTED:
        raise error
    if lack not in _warned:
        _warned.add(lack)
        Console().warn(f"the file system of {path} {lack} ({error.strerror})")


def refuse_unwritable(folder: Path, name: str) -> None:
    """Raises UserError, with the ``name`` of what gave it, where a folder cannot be written to or made. Makes
    nothing."""
    place = expand(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{name} must be a folder, got {folder}: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{name} must be a folder that can be written to, got {folder}: {place} cannot")


def refuse_links_out(folder: Path, levels: int | None = None) -> None:
    """Raises UserError for a link in a folder that leads out of it: what is written there would land elsewhere. The
    folder itself may be a link. ``levels``: how deep to look; by default all the way."""
    root = folder.resolve()
    level, found = 0, [root] if root.is_dir() else []
    while found and (levels is None or level < levels):
        within: list[Path] = []
        for place in found:
            with os.scandir(place) as entries:
                for entry in entries:
                    if not entry.is_symlink():
                        within += [Path(entry.path)] if entry.is_dir(follow_symlinks=False) else []
                    elif not (target := Path(os.path.realpath(entry.path))).is_relative_to(root):
                        raise UserError(
                            f"{entry.path} is a link to {target}, where this program would write outside of {folder}: "
                            "put in its place what it leads to (the whole folder may be a link)"
                        )
        level, found = level + 1, within


def keep_as(path: Path, other: Path) -> None:
    """Keeps the present content of a file under another name too, replacing any file of that name; later writes to
    the file by `write_whole` do not change it."""
    partial = _partial(other)
    try:
        os.link(path, partial)
    except OSError:  # a file system without hard links
        write_whole(other, lambda file: shutil.copyfileobj(path.open("rb"), file))
        return
    partial.replace(other)
    partial.unlink(missing_ok=True)  # it stays if both were already names of one file


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and the rename is durable by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            flush_to_disk(descriptor, folder)
        finally:
            os.close(descriptor)


_PROBE = 0.2  # seconds: a lock that is taken for longer is held, not just tested by `is_held`


@contextlib.contextmanager
def exclusive_lock(path: Path, busy: Callable[[], object]) -> Iterator[None]:
    """Holds an exclusive lock, the file at ``path``, which the system releases when the process ends.

    If another process holds it, ``busy`` is called once: it raises to give up, or returns to wait. The file is removed
    afterwards. On a file system without locks it warns once, and nothing is held.
    """
    from filelock import FileLock, Timeout  # here, so that a command's help does not import it

    with contextlib.suppress(FileNotFoundError):
        if not is_regular(path.lstat()):
            raise UserError(f"{path} is a link, a folder, a pipe or a device, not a lock file: remove it")
    path.touch()  # filelock would create missing folders
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock outlives its process
    held: contextlib.AbstractContextManager[object]
    try:
        held = lock.acquire(timeout=_PROBE, poll_interval=0.01)
    except Timeout:
        busy()
        held = lock.acquire(poll_interval=0.1)
    except OSError as error:
        _allow_unsupported(error, path, "has no locks: do not let two processes work on one folder there")
        held = contextlib.nullcontext()
    with held:
        try:
            yield
        finally:  # removed while it is held: a process that locks a removed file tries again
            with contextlib.suppress(PermissionError, FileNotFoundError):  # Windows does not remove an open file
                path.unlink()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file at a path; one that a killed process left behind is not held.

    On POSIX this takes a shared lock, which filelock lacks, so that concurrent tests do not see each other, and delays
    a process that wants the lock only for a moment. On Windows the test itself holds the lock for a moment.
    """
    if sys.platform == "win32":
        from filelock import FileLock, Timeout

        try:
            with contextlib.suppress(PermissionError):
                if path.exists():
                    FileLock(path).acquire(timeout=_PROBE, poll_interval=0.01).lock.release()
        except Timeout:
            return True
        return False
    import fcntl

    try:
        file = open_regular(path)
    except (UserError, OSError):  # a loop of links, for one
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    return False


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    state = hashlib.sha256()
    with open_regular(path) as file:
        left = os.fstat(file.fileno()).st_size  # files of the system say 0 and may have no end
        try:
            while left and (some := file.read(min(left, 2**20))):
                state.update(some)
                left -= len(some)
        except OSError as error:
            error.filename = str(path)  # a failed read does not name it
            raise
    return state.hexdigest()
