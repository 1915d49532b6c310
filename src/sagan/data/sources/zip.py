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
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from sagan.data.sources.arrange import NATURAL, arrange
from sagan.data.sources.contents import digest_file, file_stamp, refuse_changed
from sagan.data.sources.decode import FILES, MAX_BYTES, decode
from sagan.data.sources.members import (
    DEEPEST,
    LONGEST,
    describe_aside,
    list_members,
    no_images_in,
    refuse_ours,
    unpacked_name,
)
from sagan.data.sources.names import digest, is_image, kind_of, short_name
from sagan.data.sources.room import hold
from sagan.data.sources.source import PerProcess, Source, unseen
from sagan.data.sources.splits import AUTO
from sagan.system.callbacks import Progress
from sagan.system.errors import UserError, is_of_the_machine, is_out_of_memory
from sagan.system.files import open_regular
from sagan.system.sentences import plural
from sagan.system.typed import shorten

_PARTS = re.compile(r"[/\\]")


class ZipSource(Source):
    """Every image in a zip file, at any depth, in natural order of names. Members are left out, and have classes and
    splits, as in a folder with the same files."""

    def __init__(self, path: Path, split: str = AUTO) -> None:
        self.path = self.place = path
        self.stamp = file_stamp(path)
        self.size = path.stat().st_size
        self.archive = PerProcess(functools.partial(open_zip, path))
        listed = list_members((member.filename, member) for member in self.archive.get().infolist())
        self.ours = refuse_ours(path, listed)
        others = sum(not is_image(name) for name in listed.members)
        if others == len(listed.members):
            raise UserError(no_images_in(path, listed))
        self.arranged = arrange(
            listed.members,
            str(path),
            split,
            read=lambda name, most: self._read_labels(listed.members[name], most),
            place=lambda name: f"{path}:{name}",
        )
        self.members, self.classes = self.arranged.names, self.arranged.classes
        self.found = [listed.members[name] for name in self.members]
        self.no_classes, self.remarks = self.classes.why_none, self.arranged.remarks
        images = f"{plural(len(self.members), kind_of(self.members) + ' file')} in {path}"
        self.description = images + describe_aside(listed, others)
        self.signature = digest([self.stamp, self.arranged.mark]) if self.arranged.mark else self.stamp
        if self.arranged.mark in ("", NATURAL):
            before = self.arranged.stated_before()
            found = [(name, listed.members[name]) for name, _ in before]
            lines = [f"{name} {member.file_size} {member.CRC}" for name, member in found]
            self.former = (f"{short_name(path)}:{digest([*lines, *(line for _, line in before if line)])}",)
            self.former_signature = self.stamp if self.arranged.mark else ""

    def identify(self, progress: Progress = unseen) -> str:
        content, name = digest_file(self.path, self.stamp, progress), short_name(self.path)
        if not self.arranged.mark:
            return f"{name}:{content}"
        if self.arranged.mark == NATURAL:
            self.former = (f"{name}:{content}", *self.former)
        return f"{name}:{digest([content, self.arranged.mark])}"

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
            refuse_changed(self.path, self.stamp)
            raise self.unreadable(member, str(error) or type(error).__name__) from error

    def _read_labels(self, member: zipfile.ZipInfo, most: int) -> bytes:
        if member.file_size > most:
            raise self.unreadable(member, f"it unpacks to {member.file_size:,} bytes, more than {most:,}")
        return self.read_member(member)

    def unreadable(self, member: zipfile.ZipInfo, reason: str) -> UserError:
        return UserError(f"{self.path}:{unpacked_name(member.filename)} cannot be read: {reason}")

    def class_of(self, index: int) -> str | None:
        return self.classes.of(index)


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
        if len(member.filename) > LONGEST or len(_PARTS.findall(member.filename)) > DEEPEST:
            raise UserError(f"{path} holds {shorten(member.filename)}, a name longer than programs write")
    if sum(member.compress_size for member in archive.infolist()) > os.fstat(file.fileno()).st_size:
        raise UserError(f"{path} says that several members lie in the same place, as no program writes a zip")
    return archive
