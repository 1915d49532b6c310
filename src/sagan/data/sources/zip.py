"""A zip of image files."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path, PurePosixPath

from PIL import Image

from sagan.data.sources.decode import decode
from sagan.data.sources.names import (
    COPIES,
    FORMATS,
    class_level,
    digest,
    is_image,
    kind_of,
    plural,
    short_name,
    visible,
)
from sagan.data.sources.source import PerProcess, Source
from sagan.system.errors import UserError


class ZipSource(Source):
    """Every image in a zip file, at any depth, sorted by member name. Members are left out, and have classes, as in a
    folder with the same files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = PerProcess(functools.partial(open_zip, path))
        members = [m for m in self.archive.get().infolist() if not m.is_dir() and visible(PurePosixPath(m.filename))]
        copies = {m.filename for m in members if any(p.startswith(COPIES) for p in m.filename.split("/")[:-1])}
        images = [m for m in members if m.filename not in copies and is_image(m.filename)]
        others = len(members) - len(copies) - len(images)
        if not images:
            raise UserError(no_images_in_zip(path, [m.filename for m in members]))
        images.sort(key=lambda m: m.filename)
        self.members = [m.filename for m in images]
        self.class_level, self.no_classes = class_level(self.members)
        aside = f" ({plural(others, 'other member')} ignored)" if others else ""
        if copies:
            aside += f" (left out {len(copies):,} under {COPIES}*: copies made by the published program)"
        self.description = f"{plural(len(images), kind_of(self.members) + ' file')} in {path}{aside}"
        self.identity = f"{short_name(path)}:{digest(f'{m.filename} {m.file_size} {m.CRC}' for m in images)}"

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return f"{self.path}:{self.members[index]}"

    def read(self, index: int) -> Image.Image:
        archive = self.archive.get()
        try:
            with self.archive.lock:  # one file position for all threads
                data = archive.read(self.members[index])
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError (encrypted), NotImplementedError, ...
            raise UserError(f"{self.name(index)} cannot be read: {error}") from error
        return decode(data, self.name(index))

    def class_of(self, index: int) -> str | None:
        return None if self.class_level is None else self.members[index].split("/")[self.class_level]


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not a complete zip file ({error}): make or download it again") from error


def no_images_in_zip(path: Path, members: list[str]) -> str:
    database = next((name for name in members if PurePosixPath(name).name == "data.mdb"), None)
    if database:
        return f"{path} holds an LMDB ({database}), which cannot be read inside a zip: unpack it and name its folder"
    return f"no images found in {path}: looked for {', '.join(FORMATS)}; found {plural(len(members), 'other member')}"
