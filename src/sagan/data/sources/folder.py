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

    Hidden files and folders, ``__MACOSX``, and folders below ``root`` named ``transformed_images*`` (give such a folder
    itself to read it) are left out. Other files are counted in the description. Raises UserError if nothing is left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        stamps: dict[str, str] = {}  # relative path -> size and time
        copies: list[str] = []
        others = 0
        for entry, relative in walk(root, skipped=copies):
            if is_image(relative):
                state = entry.stat(follow_symlinks=entry.is_file())  # a broken link is reported when it is read
                stamps[relative] = f"{state.st_size} {state.st_mtime_ns}"
            else:
                others += 1
        aside = "".join(
            [f" ({plural(others, 'other file')} ignored)" if others else ""]
            + [f" (left out {root / copy}: copies made by the published program)" for copy in sorted(copies)]
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


def walk(
    folder: Path, prefix: str = "", above: tuple[str, ...] = (), *, skipped: list[str] | None = None
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every visible file below ``folder`` with its relative path (slashes), after ``prefix``. Folders of copies are
    added to ``skipped``.

    Links to folders are followed, except into a folder that is being walked, one of those ``above``.
    """
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            relative = prefix + entry.name
            if not visible(PurePosixPath(entry.name)):
                continue
            if not entry.is_dir():
                if entry.is_file() or entry.is_symlink():  # not a pipe or a device
                    yield entry, relative
            elif entry.name.startswith(COPIES):
                if skipped is not None:
                    skipped.append(relative)
            elif os.path.realpath(entry.path) not in above:
                yield from walk(Path(entry.path), f"{relative}/", above, skipped=skipped)


def no_images(root: Path, others: int, copies: list[str]) -> str:
    found = f"found {plural(others, 'other file')}" if others else "found no files at all"
    hint = f", and left out {root / copies[0]} (name that folder itself to read its copies)" if copies else ""
    packed = [p for p in sorted(root.iterdir()) if p.suffix.lower() in PACKED or (p / "data.mdb").is_file()]
    if packed:
        hint += f"; to read {packed[0]}, name it itself"
    return f"no images found under {root}: looked for {', '.join(FORMATS)}; {found}{hint}"
