"""A store while it is being prepared: pixels, and a journal of how many of them are valid.

The journal records, chunk by chunk, how far the source has been read and the hash of all pixels up to there. Pixels
that it does not confirm are cut off before the preparation is resumed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sagan.core.shapes import ImageShape
from sagan.data.recipe import Prepared
from sagan.run.store import HEADER_BYTES, Remark, Skipped, StoreMeta, images_header, meta_file
from sagan.system.callbacks import Say
from sagan.system.errors import UserError
from sagan.system.files import flush_to_disk, is_regular, remove_partial_files, write_whole
from sagan.system.typed import Count, from_plain, parse_json, to_plain

CHUNK_IMAGES = 256  # per line of the journal: the most that an interruption can cost
CHUNK_BYTES = 32 * 2**20
JOURNAL = "journal.jsonl"
_LARGEST_JOURNAL, _LONGEST_LINE = 2**28, 2**22  # bytes that are read of it


@dataclass(frozen=True)
class Chunk:
    """A line of the journal. ``skipped``, ``unused`` and ``remarks`` are of this chunk, all else up to its end."""

    read: Count
    count: Count
    enlarged: Count
    skipped: tuple[Skipped, ...]
    unused: tuple[int, ...]
    sha256: str
    remarks: tuple[Remark, ...] = ()

    def follows(self, read: int, count: int) -> bool:
        """Whether this can be the line after one with these numbers: each image is in the store, or unused."""
        new = range(read, self.read)
        return (
            len(new) == self.count - count + len(self.unused)
            and count <= self.count
            and len(self.skipped) == len(self.unused)
            and all(index in new for index in self.unused)
        )


class Partial:
    """A store in preparation, in its own folder: ``images.npy`` with a count of 0, and ``journal.jsonl``.

    The journal's first line is the key of source and recipe; each later line confirms one chunk: the images ``read``
    from the source, the images in the store, those newly skipped and, as ``unused``, their indices in the source, and
    the SHA-256 of all pixels so far. Opening resumes after the last chunk whose pixels have that hash, or starts over
    if the key differs.
    """

    def __init__(self, folder: Path, key: dict[str, Any], shape: ImageShape, warn: Say) -> None:
        self.folder, self.shape = folder, shape
        self.read = self.count = self.enlarged = 0
        self.skipped: list[Skipped] = []
        self.unused: list[int] = []  # the indices of the skipped images in the source
        self.remarks: dict[str, Remark] = {}  # by their text
        self.hash = hashlib.sha256()
        self.chunk: list[Prepared] = []
        self.chunk_images = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // shape.numel))
        folder.mkdir(exist_ok=True)
        remove_partial_files(folder)
        (folder / "labels.npy").unlink(missing_ok=True)  # of a preparation that was stopped at its very end
        self.pixels = open_to_change(folder / "images.npy")
        self.journal = open_to_change(folder / JOURNAL)
        first = json.dumps(key).encode() + b"\n"
        found = io.BytesIO(self.journal.read(_LARGEST_JOURNAL) or b"")
        if (begun := found.readline()) and begun != first:
            warn(f"{folder} is of another source or recipe, or damaged: starting over")
            found = io.BytesIO()
        confirmed = self.recover(found)
        rewrite(self.journal, first, len(first) + confirmed)
        rewrite(self.pixels, images_header(0, shape), HEADER_BYTES + self.count * shape.numel)

    def recover(self, lines: Iterable[bytes]) -> int:
        """Takes over every chunk that these journal lines confirm. Returns the length of these lines in bytes."""
        good = 0
        self.pixels.seek(HEADER_BYTES)
        for line in lines:
            try:
                entry = from_plain(Chunk, parse_json(line, "the journal", _LONGEST_LINE), "the journal")
            except UserError:  # torn, damaged, or of another version
                break
            images = entry.count - self.count
            digest = self.hash.copy()
            if images > self.chunk_images or not entry.follows(self.read, self.count) or not line.endswith(b"\n"):
                break
            digest.update(self.pixels.read(images * self.shape.numel))
            if digest.hexdigest() != entry.sha256:
                break
            self.hash = digest
            self.read, self.count, self.enlarged = entry.read, entry.count, entry.enlarged
            self.skipped += entry.skipped
            self.unused += entry.unused
            merge(self.remarks, entry.remarks)
            good += len(line)
        return good

    def kept(self) -> list[int]:
        """The indices in the source of the images in the store."""
        unused = set(self.unused)
        return [index for index in range(self.read) if index not in unused]

    def add(self, image: Prepared) -> None:
        self.chunk.append(image)
        if image.pixels is None:
            self.skipped.append(Skipped(image.within, image.reason))
        if len(self.chunk) >= self.chunk_images:
            self.flush()

    def flush(self) -> None:
        """Writes the images added since the last call: first the pixels and, once they are on the disk, their line."""
        if not self.chunk:
            return
        made = [image.pixels for image in self.chunk if image.pixels is not None]
        pixels = b"".join(made)
        write_all(self.pixels, pixels)
        flush_to_disk(self.pixels.fileno(), self.folder)
        self.hash.update(pixels)
        unused = [index for index, image in enumerate(self.chunk, self.read) if image.pixels is None]
        self.unused += unused
        self.read += len(self.chunk)
        self.count += len(made)
        self.enlarged += sum(image.enlarged for image in self.chunk)
        skipped = tuple(self.skipped[len(self.skipped) - len(unused) :])
        remarks: dict[str, Remark] = {}
        merge(remarks, (Remark(text, 1, image.within) for image in self.chunk for text in image.remarks))
        merge(self.remarks, remarks.values())
        digest, noticed = self.hash.hexdigest(), tuple(remarks.values())
        entry = Chunk(self.read, self.count, self.enlarged, skipped, tuple(unused), digest, noticed)
        write_all(self.journal, json.dumps(to_plain(entry)).encode() + b"\n")
        flush_to_disk(self.journal.fileno(), self.folder)
        self.chunk = []

    def finish(self, folder: Path, meta: StoreMeta, labels: npt.NDArray[np.int64] | None) -> None:
        """Fills in the count, writes the labels (if any) and ``meta.json``, and renames the folder, which makes it a
        store."""
        self.pixels.seek(0)
        write_all(self.pixels, images_header(self.count, self.shape))
        flush_to_disk(self.pixels.fileno(), self.folder)
        self.close()
        if labels is not None:
            write_whole(self.folder / "labels.npy", lambda file: np.save(file, labels))
        write_whole(self.folder / "meta.json", lambda file: file.write(meta_file(meta)))
        self.folder.rename(folder)
        (folder / JOURNAL).unlink(missing_ok=True)  # another process may have found the store already

    def close(self) -> None:
        self.pixels.close()
        self.journal.close()


def merge(remarks: dict[str, Remark], more: Iterable[Remark]) -> None:
    """Adds to remarks by their text those of later images."""
    for remark in more:
        known = remarks.get(remark.text, replace(remark, count=0))
        remarks[remark.text] = replace(known, count=known.count + remark.count)


def open_to_change(path: Path) -> IO[bytes]:
    """The file for reading and writing, created if missing; unbuffered, so that closing it after a failed write does
    not fail again."""
    if path.exists() and not is_regular(path.stat()):
        raise UserError(f"{path} is not a file: delete the folder {path.parent} and start again")
    path.touch()
    return path.open("r+b", buffering=0)


def rewrite(file: IO[bytes], start: bytes, length: int) -> None:
    """Replaces the first bytes of a file and cuts it to ``length``, where writing continues."""
    file.seek(0)
    write_all(file, start)
    file.truncate(length)
    file.seek(length)


def write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
