"""The prepared store: a folder of ``images.npy`` (uint8, memory-mapped), ``meta.json`` (what they are) and, when the
images have classes, ``labels.npy``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sagan.system.errors import UserError

FORMAT = 1  # raised whenever an older program could not read a store, or would read it wrongly
CHANNELS = 3
PIXELS = "uint8 NHWC RGB"
HEADER_BYTES = 128  # of images.npy, whatever the count, so that the count can be filled in at the end
NO_LABELS = "the store has no labels, which is so when the images had no classes or an earlier version prepared it"
META_KEYS = ("count", "size", "channels", "pixels", "crop", "filter", "source", "identity", "skipped", "sha256")


@dataclass(frozen=True, eq=False)
class Store:
    """A prepared data set: ``images`` of shape (count, size, size, 3), uint8, read from the disk as they are needed.

    ``meta`` is the content of ``meta.json``; ``hash`` is the SHA-256 of the pixel bytes, so equal hash is equal images
    (it says nothing of their classes). ``labels`` is the class of each image, int64 of shape (count,), a number into
    ``classes``; None when the images have no classes, and ``no_classes`` says why.
    """

    folder: Path
    images: npt.NDArray[np.uint8]
    meta: Mapping[str, Any]
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
        return int(self.meta["count"])

    @property
    def size(self) -> int:
        """Height and width of every image, in pixels."""
        return int(self.meta["size"])

    @property
    def hash(self) -> str:
        return str(self.meta["sha256"])

    @property
    def skipped(self) -> list[dict[str, str]]:
        """The images of the source that could not be used: name and reason of each."""
        return list(self.meta["skipped"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted, each with one image or more; empty when the images have none."""
        return tuple(self.meta.get("classes", ()))

    def needed_labels(self) -> npt.NDArray[np.int64]:
        """``labels``, for training that cannot do without. Raises UserError, saying why, when there are none."""
        if self.labels is None:
            raise UserError(f"no classes are known of {self.meta['source']}: {self.no_classes}")
        return self.labels

    def describe(self) -> str:
        """One phrase: how many images, of what size, in how many classes (if several), from where, how cropped, how
        many left out or enlarged."""
        how = f"{crop_label(self.meta['crop'])}, {self.meta['filter']}"
        images = "image" if self.count == 1 else "images"
        classes = f" in {len(self.classes):,} classes" if len(self.classes) > 1 else ""
        if 1 < len(self.classes) <= _NAMED:
            classes += f" ({', '.join(f'{number} {name}' for number, name in enumerate(self.classes))})"
        text = f"{self.count:,} {images} of {self.size}x{self.size}{classes} from {self.meta['source']} ({how})"
        if self.skipped:
            text += f", {len(self.skipped):,} skipped"
        if self.meta.get("enlarged"):
            text += f", {self.meta['enlarged']:,} enlarged from smaller ones"
        return text


_NAMED = 10  # classes, up to which each is named


def crop_label(crop: str) -> str:
    """What a recipe's crop means, for a person."""
    return {"square": "centre square", "squash": "squashed to a square"}.get(crop, f"centre {crop} pixels")


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of ``meta.json``, checked to be of a store that this version reads."""
    if not folder.is_dir():
        raise UserError(f"there is no prepared store at {folder}")
    path = folder / "meta.json"
    if not path.is_file():
        raise UserError(f"{folder} is not a prepared store: it has no meta.json")
    try:
        meta = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): {AGAIN}") from error
    if not isinstance(meta, dict) or "format" not in meta:
        raise UserError(f"{path} was not written by a preparation of images: it has no format number")
    if meta["format"] != FORMAT:
        raise UserError(
            f"{folder} is a store of format {meta['format']!r}, this program reads format {FORMAT}: {AGAIN}"
        )
    absent = [key for key in META_KEYS if key not in meta]
    if absent:
        raise UserError(f"{path} is damaged (it lacks {', '.join(absent)}): {AGAIN}")
    return meta


AGAIN = "delete the folder and prepare it again"


def map_images(folder: Path, meta: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """``images.npy`` as a read-only memory map, checked against the header and size that ``meta`` makes necessary."""
    path = folder / "images.npy"
    if not path.is_file():
        raise UserError(f"{folder} is damaged (it has no images.npy): {AGAIN}")
    count, size = meta["count"], meta["size"]
    header = array_header(count, size)
    expected, found = len(header) + count * image_bytes(size), path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise UserError(f"{path} is damaged (it is not {count:,} images of {size}x{size}): {AGAIN}")
    if found != expected:
        raise UserError(f"{path} is damaged (it has {found:,} bytes instead of {expected:,}): {AGAIN}")
    return np.memmap(path, dtype=np.uint8, mode="r", offset=len(header), shape=(count, size, size, CHANNELS))


def map_labels(folder: Path, meta: Mapping[str, Any]) -> npt.NDArray[np.int64] | None:
    """``labels.npy`` as a read-only memory map, checked against ``meta``; None for a store without classes."""
    if "classes" not in meta:
        return None
    path, count, classes = folder / "labels.npy", meta["count"], len(meta["classes"])
    if not path.is_file():
        raise UserError(f"{folder} is damaged (it has no labels.npy): {AGAIN}")
    try:
        labels: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): {AGAIN}") from error
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise UserError(
            f"{path} is damaged (it is not {count:,} labels, but {labels.dtype} of shape {labels.shape}): {AGAIN}"
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{path} is damaged (a label is not one of the {classes:,} classes): {AGAIN}")
    return labels


def image_bytes(size: int) -> int:
    return size * size * CHANNELS


def array_header(count: int, size: int) -> bytes:
    """The header of a ``.npy`` file (format 1.0) of uint8, shape (count, size, size, 3), always HEADER_BYTES long."""
    shape = f"({count}, {size}, {size}, {CHANNELS})"
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.ljust(HEADER_BYTES - 11) + b"\n"
