"""Arrays of images and labels in a ``.npz``, packed or not."""

from __future__ import annotations

import functools
import io
import math
import os
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sagan.data.sources.packed import Block, Labels, PackedSource, joined, numbered, refuse_many_labels
from sagan.data.sources.source import PerProcess
from sagan.data.sources.splits import choose_splits, split_of
from sagan.data.sources.stream import Bytes, InflatedBytes, PlainBytes
from sagan.data.sources.zip import open_zip
from sagan.system.errors import UserError
from sagan.system.files import open_regular
from sagan.system.typed import shorten

_LONGEST_HEADER = 2**14  # bytes of an array's header

_IMAGES, _LABELS = {"images", "image", "imgs", "x", "data"}, {"labels", "label", "y", "targets", "target"}
_UNNAMED = {"arr_0": "images", "arr_1": "labels"}


@dataclass(frozen=True)
class _Array:
    name: str
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    start: int
    bytes: PerProcess[Bytes]


def open_npz(path: Path, split: str) -> PackedSource:
    """The arrays of a ``.npz``: images, uint8 of shape (count, height, width) or (count, height, width, channels), and
    labels, if there are any; for each split, as in ``x_train`` and ``test_images``."""
    archive = open_zip(path)
    members = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist() if name.endswith(".npy")}
    parts = {name: part for name in members if (part := _part(name))}
    images = {part[0]: name for name, part in parts.items() if part[1] == "images"}
    if not images:
        listed = shorten(", ".join(members)) if members else "nothing"
        raise UserError(f"{path} has no array named images, x or data (it holds {listed}): save it with one")
    wanted = [name for name, (part, _) in parts.items() if part in images]
    arrays = {name: _open_array(path, members[name], name) for name in wanted}
    counts = {part: arrays[name].shape[0] for part, name in images.items() if arrays[name].shape}
    taken, said = choose_splits({} if "" in counts else counts, split, str(path))
    chosen = [part for part in images if part in taken] if taken else list(images)
    blocks = [_image_block(path, arrays[images[part]]) for part in chosen]
    found = {part: name for name, (part, what) in parts.items() if what == "labels"}
    pairs = zip(chosen, blocks, strict=True)
    labels = [_array_labels(path, arrays.get(found.get(part, "")), block) for part, block in pairs]
    lines = [f"split {', '.join(chosen)}"] if len(chosen) < len(images) else []
    return PackedSource(path, {"": path}, blocks, joined(labels), lines, said)


def _part(name: str) -> tuple[str, str] | None:
    """The split of an array and what it holds, by its name; None for any other."""
    words = [word for word in _UNNAMED.get(name, name.lower()).split("_") if word]
    what = ["images" if word in _IMAGES else "labels" for word in words if word in _IMAGES | _LABELS]
    splits = [split_of(word) for word in words if split_of(word)]
    if len(what) != 1 or len(splits) != len(words) - 1 or len(splits) > 1:
        return None
    return (splits[0] if splits else ""), what[0]


def _open_array(path: Path, member: zipfile.ZipInfo, name: str) -> _Array:
    """Where the numbers of an array are, and which. Raises UserError unless it is whole as far as its header tells."""
    try:
        opened = PerProcess(_opener(path, member))
        data = opened.get()
        head = data.at(0, 12)
        if head[:6] != b"\x93NUMPY" or head[6] not in (1, 2, 3):
            raise UserError("it is no array of numpy")
        long = head[6] > 1
        length = int.from_bytes(head[8:12] if long else head[8:10], "little")
        if length > _LONGEST_HEADER:
            raise UserError("its header is too long")
        start = (12 if long else 10) + length
        shape, by_column, kind = _parse_header(length, data.at(start - length, length))
    except UserError as error:
        raise UserError(f"{path}:{name} cannot be read: {error}") from error
    if (by_column and len(shape) > 1) or kind.hasobject:
        raise UserError(
            f"{path}:{name} is stored by column or holds objects: save it as numpy.ascontiguousarray makes it"
        )
    if start + math.prod(shape) * kind.itemsize != member.file_size:
        raise UserError(f"{path}:{name} is not complete (its shape is {shape}): save it again with numpy.savez")
    return _Array(name, shape, kind, start, opened)


def _parse_header(length: int, text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    header = io.BytesIO(length.to_bytes(4, "little") + text)
    try:
        with warnings.catch_warnings():  # of a file that Python 2 wrote
            warnings.simplefilter("ignore")
            shape, by_column, kind = np.lib.format.read_array_header_2_0(header, max_header_size=_LONGEST_HEADER)
    except Exception as error:  # a header that lies makes numpy raise nearly anything
        raise UserError(f"its header is damaged ({str(error).partition(chr(10))[0][:200]})") from error
    if not all(type(side) is int and 0 <= side < 2**48 for side in shape):
        raise UserError(f"its shape is {shorten(shape)}")
    return shape, bool(by_column), kind


def _opener(path: Path, member: zipfile.ZipInfo) -> Callable[[], Bytes]:
    """Opens the bytes of a member of a zip. Raises UserError unless they are stored or deflated within the file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(member.header_offset if 0 <= member.header_offset < size else size)
        head = file.read(30)
    if head[:4] != b"PK\3\4" or member.flag_bits & 1:
        raise UserError("it is not where the directory of the zip says, or encrypted")
    start = member.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if start + member.compress_size > size:
        raise UserError("it would end behind the end of the file")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size:
        return functools.partial(PlainBytes, path, start)
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return functools.partial(InflatedBytes, path, start, member.compress_size, member.file_size, member.CRC)
    raise UserError(f"it is compressed by method {member.compress_type}, which is not read here")


def _image_block(path: Path, array: _Array) -> Block:
    shape = array.shape if len(array.shape) == 4 else (*array.shape, 1)
    if array.kind != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3, 4) or 0 in shape:
        first = len(array.shape) == 4 and array.shape[1] in (1, 3, 4)
        hint = "; this looks like channels first: save images.transpose(0, 2, 3, 1)" if first else ""
        raise UserError(
            f"{path}:{array.name} must hold uint8 images of shape (count, height, width) or (count, height, width, "
            f"channels) with 1, 3 or 4 channels, got {array.kind} of shape {array.shape}{hint}"
        )
    count, height, width, channels = shape
    stride = height * width * channels
    return Block("", array.name, array.bytes, array.start, stride, count, (height, width, channels))


def _array_labels(path: Path, array: _Array | None, images: Block) -> Labels:
    if array is None:
        return Labels(None, why_none=f"{path} has no array of labels for {images.name}")
    where = f"{path}:{array.name}"
    if not array.shape or array.shape[0] != images.count:
        raise UserError(f"{where} has the shape {array.shape}, and {images.name} has {images.count:,} images")
    size = math.prod(array.shape) * array.kind.itemsize
    if array.kind.kind not in "iubU" or len(array.shape) > 2 or not size:
        return Labels(None, why_none=f"{where} holds {array.kind} of shape {array.shape}, not a class for each image")
    refuse_many_labels(images.count, size, where)
    try:
        data = array.bytes.get().at(array.start, size)
    except UserError as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    values = np.frombuffer(data, array.kind).reshape(images.count, -1)
    if values.shape[1] == 1:
        return numbered(values[:, 0], where)
    if array.kind.kind != "U" and ((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all():
        return numbered(values.argmax(1), where)
    return Labels(None, why_none=f"{where} has several labels for an image, not one class")
