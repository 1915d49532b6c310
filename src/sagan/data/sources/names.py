"""What names tell: which files are images, of which format and class, and what a source is called."""

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
PACKED = (".zip", ".npy", ".mdb", ".lmdb")  # the endings of single files that hold many images
COPIES = "transformed_images"  # the published program's scripts wrote 64x64 copies under this name, inside the data set


def visible(path: PurePosixPath) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def is_image(name: str) -> bool:
    return visible(PurePosixPath(name)) and PurePosixPath(name).suffix.lower() in FORMATS


def class_level(paths: Sequence[str]) -> tuple[int | None, str]:
    """Which folder of each path (slashes between the parts) is its class, 0 for the first; or None, and why.

    It is the first folder that not all paths share: of ``set/cat/1.png`` and ``set/dog/old/2.png`` the second, level 1.
    When an image lies directly beside such folders there are no classes, for nobody knows which is its own.
    """
    ends = zip(min(paths).split("/")[:-1], max(paths).split("/")[:-1], strict=False)  # what these share, all share
    level = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], ends)))
    beside = [path for path in paths if path.count("/") == level]
    if len(beside) == len(paths):
        return None, "its images lie in one folder, not in a folder for each class"
    if beside:
        return None, f"{beside[0]} lies beside folders of images; move it into the folder of its class"
    return level, ""


def kind_of(names: Iterable[str]) -> str:
    """ "JPEG" when all names are of one format, else "image"."""
    kinds = {FORMATS[PurePosixPath(name).suffix.lower()] for name in names}
    return kinds.pop() if len(kinds) == 1 else "image"


def short_name(path: Path) -> str:
    """The last name of a path without its ending, in letters that suit a folder's name and a source's identity."""
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".-") or "images"


def digest(lines: Iterable[str]) -> str:
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode(errors="surrogateescape") + b"\n")
    return state.hexdigest()


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
