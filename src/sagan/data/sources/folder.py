"""A folder of image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from sagan.data.sources.decode import decode
from sagan.data.sources.names import (
    COPIES,
    FORMATS,
    PACKED,
    class_level,
    digest,
    is_image,
    kind_of,
    plural,
    short_name,
    visible,
)
from sagan.data.sources.source import Source
from sagan.system.errors import UserError


class FolderSource(Source):
    """Every image file under ``root``, at any depth, sorted by relative path. Folders of images are classes: see
    ``class_level``.

    Left out: hidden files and folders, ``__MACOSX``, and any folder below ``root`` named ``transformed_images*`` (name
    that folder itself to read it). Files that are no images are counted in the description. Raises UserError when
    nothing is left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        stamps: dict[str, str] = {}  # relative path -> size and time
        copies: list[str] = []
        others = 0
        for entry, relative in walk(root, skipped=copies):
            if is_image(relative):
                state = entry.stat(follow_symlinks=entry.is_file())  # a broken link counts, and is named when read
                stamps[relative] = f"{state.st_size} {state.st_mtime_ns}"
            else:
                others += 1
        aside = "".join(
            [f" ({plural(others, 'other file')} ignored)" if others else ""]
            + [f" (left out {root / copy}: copies made by an earlier program)" for copy in sorted(copies)]
        )
        if not stamps:
            raise UserError(no_images(root, others, copies))
        self.paths = sorted(stamps)
        self.class_level, self.no_classes = class_level(self.paths)
        self.description = f"{plural(len(self.paths), kind_of(self.paths) + ' file')} under {root}{aside}"
        self.identity = f"{short_name(root)}:{digest(f'{path} {stamps[path]}' for path in self.paths)}"

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def read(self, index: int) -> Image.Image:
        path = self.root / self.paths[index]
        return decode(path.read_bytes(), str(path))

    def class_of(self, index: int) -> str | None:
        return None if self.class_level is None else self.paths[index].split("/")[self.class_level]


def walk(root: Path, skipped: list[str] | None = None) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every visible file below ``root`` with its relative path (slashes); names of folders of copies go to ``skipped``.

    Links to folders are followed, but not into a folder that is being walked already.
    """
    yield from _walk(root, "", (os.path.realpath(root),), skipped)


def _walk(
    folder: Path, prefix: str, above: tuple[str, ...], skipped: list[str] | None
) -> Iterator[tuple[os.DirEntry[str], str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            relative = prefix + entry.name
            if not visible(PurePosixPath(entry.name)):
                continue
            if not entry.is_dir():
                if entry.is_file() or entry.is_symlink():  # not a pipe or a device
                    yield entry, relative
            else:
                real = os.path.realpath(entry.path)
                if entry.name.startswith(COPIES):
                    if skipped is not None:
                        skipped.append(relative)
                elif real not in above:
                    yield from _walk(Path(entry.path), f"{relative}/", (*above, real), skipped)


def no_images(root: Path, others: int, copies: list[str]) -> str:
    found = f"found {plural(others, 'other file')}" if others else "found no files at all"
    hint = f", and left out {root / copies[0]} (name that folder itself to read its copies)" if copies else ""
    packed = [p for p in sorted(root.iterdir()) if p.suffix.lower() in PACKED or (p / "data.mdb").is_file()]
    if packed:
        hint += f"; to read {packed[0]}, name it itself"
    return f"no images found under {root}: looked for {', '.join(FORMATS)}; {found}{hint}"
