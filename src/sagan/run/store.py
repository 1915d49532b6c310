"""The prepared store: a folder of ``images.npy`` (uint8, memory-mapped), ``meta.json`` (their description) and, if the
images have classes, ``labels.npy``. ``names.json`` tells a person which image is which."""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sagan.core.shapes import ImageShape
from sagan.run.classes import list_classes
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError
from sagan.system.files import LARGEST_FILE, open_regular
from sagan.system.sentences import plural
from sagan.system.typed import Count, check_format, from_plain, read_json, shorten, to_plain

FORMAT = 1  # raised whenever an older program could not read a store, or would misread it
PIXELS = {1: "uint8 NHWC grey", 3: "uint8 NHWC RGB", 4: "uint8 NHWC RGBA"}  # by their channels; alpha is straight
IMAGES = "images.npy"
NAMES = "names.json"  # of the images within their source, in their order
HEADER_BYTES = 128  # of images.npy, whatever the count, so that the count can be filled in at the end
AGAIN = "delete the folder and prepare it again"
LARGEST_SIZE = 65_536
_LARGEST_META = 2**26  # bytes of meta.json, which names each image that could not be used


@dataclass(frozen=True)
class Skipped:
    """An image of the source that could not be used."""

    name: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """What was noticed about images that could be used: how many, and the first."""

    text: str
    count: Count
    first: str

    def __str__(self) -> str:
        return f"{plural(self.count, 'image')}: {self.text}; the first: {self.first}"


@dataclass(frozen=True, kw_only=True)
class StoreMeta:
    """The content of ``meta.json``: what a store holds and where it came from."""

    identity: str
    """Of the source: it changes whenever images are added, removed or changed."""
    size: int | str
    """Of every image: 64, or "64x96" for height x width."""
    crop: str
    filter: str
    range: tuple[int, ...] | None = None
    """The values of 16-bit images that became black and white; None: 0 and 65535."""
    source: str
    """A phrase for a person."""
    source_count: int | None = None
    drawn_faces: bool | None = None
    """Whether the images are those of `sagan.data.faces`; None if an earlier version did not record it."""
    count: int
    channels: int
    pixels: str
    enlarged: Count = 0
    skipped: tuple[Skipped, ...]
    remarks: tuple[Remark, ...] = ()
    decoder: str | None = None
    sha256: str
    """Of the bytes of all pixels."""
    classes: tuple[str, ...] | None = None
    """The names of the classes, by number; None without classes."""

    def __post_init__(self) -> None:
        shape = ImageShape.of(self.size, self.channels)
        if self.size != shape.size or max(shape.height, shape.width) > LARGEST_SIZE:
            raise UserError(f"size must be up to {LARGEST_SIZE:,}, or such as 64x96, got {shorten(self.size)}")
        if self.count < 1:
            raise UserError(f"count must be 1 or more, got {self.count}")
        if PIXELS.get(self.channels) != self.pixels:
            allowed = " or ".join(PIXELS.values())
            raise UserError(f"its pixels must be {allowed}, got {self.channels} channels of {shorten(self.pixels)}")
        if self.range is not None and (len(self.range) != 2 or not 0 <= self.range[0] < self.range[1] <= 65535):
            raise UserError(f"range must be two values from 0 to 65535, got {shorten(self.range)}")
        if re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise UserError(f"sha256 must be 64 hexadecimal digits, got {shorten(self.sha256)}")

    @property
    def shape(self) -> ImageShape:
        """The shape of every image."""
        return ImageShape.of(self.size, self.channels)


@dataclass(frozen=True, eq=False)
class Store:
    """A prepared data set: ``images`` of shape (count, height, width, channels), uint8, read from the disk as they
    are needed.

    ``hash`` is the SHA-256 of the pixel bytes, so stores with equal hashes hold equal images (their classes may
    differ). ``labels`` is the class of each image, int64 of shape (count,), an index into ``classes``; None if the
    images have no classes, and ``no_classes`` gives the reason.
    """

    folder: Path
    images: npt.NDArray[np.uint8]
    meta: StoreMeta
    labels: npt.NDArray[np.int64] | None = None
    no_classes: str = ""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Store:
        """The store in ``folder``. Raises UserError, with what is wrong and what to do, unless it is complete."""
        folder = Path(folder)
        meta = _read_meta(folder)
        images, labels = _map_images(folder, meta), _map_labels(folder, meta)
        missing = "the store has no labels: the images have no classes, or an earlier version prepared it"
        return cls(folder, images, meta, labels, missing if labels is None else "")

    @property
    def count(self) -> int:
        return self.meta.count

    @property
    def size(self) -> int | str:
        """Of every image: 64, or "64x96" for height x width."""
        return self.meta.size

    @property
    def shape(self) -> ImageShape:
        """The shape of every image."""
        return self.meta.shape

    @property
    def hash(self) -> str:
        return self.meta.sha256

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images of the source that could not be used."""
        return self.meta.skipped

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by number, each of which has an image; empty without classes."""
        return self.meta.classes or ()

    def names(self) -> list[str] | None:
        """The name of each image within its source; None in a store of an earlier version. Raises UserError if the
        file is damaged."""
        path = self.folder / NAMES
        if not path.is_file():
            return None
        names = read_json(path, min(LARGEST_FILE, 2**10 * (self.count + 1)))
        if not isinstance(names, list) or len(names) != self.count or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path} is damaged (it does not name {self.count:,} images): {AGAIN}")
        return names

    def verify(self, progress: Progress) -> None:
        """Reads all pixels. Raises UserError unless they are those that were prepared."""
        state, done, total = hashlib.sha256(), 0, self.images.nbytes
        with open_regular(self.folder / IMAGES) as file:
            file.seek(HEADER_BYTES)
            while some := file.read(min(2**20, total - done)):
                state.update(some)
                done += len(some)
                progress(done * self.count // total, self.count)
        if state.hexdigest() != self.hash:
            raise UserError(f"{self.folder / IMAGES} is damaged (its pixels are not those that were prepared): {AGAIN}")

    def needed_labels(self) -> npt.NDArray[np.int64]:
        """``labels``. Raises UserError with the reason if there are none."""
        if self.labels is None:
            raise UserError(f"the classes of {self.meta.source} are unknown: {self.no_classes}")
        return self.labels

    def numbered_as(self, classes: Sequence[str]) -> Store:
        """The same images with their classes numbered in another order. Nothing is written."""
        number = {name: i for i, name in enumerate(classes)}
        renumbered = np.array([number[name] for name in self.classes], dtype=np.int64)
        labels = renumbered[self.needed_labels()]
        return replace(self, meta=replace(self.meta, classes=tuple(classes)), labels=labels)

    def describe(self) -> str:
        """One phrase: the number of images, their kind, size, classes (if several), source and crop, the range of
        16-bit values where it is not the full one, and how many were skipped or enlarged."""
        how = f"{crop_label(self.meta.crop)}, {self.meta.filter}"
        if self.meta.range is not None:
            how += f", 16-bit values from {self.meta.range[0]:,} as black to {self.meta.range[1]:,} as white"
        several = len(self.classes) > 1
        classes = f" in {len(self.classes):,} classes ({list_classes(self.classes)})" if several else ""
        images = plural(self.count, {1: "grey image", 3: "image", 4: "transparent image"}[self.meta.channels])
        text = f"{images} of {self.shape}{classes} from {self.meta.source} ({how})"
        if self.skipped:
            text += f", {len(self.skipped):,} skipped"
        if self.meta.enlarged:
            text += f", {self.meta.enlarged:,} enlarged from smaller ones"
        return text


def is_store(folder: Path) -> bool:
    """Whether a folder is a store, perhaps a damaged one; other folders may hold a ``meta.json``, too."""
    return (folder / "meta.json").is_file() and (folder / "images.npy").is_file()


def crop_label(crop: str) -> str:
    """A recipe's crop in words."""
    if crop.startswith("pad"):
        return f"padded with {crop.partition(':')[2] or 'black, or transparent'}"
    known = {"square": "centre square", "squash": "squashed to a square", "fill": "centre, as large as fits"}
    return known.get(crop, f"centre {crop} pixels")


def _read_meta(folder: Path) -> StoreMeta:
    """The content of ``meta.json``, every field checked. Raises UserError if it is damaged, or of a newer version."""
    if not folder.is_dir():
        raise UserError(f"there is no prepared store at {folder}")
    path = folder / "meta.json"
    if not path.exists():
        raise UserError(f"{folder} is not a prepared store: it has no meta.json")
    try:
        values = read_json(path, _LARGEST_META)
        if not isinstance(values, dict) or "format" not in values:
            raise UserError(f"{path} was not written by a preparation of images: it has no format number")
        check_format(values.pop("format"), FORMAT, str(path))
        return from_plain(StoreMeta, values, str(path))
    except UserError as error:
        raise UserError(f"{error}: {AGAIN}") from error


def meta_file(meta: StoreMeta) -> bytes:
    """The content of ``meta.json``."""
    return json.dumps({"format": FORMAT} | to_plain(meta), indent=1).encode() + b"\n"


def _map_images(folder: Path, meta: StoreMeta) -> npt.NDArray[np.uint8]:
    what = f"{plural(meta.count, 'image')} of {meta.shape}"
    return _map_array(folder / "images.npy", "|u1", (meta.count, *meta.shape.hwc), what)


def _map_labels(folder: Path, meta: StoreMeta) -> npt.NDArray[np.int64] | None:
    """None for a store without classes."""
    if meta.classes is None:
        return None
    labels, classes = _map_array(folder / "labels.npy", "<i8", (meta.count,), plural(meta.count, "label")), meta.classes
    if not 0 <= labels.min() <= labels.max() < len(classes):
        path = folder / "labels.npy"
        raise UserError(f"{path} is damaged (a label is not one of the {plural(len(classes), 'class')}): {AGAIN}")
    return labels


def _map_array(path: Path, kind: str, shape: tuple[int, ...], what: str) -> npt.NDArray[Any]:
    """A ``.npy`` file as a read-only memory map. Raises UserError unless it has exactly this type, shape and size."""
    if not path.is_file():
        raise UserError(f"{path.parent} is damaged (it has no {path.name}): {AGAIN}")
    header = _array_header(kind, shape)
    expected = len(header) + math.prod(shape) * np.dtype(kind).itemsize
    with open_regular(path) as file:
        if file.read(len(header)) != header:
            raise UserError(f"{path} is damaged (it is not {what}): {AGAIN}")
        found = os.fstat(file.fileno()).st_size
        if found != expected:
            raise UserError(f"{path} is damaged (it has {found:,} bytes instead of {expected:,}): {AGAIN}")
        return np.memmap(file, dtype=kind, mode="r", offset=len(header), shape=shape)


def refuse_cut(images: npt.NDArray[np.uint8]) -> None:
    """Raises UserError where the file of a memory map has become shorter than the map since it was opened: reading the
    part that is gone would end the process. Does nothing for other arrays."""
    mapped = images.base
    if isinstance(images, np.memmap) and isinstance(mapped, mmap.mmap):
        found, expected = mapped.size(), images.offset + images.nbytes
        if found < expected:
            raise UserError(
                f"{images.filename} was cut while it was read (it has {found:,} bytes instead of {expected:,}): {AGAIN}"
            )


def images_header(count: int, shape: ImageShape) -> bytes:
    """The header of ``images.npy``: uint8 of shape (count, height, width, channels). Always HEADER_BYTES long."""
    header = _array_header("|u1", (count, *shape.hwc))
    assert len(header) == HEADER_BYTES, "numpy pads headers of four dimensions to 128 bytes"
    return header


def _array_header(kind: str, shape: tuple[int, ...]) -> bytes:
    """The header that ``numpy.save`` writes for an array (format 1.0)."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    return header.getvalue()
