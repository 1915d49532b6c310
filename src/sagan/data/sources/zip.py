"""A zip of image files."""

from __future__ import annotations

import bz2
import copy
import functools
import lzma
import os
import re
import weakref
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from sagan.data.sources.classes import (
    LARGEST_LABELS,
    classes_of,
    labels_files,
    labels_folder,
    largest_labels,
    not_above,
)
from sagan.data.sources.contents import digest_file, file_stamp, refuse_changed
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
from sagan.data.sources.own import FIGURES, what_is_ours
from sagan.data.sources.room import hold
from sagan.data.sources.source import PerProcess, Source, unseen
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError, is_of_the_machine, is_out_of_memory
from sagan.system.files import open_regular
from sagan.system.sentences import plural
from sagan.system.typed import shorten

_LONGEST, _DEEPEST = 4096, 100  # the characters of a member's name and its folders, each of which is kept by its path
_PARTS = re.compile(r"[/\\]")


class ZipSource(Source):
    """Every image in a zip file, at any depth, sorted by member name. Members are left out, and have classes, as in a
    folder with the same files."""

    def __init__(self, path: Path) -> None:
        self.path = self.place = path
        self.signature = file_stamp(path)
        self.size = path.stat().st_size
        self.archive = PerProcess(functools.partial(open_zip, path))
        listed = list_members(self.archive.get())
        if listed.root_is not in ("", FIGURES):
            raise UserError(f"{path} holds {listed.root_is} of sagan, not images to train on")
        self.ours = listed.root_is
        self.members = sorted(filter(is_image, listed.members))
        others = len(listed.members) - len(self.members)
        if not self.members:
            raise UserError(no_images_in_zip(path, listed))
        self.found = [listed.members[name] for name in self.members]
        labels, more = labels_files(listed.members, self.members)
        content = self._read_labels(listed.members[labels]) if labels else None
        self.classes = classes_of(self.members, content, f"{path}:{labels}", labels_folder(labels))
        self.no_classes, self.remarks = self.classes.why_none, self.classes.remarks + not_above(more)
        aside = f" ({plural(others, 'other member')} ignored)" if others else ""
        aside += "".join(f" (left out {count:,} {why})" for why, count in sorted(listed.left_out.items()))
        self.description = f"{plural(len(self.members), kind_of(self.members) + ' file')} in {path}{aside}"
        lines = [f"{name} {m.file_size} {m.CRC}" for name, m in zip(self.members, self.found, strict=True)]
        self.former = f"{short_name(path)}:{digest([*lines, *self.classes.stated])}"

    def identify(self, progress: Progress = unseen) -> str:
        return f"{short_name(self.path)}:{digest_file(self.path, self.signature, progress)}"

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
            if not 0 <= member.header_offset < self.size:
                raise zipfile.BadZipFile("it would lie outside of the file")
            with self.archive.lock:  # one file position for all threads
                return unpack(archive, member)
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError (encrypted), NotImplementedError, ...
            if is_of_the_machine(error):
                raise
            refuse_changed(self.path, self.signature)
            raise self.unreadable(member, str(error) or type(error).__name__) from error

    def _read_labels(self, member: zipfile.ZipInfo) -> bytes:
        if member.file_size > (most := min(LARGEST_LABELS, largest_labels(len(self.found)))):
            raise self.unreadable(member, f"it unpacks to {member.file_size:,} bytes, more than {most:,}")
        return self.read_member(member)

    def unreadable(self, member: zipfile.ZipInfo, reason: str) -> UserError:
        return UserError(f"{self.path}:{unpacked_name(member.filename)} cannot be read: {reason}")

    def class_of(self, index: int) -> str | None:
        return self.classes.of(index)


@dataclass
class Members:
    """The visible files of a zip by name, and how many are left out, by the reason. ``root_is``: what of this program
    all of it is."""

    members: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    root_is: str = ""


class _Tree(dict[str, "_Tree"]):
    """What is in a folder, by name; empty for a file. Folders are not named by their whole paths, which would take many
    times the memory of the names."""


def list_members(archive: zipfile.ZipFile) -> Members:
    """What a zip holds; of two files with one name the later, as when it is unpacked."""
    named = {name: member for member in archive.infolist() if (name := unpacked_name(member.filename))}
    tree = _Tree()
    for name in named:
        node = tree
        for part in name.split("/"):
            node = node.setdefault(part, _Tree())
    ours = dict(_ours(tree))
    found, top, node = Members(), "", tree
    while top not in ours and len(node) == 1 and (below := next(iter(node.values()))):
        top, node = f"{top}/{next(iter(node))}".lstrip("/"), below  # the folder that holds all the others
    found.root_is = ours.pop(top, "")
    for name, member in named.items():
        if not member.filename.endswith(("/", "\\")) and not _node(tree, name):
            why, shown = why_left_out(name, ours)
            if why:
                found.left_out[why] += 1
            elif shown:
                found.members[name] = member
    return found


def _ours(tree: _Tree) -> Iterator[tuple[str, str]]:
    """The paths of the folders that this program made, and what each is."""
    folders = [("", tree)]
    while folders:
        path, node = folders.pop()
        if what := what_is_ours(node):
            yield path, what
        folders += [(f"{path}/{name}".lstrip("/"), below) for name, below in node.items() if below]


def _node(tree: _Tree, name: str) -> _Tree:
    for part in name.split("/"):
        tree = tree[part]
    return tree


def why_left_out(name: str, ours: dict[str, str]) -> tuple[str, bool]:
    """Why a member is left out, for a person, or ""; then whether it is visible."""
    folders = name.split("/")[:-1]
    for depth, folder in enumerate(folders, 1):
        path = "/".join(folders[:depth])
        if path in ours:
            return f"under {path}: {ours[path]} of sagan", False
        if folder.startswith(COPIES):
            return f"under {COPIES}*: copies made by the published program", False
        if not visible(PurePosixPath(folder)):
            return ("" if folder.startswith(".") else f"under {path}: made by the system"), False
    return "", visible(PurePosixPath(name))


def unpacked_name(name: str) -> str:
    """The name that a member has once it is unpacked, by Python or a program that is as careful: without "." and "..",
    below one folder. Windows programs that wrote backslashes meant folders."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member. Raises BadZipFile for one that does not unpack to as many as it says, before it takes more
    memory than these: zipfile itself would unpack all."""
    if member.compress_type not in _UNPACK:
        raise zipfile.BadZipFile(f"it is compressed by method {member.compress_type}, which is not read here")
    if member.compress_size > member.file_size * 1.1 + 1000:  # which no method makes of so few bytes
        raise zipfile.BadZipFile(f"it has more bytes than the {member.file_size:,} that it says it unpacks to")
    packed = copy.copy(member)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, member.compress_size
    del packed.CRC  # which is that of the unpacked bytes
    data = _UNPACK[member.compress_type](archive.read(packed), member.file_size + 1)
    if len(data) != member.file_size:
        raise zipfile.BadZipFile(f"it does not unpack to the {member.file_size:,} bytes that it says")
    if zlib.crc32(data) != member.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")
    return data


def _unpack_lzma(packed: bytes, most: int) -> bytes:
    """Four bytes of a version and a length, then what the older format has, which lacks the size of the whole."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_DICTIONARY)
    return decoder.decompress(packed[4:9] + b"\xff" * 8 + packed[9:], most)


_DICTIONARY = 2**28  # bytes: programs make them of 64 MiB at most
_UNPACK: dict[int, Callable[[bytes, int], bytes]] = {  # at most so many bytes of the content
    zipfile.ZIP_STORED: lambda packed, most: packed,
    zipfile.ZIP_DEFLATED: lambda packed, most: zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most),
    zipfile.ZIP_BZIP2: lambda packed, most: bz2.BZ2Decompressor().decompress(packed, most),
    zipfile.ZIP_LZMA: _unpack_lzma,
}


def open_zip(path: Path) -> zipfile.ZipFile:
    file = open_regular(path)
    try:
        archive = zipfile.ZipFile(file)
        weakref.finalize(archive, file.close)
    except OSError:
        raise
    except Exception as error:  # BadZipFile, NotImplementedError, UnicodeDecodeError, ...
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} is not a complete zip file ({error}): make or download it again") from error
    for member in archive.infolist():
        if len(member.filename) > _LONGEST or len(_PARTS.findall(member.filename)) > _DEEPEST:
            raise UserError(f"{path} holds {shorten(member.filename)}, a name longer than programs write")
    if sum(member.compress_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
        raise UserError(f"{path} says that several members lie in the same place, as no program writes a zip")
    return archive


def no_images_in_zip(path: Path, listed: Members) -> str:
    database = next((name for name in listed.members if PurePosixPath(name).name == "data.mdb"), None)
    if database:
        return f"{path} holds an LMDB ({database}), which cannot be read inside a zip: unpack it and name its folder"
    aside = "".join(f", and left out {count:,} {why}" for why, count in sorted(listed.left_out.items()))
    others = plural(len(listed.members), "other member")
    return f"no images found in {path}: looked for {', '.join(FORMATS)}; found {others}{aside}"
