"""The prepared store: a folder of ``images.npy`` (uint8, memory-mapped), ``meta.json`` (what they are) and, when the
images have classes, ``labels.npy``."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sagan.core.shapes import CHANNELS, ImageShape
from sagan.system.errors import UserError
from sagan.system.typed import check_format, from_plain, read_json, shorten, to_plain

FORMAT = 1  # raised whenever an older program could not read a store, or would read it wrongly
PIXELS = "uint8 NHWC RGB"
HEADER_BYTES = 128  # of images.npy, whatever the count, so that the count can be filled in at the end
_LARGEST_SIZE = 65_536
NO_LABELS = "the store has no labels, which is so when the images had no classes or an earlier version prepared it"


@dataclass(frozen=True)
class Skipped:
    """An image of the source that could not be used."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class StoreMeta:
    """What a store holds and where it came from, as ``meta.json`` keeps it."""

    identity: str
    """Of the source: it changes whenever images are added, removed or changed."""
    size: int
    """Height and width of every image, in pixels."""
    crop: str
    filter: str
    source: str
    """A phrase for a person."""
    source_count: int | None = None
    drawn_faces: bool | None = None
    """Whether they are those of `sagan.data.faces`; None where an earlier version did not say."""
    count: int
    channels: int
    pixels: str
    enlarged: int = 0
    skipped: tuple[Skipped, ...]
    decoder: str | None = None
    sha256: str
    """Of the bytes of all pixels."""
    classes: tuple[str, ...] | None = None
    """The names of the classes, by their number; None where the images have none."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST_SIZE:
            raise UserError(f"size must be from 1 to {_LARGEST_SIZE:,}, got {self.size}")
        if self.count < 1 or self.enlarged < 0:
            raise UserError(f"count must be 1 or more and enlarged 0 or more, got {self.count} and {self.enlarged}")
        if (self.channels, self.pixels) != (CHANNELS, PIXELS):
            raise UserError(f"its pixels must be {PIXELS}, got {self.channels} channels of {shorten(self.pixels)}")
        if re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise UserError(f"sha256 must be 64 hexadecimal digits, got {shorten(self.sha256)}")


@dataclass(frozen=True, eq=False)
class Store:
    """A prepared data set: ``images`` of shape (count, size, size, 3), uint8, read from the disk as they are needed.

    ``hash`` is the SHA-256 of the pixel bytes, so equal hash is equal images
    (it says nothing of their classes). ``labels`` is the class of each image, int64 of shape (count,), a number into
    ``classes``; None when the images have no classes, and ``no_classes`` says why.
    """

    folder: Path
    images: npt.NDArray[np.uint8]
    meta: StoreMeta
    labels: npt.NDArray[np.int64] | None = None
    no_classes: str = ""

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Store:
        """The store in ``folder``. Raises UserError, saying what is wrong and what to do, unless it is whole."""
        folder = Path(folder)
        meta = read_meta(folder)
        labels = map_labels(folder, meta)
        return cls(folder, map_images(folder, meta), meta, labels, NO_LABELS if labels is None else "")

    @property
    def count(self) -> int:
        return self.meta.count

    @property
    def size(self) -> int:
        """Height and width of every image, in pixels."""
        return self.meta.size

    @property
    def shape(self) -> ImageShape:
        """The shape of every image."""
        return ImageShape.square(self.size)

    @property
    def hash(self) -> str:
        return self.meta.sha256

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images of the source that could not be used."""
        return self.meta.skipped

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted, each with one image or more; empty when the images have none."""
        return self.meta.classes or ()

    def needed_labels(self) -> npt.NDArray[np.int64]:
        """``labels``, for training that cannot do without. Raises UserError, saying why, when there are none."""
        if self.labels is None:
            raise UserError(f"no classes are known of {self.meta.source}: {self.no_classes}")
        return self.labels

    def describe(self) -> str:
        """One phrase: how many images, of what size, in how many classes (if several), from where, how cropped, how
        many left out or enlarged."""
        how = f"{crop_label(self.meta.crop)}, {self.meta.filter}"
        images = "image" if self.count == 1 else "images"
        classes = f" in {len(self.classes):,} classes" if len(self.classes) > 1 else ""
        if 1 < len(self.classes) <= _NAMED:
            classes += f" ({', '.join(f'{number} {name}' for number, name in enumerate(self.classes))})"
        text = f"{self.count:,} {images} of {self.size}x{self.size}{classes} from {self.meta.source} ({how})"
        if self.skipped:
            text += f", {len(self.skipped):,} skipped"
        if self.meta.enlarged:
            text += f", {self.meta.enlarged:,} enlarged from smaller ones"
        return text


_NAMED = 10  # classes, up to which each is named


def crop_label(crop: str) -> str:
    """What a recipe's crop means, for a person."""
    return {"square": "centre square", "squash": "squashed to a square"}.get(crop, f"centre {crop} pixels")


def read_meta(folder: Path) -> StoreMeta:
    """What ``meta.json`` says, every field checked. Raises UserError where it is damaged, or of a newer version."""
    if not folder.is_dir():
        raise UserError(f"there is no prepared store at {folder}")
    path = folder / "meta.json"
    if not path.exists():
        raise UserError(f"{folder} is not a prepared store: it has no meta.json")
    try:
        values = read_json(path)
        if not isinstance(values, dict) or "format" not in values:
            raise UserError(f"{path} was not written by a preparation of images: it has no format number")
        check_format(values.pop("format"), FORMAT, str(path))
        return from_plain(StoreMeta, values, str(path))
    except UserError as error:
        raise UserError(f"{error}: {AGAIN}") from error


def meta_file(meta: StoreMeta) -> bytes:
    """The content of ``meta.json``."""
    return json.dumps({"format": FORMAT} | to_plain(meta), indent=1).encode() + b"\n"


AGAIN = "delete the folder and prepare it again"


def map_images(folder: Path, meta: StoreMeta) -> npt.NDArray[np.uint8]:
    """``images.npy`` as a read-only memory map, checked against the header and size that ``meta`` makes necessary."""
    count, size = meta.count, meta.size
    header = array_header(count, size)
    path = _check_array(folder / "images.npy", header, count * image_bytes(size), f"{count:,} images of {size}x{size}")
    return np.memmap(path, dtype=np.uint8, mode="r", offset=len(header), shape=(count, *ImageShape.square(size).hwc))


def map_labels(folder: Path, meta: StoreMeta) -> npt.NDArray[np.int64] | None:
    """``labels.npy`` as a read-only memory map, checked against ``meta``; None for a store without classes."""
    if meta.classes is None:
        return None
    header, classes = labels_header(meta.count), len(meta.classes)
    path = _check_array(folder / "labels.npy", header, meta.count * 8, f"{meta.count:,} labels")
    labels = np.memmap(path, dtype=np.int64, mode="r", offset=len(header), shape=(meta.count,))
    if not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{path} is damaged (a label is not one of the {classes:,} classes): {AGAIN}")
    return labels


def _check_array(path: Path, header: bytes, size: int, what: str) -> Path:
    """The path. Raises UserError unless a file there has exactly this header, and as many bytes behind it."""
    if not path.is_file():
        raise UserError(f"{path.parent} is damaged (it has no {path.name}): {AGAIN}")
    found, expected = path.stat().st_size, len(header) + size
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise UserError(f"{path} is damaged (it is not {what}): {AGAIN}")
    if found != expected:
        raise UserError(f"{path} is damaged (it has {found:,} bytes instead of {expected:,}): {AGAIN}")
    return path


def labels_header(count: int) -> bytes:
    """The header that ``numpy.save`` writes for int64 of shape (count,)."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (count,)})
    return header.getvalue()


def image_bytes(size: int) -> int:
    return ImageShape.square(size).numel


def array_header(count: int, size: int) -> bytes:
    """The header of a ``.npy`` file (format 1.0) of uint8, shape (count, size, size, 3), always HEADER_BYTES long."""
    shape = (count, *ImageShape.square(size).hwc)
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.ljust(HEADER_BYTES - 11) + b"\n"
