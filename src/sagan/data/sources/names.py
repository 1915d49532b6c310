"""What follows from names: which files are images, their format and class, and the name of a source."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}
PACKED = (".zip", ".npy", ".mdb", ".lmdb")  # suffixes of files that hold many images
COPIES = "transformed_images"  # the published program's scripts wrote 64x64 copies under this name, in the data set


def visible(path: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def is_image(name: str) -> bool:
    return visible(PurePosixPath(name)) and PurePosixPath(name).suffix.lower() in FORMATS


def class_level(paths: Sequence[str]) -> tuple[int | None, str]:
    """The level of the folder of each path (separated by slashes) that is its class, from 0; or None, and the reason.

    It is the first folder that the paths do not all share: level 1 for ``set/cat/1.png`` and ``set/dog/old/2.png``. If
    an image is in the same folder as these folders, its class is unknown, and there are no classes.
    """
    ends = zip(min(paths).split("/")[:-1], max(paths).split("/")[:-1], strict=False)  # what these two share, all share
    level = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], ends)))
    beside = [path for path in paths if path.count("/") == level]
    if len(beside) == len(paths):
        return None, "its images are in one folder, not in a folder for each class"
    if beside:
        return None, f"{beside[0]} is beside folders of images; move it into the folder of its class"
    return level, ""


def kind_of(names: Iterable[str]) -> str:
    """The format, such as JPEG, if all names have the same, else "image"."""
    kinds = {FORMATS[PurePosixPath(name).suffix.lower()] for name in names}
    return kinds.pop() if len(kinds) == 1 else "image"


def short_name(path: Path) -> str:
    """The last part of a path without its suffix, in characters that are valid in the name of a folder."""
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".-") or "images"


def digest(lines: Iterable[str]) -> str:
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode(errors="surrogateescape") + b"\n")
    return state.hexdigest()


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
