"""An LMDB of encoded images, as LSUN publishes it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from PIL import Image

from sagan.data.sources.contents import digest_files, file_stamp
from sagan.data.sources.decode import FILES, MAX_BYTES, decode
from sagan.data.sources.names import short_name
from sagan.data.sources.room import hold
from sagan.data.sources.source import PerProcess, Source, unseen
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.sentences import plural

# Damaged pages make LMDB abort its process or read outside the file, so another process goes through all of it first:
# every key, and the first and last byte of what is found under it.
_LISTING = """
import json, os, sys, lmdb
environment = lmdb.open(sys.argv[1], subdir=sys.argv[2] == "folder", readonly=True, lock=False, readahead=False)
end, size = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"], os.path.getsize(sys.argv[3])
if size < end:
    sys.exit(f"truncated, {size:,} of {end:,} bytes")
keys = []
with environment.begin(buffers=True) as transaction:
    for key in transaction.cursor().iternext(values=False):
        value = transaction.get(bytes(key))
        ends = bytes(value[:1]), bytes(value[-1:])
        keys.append(bytes(key).hex())
        if len(keys) > environment.stat()["entries"]:
            sys.exit("it has more entries than it says")
print(json.dumps(keys))
"""


class LmdbSource(Source):
    """The encoded images of an LMDB as LSUN publishes it (``NAME_lmdb/data.mdb``), in the order of its keys.

    Needs the ``lmdb`` package (``pip install 'sagan[data]'``, UserError without it). It is opened read-only and without
    a lock file, so the disk may be read-only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = list_keys(path)
        if not self.keys:
            raise UserError(f"no images found in the LMDB {path}: it has no entries")
        self.environment = PerProcess(functools.partial(open_lmdb, path))
        self.description = f"{plural(len(self.keys), 'image')} in the LMDB {path}"
        self.signature = file_stamp(data_file(path))

    def identify(self, progress: Progress = unseen) -> str:
        return f"{short_name(self.path)}:{digest_files([('', data_file(self.path))], (), progress)}"

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, index: int) -> str:
        return f"{self.path}:{self.name_within(index)}"

    def name_within(self, index: int) -> str:
        key = self.keys[index]
        return key.decode() if key.isascii() else key.hex()

    def read(self, index: int) -> Image.Image:
        try:
            with self.environment.get().begin(buffers=True) as transaction:
                found = transaction.get(self.keys[index], default=b"")
                if len(found) > MAX_BYTES:
                    raise UserError(f"it has {len(found):,} bytes, more than {MAX_BYTES:,}")
                hold(FILES, len(found))
                data = bytes(found)
        except Exception as error:  # lmdb.Error, from a damaged page
            if is_out_of_memory(error):
                raise
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        return decode(data, self.name(index), self.max_pixels)


def data_file(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path


def list_keys(path: Path) -> list[bytes]:
    """The keys of the LMDB, in order, found by another process. Raises UserError where that process failed or died."""
    if importlib.util.find_spec("lmdb") is None:
        raise UserError(f"reading the LMDB {path} needs the lmdb package: pip install 'sagan[data]'")
    command = [sys.executable, "-c", _LISTING, str(path), "folder" if path.is_dir() else "file", data_file(path)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return [bytes.fromhex(key) for key in json.loads(done.stdout)]
    told = done.stderr.decode(errors="replace").strip().splitlines()[-1:] if done.returncode > 0 else []
    why = told[0] if told else "reading it ends the process"
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
            except lmdb.Error as error:
                raise UserError(f"{path} cannot be opened as an LMDB: {error}") from error
            _environments[key] = environment
    return environment
