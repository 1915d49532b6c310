"""The files of MNIST and of its kind: idx, perhaps packed by gzip."""

from __future__ import annotations

import functools
import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np

from sagan.data.sources.packed import Block, Labels, PackedSource, joined, numbered, refuse_many_labels
from sagan.data.sources.shards import Files, in_order
from sagan.data.sources.source import PerProcess
from sagan.data.sources.splits import choose_splits, split_of
from sagan.data.sources.stream import GZIP, Bytes, InflatedBytes, PlainBytes
from sagan.system.errors import UserError
from sagan.system.files import open_regular

_IDX = re.compile(r"(?P<set>.*?)[-_.]?(?P<what>images|labels)[-_.]idx(?P<sides>[1-4])[-_.]ubyte(\.gz)?", re.IGNORECASE)
_SETS = {"t10k": "test"}


def is_idx(name: str) -> bool:
    """Whether a file has the name of images or labels such as MNIST's."""
    return _IDX.fullmatch(name.rpartition("/")[2]) is not None


def open_idx(place: Path, files: Files, split: str) -> PackedSource:
    """The images of files in the format of MNIST, idx, perhaps packed by gzip, with the labels beside them."""
    found: dict[tuple[str, str], str] = {}  # the file of a set and of what it holds, the one that is not packed first
    for name in sorted(files, key=lambda name: (name.lower().endswith(".gz"), name)):
        match = cast("re.Match[str]", _IDX.fullmatch(name.rpartition("/")[2]))
        found.setdefault((name[: name.rfind("/") + 1] + match["set"], match["what"].lower()), name)
    sets = {of: _idx_split(of) for of, what in found if what == "images"}
    if not sets:
        raise UserError(f"{place} holds labels, and no images: name the folder with both, or the file of images")
    several = [split for split, count in Counter(sets.values()).items() if count > 1]
    if several:
        raise UserError(f"{place} holds several sets ({', '.join(sorted(sets))}): name the file of the images of one")
    counts = {part: _idx_header(files[found[of, "images"]])[0][0] for of, part in sets.items()}
    taken, said = choose_splits({} if "" in counts else counts, split, str(place))
    chosen = [of for of, part in sets.items() if not taken or part in taken]
    blocks, labels = [], []
    for of in chosen:
        blocks.append(block := _idx_block(files, found[of, "images"]))
        labels.append(_idx_labels(files, found.get((of, "labels")), block))
    names = [name for of in chosen for name in (found[of, "images"], found.get((of, "labels"))) if name is not None]
    return PackedSource(place, in_order({name: files[name] for name in names}), blocks, joined(labels), [], said)


def open_idx_file(path: Path, split: str) -> PackedSource:
    """One file of images, with the labels beside it."""
    match = cast("re.Match[str]", _IDX.fullmatch(path.name))
    if match["what"].lower() == "labels":
        raise UserError(f"{path} holds labels: name the file of the images, or the folder with both")
    choose_splits({}, split, str(path))
    files = {path.name: path}
    for ending in (".gz", ""):  # the labels may be packed where the images are not, and the other way
        name = re.sub("idx[1-4]", "idx1", path.name.removesuffix(".gz").replace("images", "labels")) + ending
        if (beside := path.with_name(name)).is_file():
            files[name] = beside
    return open_idx(path, files, "all")


def _idx_split(of: str) -> str:
    words = [word for word in re.split(r"[-_./]", of.lower()) if word]
    found = [_SETS.get(word) or split_of(word) for word in words]
    return next((split for split in reversed(found) if split), "")


def _idx_header(path: Path) -> tuple[tuple[int, ...], int, PerProcess[Bytes]]:
    """The shape of the bytes of an idx file, where they start, and they. Raises UserError unless it is as long as it
    says."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(max(0, size - 8))
            end = file.read(8)
        opened = PerProcess[Bytes](functools.partial(PlainBytes, path))
        if packed:
            crc, unpacked = int.from_bytes(end[:4], "little"), int.from_bytes(end[4:], "little")
            head = InflatedBytes(path, 0, size, unpacked, crc, GZIP).at(0, min(unpacked, 20))
        else:
            head, unpacked = opened.get().at(0, min(size, 20)), size
        sides = head[3] if len(head) > 3 else 0
        start = 4 + 4 * sides
        if head[:3] != b"\0\0\x08" or not 1 <= sides <= 4 or len(head) < start:
            raise UserError("it does not begin like an idx file of bytes")
        shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, start, 4))
        whole = start + math.prod(shape)
        if packed:
            opened = PerProcess[Bytes](functools.partial(InflatedBytes, path, 0, size, whole, crc, GZIP))
        if unpacked != (whole % 2**32 if packed else whole):
            raise UserError(f"it is cut short or not packed as one, of shape {shape}")
        opened.get()  # which refuses what cannot be in so few bytes
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return shape, start, opened


def _idx_block(files: Files, name: str) -> Block:
    shape, start, opened = _idx_header(files[name])
    if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
        raise UserError(f"{files[name]} must hold images of shape (count, height, width), got {shape}")
    count, height, width, *channels = shape
    depth = channels[0] if channels else 1
    return Block(name, name, opened, start, height * width * depth, count, (height, width, depth))


def _idx_labels(files: Files, name: str | None, images: Block) -> Labels:
    if name is None:
        return Labels(None, why_none=f"there is no file of labels beside {images.name}")
    shape, start, opened = _idx_header(files[name])
    if shape != (images.count,):
        raise UserError(f"{files[name]} has labels of shape {shape}, and {images.name} has {images.count:,} images")
    refuse_many_labels(images.count, images.count, str(files[name]))
    try:
        values = opened.get().at(start, images.count)
    except UserError as error:
        raise UserError(f"{files[name]} cannot be read: {error}") from error
    return numbered(np.frombuffer(values, np.uint8), str(files[name]))
