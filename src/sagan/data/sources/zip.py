"""A zip of image files."""

from __future__ import annotations

import errno
import functools
import zipfile
from pathlib import Path, PurePosixPath

from PIL import Image

from sagan.data.sources.classes import LARGEST_LABELS, classes_of
from sagan.data.sources.contents import file_stamp
from sagan.data.sources.decode import FILES, MAX_BYTES, decode
from sagan.data.sources.names import (
    COPIES,
    FORMATS,
    digest,
    is_image,
    kind_of,
    short_name,
    visible,
)
from sagan.data.sources.room import hold
from sagan.data.sources.source import PerProcess, Source
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.sentences import plural


class ZipSource(Source):
    """Every image in a zip file, at any depth, sorted by member name. Members are left out, and have classes, as in a
    folder with the same files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp = file_stamp(path)
        self.archive = PerProcess(functools.partial(open_zip, path))
        members = members_of(self.archive.get())
        copies = {name for name in members if any(part.startswith(COPIES) for part in name.split("/")[:-1])}
        self.members = sorted(name for name in members if name not in copies and is_image(name))
        others = len(members) - len(copies) - len(self.members)
        if not self.members:
            raise UserError(no_images_in_zip(path, list(members)))
        self.found = [members[name] for name in self.members]
        labels = self._read_labels(members["dataset.json"]) if "dataset.json" in members else None
        self.classes = classes_of(self.members, labels, f"{path}:dataset.json")
        self.no_classes, self.remarks = self.classes.why_none, self.classes.remarks
        aside = f" ({plural(others, 'other member')} ignored)" if others else ""
        if copies:
            aside += f" (left out {len(copies):,} under {COPIES}*: copies made by the published program)"
        self.description = f"{plural(len(self.members), kind_of(self.members) + ' file')} in {path}{aside}"
        lines = [f"{name} {m.file_size} {m.CRC}" for name, m in zip(self.members, self.found, strict=True)]
        self.identity = f"{short_name(path)}:{digest([*lines, *self.classes.stated])}"

    def __len__(self) -> int:
        return len(self.members)

    def name(self, index: int) -> str:
        return f"{self.path}:{self.name_within(index)}"

    def name_within(self, index: int) -> str:
        return str(self.members[index])

    def read(self, index: int) -> Image.Image:
        return decode(self.read_member(self.found[index]), self.name(index), self.max_pixels)

    def read_member(self, member: zipfile.ZipInfo) -> bytes:
        archive = self.archive.get()
        if member.file_size > MAX_BYTES:
            raise self.unreadable(member, f"it unpacks to {member.file_size:,} bytes, more than {MAX_BYTES:,}")
        hold(FILES, member.file_size)
        try:
            with self.archive.lock:  # one file position for all threads
                return archive.read(member)
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # the file cannot be reached; a damaged place in it is invalid
                raise
            self._refuse_changed()
            raise self.unreadable(member, str(error)) from error
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError (encrypted), NotImplementedError, ...
            if is_out_of_memory(error):
                raise
            self._refuse_changed()
            raise self.unreadable(member, str(error) or type(error).__name__) from error

    def _read_labels(self, member: zipfile.ZipInfo) -> bytes:
        if member.file_size > LARGEST_LABELS:
            raise self.unreadable(member, f"it unpacks to {member.file_size:,} bytes, more than {LARGEST_LABELS:,}")
        return self.read_member(member)

    def unreadable(self, member: zipfile.ZipInfo, reason: str) -> UserError:
        return UserError(f"{self.path}:{member.filename} cannot be read: {reason}")

    def _refuse_changed(self) -> None:
        """Raises OSError if the zip is not the one that was opened: then its members are not damaged, but gone."""
        if file_stamp(self.path) != self.stamp:
            raise OSError(errno.ESTALE, "the file changed while it was read", str(self.path))

    def class_of(self, index: int) -> str | None:
        return self.classes.of(index)


def members_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by name; of two with one name the later, as when it is unpacked. Windows programs that wrote
    backslashes meant folders."""
    named = ((member.filename.replace("\\", "/"), member) for member in archive.infolist() if not member.is_dir())
    return {name: member for name, member in named if not name.endswith("/") and visible(PurePosixPath(name))}


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # BadZipFile, NotImplementedError, UnicodeDecodeError, ...
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} is not a complete zip file ({error}): make or download it again") from error
    if sum(member.compress_size for member in archive.infolist()) > path.stat().st_size:
        archive.close()
        raise UserError(f"{path} says that several members lie in the same place, as no program writes a zip")
    return archive


def no_images_in_zip(path: Path, members: list[str]) -> str:
    database = next((name for name in members if PurePosixPath(name).name == "data.mdb"), None)
    if database:
        return f"{path} holds an LMDB ({database}), which cannot be read inside a zip: unpack it and name its folder"
    return f"no images found in {path}: looked for {', '.join(FORMATS)}; found {plural(len(members), 'other member')}"
