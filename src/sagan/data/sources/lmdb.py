"""An LMDB of encoded images, as LSUN publishes it."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from pathlib import Path
from typing import Any

from PIL import Image

from sagan.data.sources.decode import decode
from sagan.data.sources.names import digest, plural, short_name
from sagan.data.sources.source import PerProcess, Source
from sagan.system.errors import UserError


class LmdbSource(Source):
    """The encoded images of an LMDB as LSUN publishes it (``NAME_lmdb/data.mdb``), in the order of its keys.

    Needs the ``lmdb`` package (``pip install 'sagan[data]'``, UserError without it). It is opened read-only and without
    a lock file, so the disk may be read-only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = PerProcess(functools.partial(open_lmdb, path))
        self.keys: list[bytes] = []
        stamps = [str((path / "data.mdb" if path.is_dir() else path).stat().st_mtime_ns)]
        with self.environment.get().begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                self.keys.append(bytes(key))
                stamps.append(f"{bytes(key).hex()} {len(value)}")
        if not self.keys:
            raise UserError(f"no images found in the LMDB {path}: it has no entries")
        self.description = f"{plural(len(self.keys), 'image')} in the LMDB {path}"
        self.identity = f"{short_name(path)}:{digest(stamps)}"

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, index: int) -> str:
        key = self.keys[index]
        return f"{self.path}:{key.decode() if key.isascii() else key.hex()}"

    def read(self, index: int) -> Image.Image:
        try:
            with self.environment.get().begin() as transaction:
                data = transaction.get(self.keys[index])
        except Exception as error:  # lmdb.Error, from a damaged page
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        return decode(data, self.name(index))


_environments: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()  # lmdb opens a path once a process
_environments_lock = threading.Lock()


def open_lmdb(path: Path) -> Any:
    """The read-only LMDB environment at a folder or a file, shared by all sources of this process."""
    try:
        import lmdb
    except ImportError as error:
        raise UserError(f"reading the LMDB {path} needs the lmdb package: pip install 'sagan[data]'") from error
    with _environments_lock:
        key = os.path.realpath(path)
        environment = _environments.get(key)
        if environment is None:
            try:
                environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise UserError(f"{path} cannot be opened as an LMDB: {error}") from error
            end = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            size = (path / "data.mdb" if path.is_dir() else path).stat().st_size
            if size < end:  # reading past the end of a mapped file would kill the process
                raise UserError(f"the LMDB {path} is truncated ({size:,} of {end:,} bytes): copy or download it again")
            _environments[key] = environment
    return environment
