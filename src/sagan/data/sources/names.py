"""What follows from names: which files are images, their format and class, and the name of a source."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
SYSTEM_FOLDERS = {
    "__macosx",
    "@eadir",
    "@recycle",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "recycler",
    "recycled",
    "@recently-snapshot",
    "@sharebin",
    "@tmp",
    "~snapshot",
    "network trash folder",
    "temporary items",
}
_SPLIT = re.compile(  # the name of a part of a data set, such as train, val2017, test_images, trainA
    "(train|training|val|valid|validation|dev|eval|evaluation|test|testing|holdout|unlabell?ed)"
    "[-_. ]?(images?|imgs?|jpe?gs?|set|data|split|hr|lr|[ab]|[0-9]+)?"
)
LONGEST_NAME = 120  # bytes of a source's name in a folder's name, which may have 255
PACKED = (".zip", ".tar", ".parquet", ".npy", ".npz", ".mdb", ".lmdb")  # suffixes of files that hold many images
COPIES = "transformed_images"  # the published program's scripts wrote 64x64 copies under this name, in the data set


def visible(path: PurePosixPath) -> bool:
    """Whether no part of the path is hidden, or a folder that operating systems and file servers make (thumbnails!)."""
    return not any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in path.parts)


def is_image(name: str) -> bool:
    return visible(PurePosixPath(name)) and PurePosixPath(name).suffix.lower() in FORMATS


def shared_folders(paths: Sequence[str]) -> list[str]:
    """The folders, from the outermost on, that all paths (separated by slashes) are in."""
    ends = zip(min(paths).split("/")[:-1], max(paths).split("/")[:-1], strict=False)  # what these two share, all share
    return [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends)]


def class_level(paths: Sequence[str]) -> tuple[int | None, str]:
    """The level of the folder of each path (separated by slashes) that is its class, from 0; or None, and the reason.

    It is the first folder that the paths do not all share: level 1 for ``set/cat/1.png`` and ``set/dog/old/2.png``. If
    an image is in the same folder as these folders, its class is unknown, and there are no classes.
    """
    level = len(shared_folders(paths))
    beside = [path for path in paths if path.count("/") == level]
    if len(beside) == len(paths):
        return None, "its images are in one folder, not in a folder for each class"
    if beside:
        return None, f"{beside[0]} is beside folders of images; move it into the folder of its class"
    return level, ""


_DIGITS = re.compile("[0-9]+")


def natural(name: str) -> tuple[str, str]:
    """A key that sorts names as people do, "2" before "10"."""
    return _DIGITS.sub(_number, name), name


def _number(digits: re.Match[str]) -> str:
    """Digits so that texts with them sort by number: behind a character that is in no name, first by their count."""
    stripped = digits[0].lstrip("0")
    return f"\0{chr(len(stripped))}{stripped}"


def doubtful_classes(classes: Iterable[str]) -> str:
    """A sentence where folders taken for classes look like the parts of a split, else an empty text."""
    found = sorted(name for name in classes if _SPLIT.fullmatch(name.lower()))
    if len(found) > 1:
        return (
            f"the folders {', '.join(found)} look like the parts of one data set, but each is taken for a class of "
            "its own: name one of them to use it alone"
        )
    return ""


def kind_of(names: Iterable[str]) -> str:
    """The format, such as JPEG, if all names have the same, else "image"."""
    kinds = {FORMATS[PurePosixPath(name).suffix.lower()] for name in names}
    return kinds.pop() if len(kinds) == 1 else "image"


def short_name(path: Path) -> str:
    """The last part of a path without its suffix, in characters that need no quotes in the name of a folder. Of a data
    set in the hub's cache, where a folder is called by its commit, the name of the data set."""
    real, hub = path.resolve(), [part for part in path.parts if part.startswith("datasets--")]
    name = hub[-1].rpartition("--")[2] if hub else real.stem if path.is_file() else real.name
    suited = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return suited.encode()[:LONGEST_NAME].decode(errors="ignore").strip(".-") or "images"


def digest(lines: Iterable[str]) -> str:
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode(errors="surrogateescape") + b"\n")
    return state.hexdigest()
