"""An LMDB of encoded images, as LSUN publishes it."""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from PIL import Image

from sagan.data.sources.contents import digest_file, file_stamp, refuse_changed
from sagan.data.sources.decode import FILES, MAX_BYTES, decode
from sagan.data.sources.names import short_name
from sagan.data.sources.room import hold
from sagan.data.sources.source import PerProcess, Source, unseen
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.files import open_regular
from sagan.system.sentences import plural

# Damaged pages make LMDB abort its process or read outside the file, so another process goes through all of it first:
# every key, and the first and last byte of what is found under it.
_LISTING = """
import json, os, sys, lmdb
environment = lmdb.open(sys.argv[1], subdir=sys.argv[2] == "folder", readonly=True, lock=False, readahead=False)
most = min(environment.stat()["entries"], os.path.getsize(sys.argv[3]) // 12)  # bytes that the smallest takes
end, size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"], os.path.getsize(sys.argv[3])
if size < end:
    sys.exit(f"truncated, {size:,} of {end:,} bytes")
keys = []
with environment.begin(buffers=True) as transaction:
    for key in transaction.cursor().iternext(values=False):
        value = transaction.get(bytes(key))
        ends = bytes(value[:1]), bytes(value[-1:])
        keys.append(bytes(key).hex())
        if len(keys) > most:
            sys.exit("it has more entries than it says, or can have")
print(json.dumps(keys))
"""


class LmdbSource(Source):
    """The encoded images of an LMDB as LSUN publishes it (``NAME_lmdb/data.mdb``), in the order of its keys.

    Needs the ``lmdb`` package (``pip install 'sagan-attention[data]'``, UserError without it). It is opened read-only
    and without a lock file, so the disk may be read-only.
    """

    def __init__(self, path: Path) -> None:
        self.path = self.place = path
        self.signature = file_stamp(data_file(path))
        self.size = data_file(path).stat().st_size
        self.keys = list_keys(path)
        if not self.keys:
            raise UserError(f"no images found in the LMDB {path}: it has no entries")
        self.environment = PerProcess(functools.partial(open_lmdb, path))
        self.description = f"{plural(len(self.keys), 'image')} in the LMDB {path}"

    def identify(self, progress: Progress = unseen) -> str:
        return f"{short_name(self.path)}:{digest_file(data_file(self.path), self.signature, progress)}"

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, index: int) -> str:
        return f"{self.path}:{self.name_within(index)}"

    def name_within(self, index: int) -> str:
        key = self.keys[index]
        return key.decode() if key.isascii() else key.hex()

    def read(self, index: int) -> Image.Image:
        if data_file(self.path).stat().st_size < self.size:  # reading what is gone would end the process
            raise OSError(errno.ESTALE, "the file became shorter while it was read", str(data_file(self.path)))
        environment = self.environment.get()
        try:
            with environment.begin(buffers=True) as transaction:
                found = transaction.get(self.keys[index], default=b"")
                if len(found) > MAX_BYTES:
                    raise UserError(f"it has {len(found):,} bytes, more than {MAX_BYTES:,}")
                hold(FILES, len(found))
                data = bytes(found)
        except Exception as error:  # lmdb.Error, from a damaged page
            if is_out_of_memory(error):
                raise
            _raise_trouble(str(error), self.path)
            refuse_changed(data_file(self.path), self.signature)
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        return decode(data, self.name(index), self.max_pixels)


def data_file(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path


_TROUBLE = [  # of the machine, which says nothing about the file
    errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EAGAIN,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENOTCONN, errno.ETIMEDOUT, errno.EROFS,
]  # fmt: skip
_DEATHS = {"SIGABRT", "SIGBUS", "SIGSEGV", "SIGFPE", "SIGILL", "SIGTRAP"}  # of a process that reads damaged pages


def _raise_trouble(text: str, path: Path) -> None:
    """Raises OSError where a sentence of LMDB ends with one of the system's about trouble of the machine."""
    for code in _TROUBLE:
        if text.endswith(os.strerror(code)):
            raise OSError(code, os.strerror(code), str(path))


def list_keys(path: Path) -> list[bytes]:
    """The keys of the LMDB, in order, found by another process. Raises UserError where that process found damage or
    died of it; OSError where it could not do its work."""
    if importlib.util.find_spec("lmdb") is None:
        raise UserError(f"reading the LMDB {path} needs the lmdb package: pip install 'sagan-attention[data]'")
    open_regular(data_file(path)).close()  # whose error is plainer than LMDB's
    # -P: else Python would run a json.py or lmdb.py in the present folder
    kind = "folder" if path.is_dir() else "file"
    command = [sys.executable, "-P", "-c", _LISTING, str(path), kind, str(data_file(path))]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise OSError(error.errno, f"the process that looks it through cannot start ({error})", str(path)) from error
    if done.returncode == 0:
        return [bytes.fromhex(key) for key in json.loads(done.stdout)]
    deaths = {int(number) for number in signal.Signals if number.name in _DEATHS}
    if done.returncode < 0 and -done.returncode not in deaths:
        ended = f"the process that looks it through was ended by signal {-done.returncode} (perhaps for its memory)"
        raise OSError(errno.EINTR, ended, str(path))
    told = done.stderr.decode(errors="replace").strip().splitlines()[-1:] if done.returncode > 0 else []
    why = told[0] if told else "reading it ends the process"
    _raise_trouble(why, path)
    raise UserError(f"{path} cannot be opened as an LMDB, it is damaged ({why}): copy or download it again")


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()  # lmdb opens a path once a process
_environments_lock = threading.Lock()


def open_lmdb(path: Path) -> Any:
    """The read-only LMDB environment at a folder or a file, shared by all sources of this process."""
    import lmdb

    with _environments_lock:
        key = os.path.realpath(path)
        environment = _environments.get(key)
        if environment is None:
            try:
                environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:  # it could be opened before
                _raise_trouble(str(error), path)
                raise OSError(errno.EIO, f"it can no longer be opened as an LMDB ({error})", str(path)) from error
            _environments[key] = environment
    return environment
