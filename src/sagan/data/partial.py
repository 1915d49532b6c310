"""The half-made store: pixels, and a journal that says how far they can be trusted.

The journal records, chunk by chunk, how far the source was read and the hash of all pixels up to there; what it does
not vouch for is cut off before going on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sagan.data.recipe import Prepared
from sagan.run.store import HEADER_BYTES, StoreMeta, image_bytes, images_header, meta_file
from sagan.system.callbacks import Say

CHUNK_IMAGES = 256  # journalled together: the most that an interruption can cost
CHUNK_BYTES = 32 * 2**20


class Partial:
    """The half-made store in a folder of its own: ``images.npy`` with a count of 0, and ``journal.jsonl``.

    The journal's first line is the key of source and recipe; each line after it vouches for one chunk: images of the
    source ``read``, images in the store, those newly skipped and, as ``unused``, their numbers in the source, and the
    SHA-256 of all pixels so far. Opening goes on from the last chunk whose pixels are there and have that hash, or
    starts clean when the key is another.
    """

    def __init__(self, folder: Path, key: dict[str, Any], size: int, warn: Say) -> None:
        self.folder, self.size = folder, size
        self.read = self.count = self.enlarged = 0
        self.skipped: list[dict[str, str]] = []
        self.unused: list[int] = []  # the numbers of the skipped images in the source
        self.hash = hashlib.sha256()
        self.chunk: list[Prepared] = []
        self.chunk_images = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // image_bytes(size)))
        folder.mkdir(exist_ok=True)
        (folder / "labels.npy").unlink(missing_ok=True)  # of who was stopped at the very end; finish writes ours
        self.pixels = open_to_change(folder / "images.npy")
        self.journal = open_to_change(folder / "journal.jsonl")
        first = json.dumps(key).encode() + b"\n"
        found = self.journal.read().splitlines(keepends=True)
        if found and found[0] != first:
            warn(f"{folder} is of another source or recipe, or damaged: starting over")
            found = []
        vouched = self.recover(found[1:])
        self.journal.seek(0)
        write_all(self.journal, first)
        cut(self.journal, len(first) + vouched)
        header = images_header(0, size)
        self.pixels.seek(0)
        write_all(self.pixels, header)
        cut(self.pixels, len(header) + self.count * image_bytes(size))

    def recover(self, lines: list[bytes]) -> int:
        """Take over every chunk that these journal lines vouch for; the number of bytes of the lines that held good."""
        good = 0
        self.pixels.seek(HEADER_BYTES)
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None or "unused" not in entry:  # as an earlier version left it
                break
            digest = self.hash.copy()
            digest.update(self.pixels.read((entry["count"] - self.count) * image_bytes(self.size)))
            if digest.hexdigest() != entry["sha256"]:
                break
            self.hash = digest
            self.read, self.count, self.enlarged = entry["read"], entry["count"], entry["enlarged"]
            self.skipped += entry["skipped"]
            self.unused += entry["unused"]
            good += len(line)
        return good

    def kept(self) -> list[int]:
        """The numbers in the source of the images in the store, in its order."""
        unused = set(self.unused)
        return [index for index in range(self.read) if index not in unused]

    def add(self, image: Prepared) -> None:
        self.chunk.append(image)
        if image.pixels is None:
            self.skipped.append({"name": image.name, "reason": image.reason})
        if len(self.chunk) >= self.chunk_images:
            self.flush()

    def flush(self) -> None:
        """Write the images added since the last time: first the pixels and, once they are safe, the journal's line."""
        if not self.chunk:
            return
        made = [image.pixels for image in self.chunk if image.pixels is not None]
        pixels = b"".join(made)
        write_all(self.pixels, pixels)
        os.fsync(self.pixels.fileno())
        self.hash.update(pixels)
        unused = [index for index, image in enumerate(self.chunk, self.read) if image.pixels is None]
        self.unused += unused
        self.read += len(self.chunk)
        self.count += len(made)
        self.enlarged += sum(image.enlarged for image in self.chunk)
        entry = {
            "read": self.read,
            "count": self.count,
            "enlarged": self.enlarged,
            "skipped": self.skipped[len(self.skipped) - len(unused) :],
            "unused": unused,
            "sha256": self.hash.hexdigest(),
        }
        write_all(self.journal, json.dumps(entry).encode() + b"\n")
        os.fsync(self.journal.fileno())
        self.chunk = []

    def finish(self, folder: Path, meta: StoreMeta, labels: npt.NDArray[np.int64] | None) -> None:
        """Fill in the count, write the labels (if any) and ``meta.json``, and give the folder its name: from here on it
        is a store."""
        self.pixels.seek(0)
        write_all(self.pixels, images_header(self.count, self.size))
        os.fsync(self.pixels.fileno())
        self.close()
        if labels is not None:
            write_new(self.folder / "labels.npy", array_file(labels))
        write_new(self.folder / "meta.json", meta_file(meta))
        self.folder.rename(folder)
        (folder / "journal.jsonl").unlink()

    def close(self) -> None:
        self.pixels.close()
        self.journal.close()


def open_to_change(path: Path) -> IO[bytes]:
    """The file for reading and writing, made if missing; unbuffered, so that closing after a failed write is quiet."""
    path.touch()
    return path.open("r+b", buffering=0)


def cut(file: IO[bytes], length: int) -> None:
    """Make ``length`` the end of the file and the place where writing goes on."""
    file.truncate(length)
    file.seek(length)


def write_new(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        write_all(file, data)
        os.fsync(file.fileno())


def array_file(array: npt.NDArray[np.int64]) -> bytes:
    """What ``numpy.save`` writes for the array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
