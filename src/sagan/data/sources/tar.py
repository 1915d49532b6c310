"""Tars of image files: one, or several that are the shards of a WebDataset."""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import os
import tarfile
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from sagan.data.sources.arrange import Arranged, arrange
from sagan.data.sources.classes import Classes, checked_label, classes_of
from sagan.data.sources.decode import FILES as ROOM
from sagan.data.sources.decode import MAX_BYTES, decode
from sagan.data.sources.members import (
    DEEPEST,
    LONGEST,
    Members,
    describe_aside,
    list_members,
    no_images_in,
    refuse_ours,
    unpacked_name,
)
from sagan.data.sources.names import is_image, kind_of, natural
from sagan.data.sources.room import hold
from sagan.data.sources.shards import Files, ShardsSource, pick_shards, split_of_shard
from sagan.data.sources.source import PerProcess
from sagan.data.sources.splits import ALL
from sagan.data.sources.stream import Bytes, PlainBytes
from sagan.system.errors import UserError
from sagan.system.files import open_regular
from sagan.system.sentences import plural
from sagan.system.typed import shorten

_BLOCK = tarfile.BLOCKSIZE
_LONGEST_NOTE = 2**16  # bytes of a header's long name and the like, and of a JSON that holds a label
_LONGEST_CLASS = 2**10  # bytes of a .cls
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass
class Shard:
    """What a tar holds, as numbers and not objects, as there may be a million. ``labels``: by the keys of samples."""

    names: list[str] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    labels: dict[str, str] = field(default_factory=dict)
    links: int = 0


class TarSource(ShardsSource):
    """Every image in one tar, or in several, shard by shard in natural order of names. Nothing is unpacked.

    The class of an image is that in the ``.cls`` of its sample (the files that share a name up to its first dot), or
    the ``label`` in its ``.json``; without these, as in a folder with the same files. Raises UserError for sparse
    files, and for headers that no program writes; links to other members are left out.
    """

    def __init__(self, place: Path, files: Files, split: str) -> None:
        named = len(files) > 1 or any(map(split_of_shard, files))  # else it may hold folders that are splits
        files, said = pick_shards(files, split, str(place)) if named else (dict(files), "")
        super().__init__(place, files)
        self.keys = list(files)
        self.bytes = {name: PerProcess[Bytes](functools.partial(PlainBytes, path)) for name, path in files.items()}
        shards = {name: read_shard(path) for name, path in files.items()}
        listed = {name: list_members(zip(shard.names, itertools.count())) for name, shard in shards.items()}
        self.ours = "".join({refuse_ours(files[name], members) for name, members in listed.items()})
        if len(files) == 1:  # it may be a packed folder, with all that belongs to one
            (key,) = files
            arranged = _arrange(place, shards[key], listed[key], ALL if named else split)
            found, self.classes, remarks = {key: arranged.names}, arranged.classes, arranged.remarks
            self.mark(arranged.lines)
        else:
            found = {name: sorted(filter(is_image, members.members), key=natural) for name, members in listed.items()}
        self.names, self.starts, self.sizes = list[str](), array("q"), array("q")
        self.first = list[int]()  # image of each shard
        for shard, names in found.items():
            self.first.append(len(self.names))
            numbers = [listed[shard].members[name] for name in names]
            self.starts.extend(shards[shard].starts[number] for number in numbers)
            self.sizes.extend(shards[shard].sizes[number] for number in numbers)
            self.names += names
        if not self.names:
            raise UserError(no_images_in(place, listed[self.keys[0]]))
        if len(files) > 1:
            self.classes = classes_of(self.names, self.names)
            remarks = self.classes.remarks
        self.remarks = (*([said] if said else []), *remarks)
        if any(shard.labels for shard in shards.values()):
            self.classes = self._labelled([shard.labels for shard in shards.values()])
        self.no_classes = self.classes.why_none
        packs = f" in {plural(len(files), 'tar')}" if len(files) > 1 else ""
        self.description = f"{plural(len(self.names), kind_of(self.names) + ' file')}{packs} in {place}"
        left_out = Members[int](left_out=sum((members.left_out for members in listed.values()), Counter[str]()))
        others = sum(len(members.members) for members in listed.values()) - len(self.names)
        links = sum(shard.links for shard in shards.values())
        self.description += describe_aside(left_out, others) + f" (left out {plural(links, 'link')})" * bool(links)

    def _labelled(self, labels: list[dict[str, str]]) -> Classes:
        """The classes by the labels of samples. Raises UserError where some have none."""
        found = [labels[self._shard(index)].get(_key(name)) for index, name in enumerate(self.names)]
        missing = [name for name, label in zip(self.names, found, strict=True) if label is None]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise UserError(
                f"{self.place} has no .cls, and no .json with a label, for {missing[0]}{more}: make the tar again with "
                "a label for each image, or with none"
            )
        return Classes(tuple(label for label in found if label is not None))

    def _shard(self, index: int) -> int:
        return bisect.bisect_right(self.first, index) - 1

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return f"{self.place}:{self.name_within(index)}"

    def name_within(self, index: int) -> str:
        shard = self.keys[self._shard(index)]
        return f"{shard}:{self.names[index]}" if shard else self.names[index]

    def read(self, index: int) -> Image.Image:
        shard, size = self.keys[self._shard(index)], self.sizes[index]
        if size > MAX_BYTES:
            raise UserError(f"{self.name(index)} cannot be read: it has {size:,} bytes, more than {MAX_BYTES:,}")
        hold(ROOM, size)
        data = self.bytes[shard].get().at(self.starts[index], size)
        try:
            return decode(data, self.name(index), self.max_pixels)
        except UserError:
            self.refuse_changed(shard)
            raise

    def class_of(self, index: int) -> str | None:
        return self.classes.of(index)


def _arrange(path: Path, shard: Shard, listed: Members[int], split: str) -> Arranged:
    def read(name: str, most: int) -> bytes:
        size = shard.sizes[listed.members[name]]
        if size > most:
            raise UserError(f"{path}:{name} cannot be read: it has {size:,} bytes, more than {most:,}")
        return PlainBytes(path).at(shard.starts[listed.members[name]], size)

    return arrange(listed.members, str(path), split, read=read, place=lambda name: f"{path}:{name}")


def _key(name: str) -> str:
    """What the names of a sample's files share: all up to the first dot of the last part."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


# ---- headers


def read_shard(path: Path) -> Shard:
    """What is in a tar. Raises UserError for one that is damaged, cut short, or compressed."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read_shard(file, size)
        except UserError as error:
            packed = file.seek(0) or file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
            hint = "it is compressed: uncompress it first" if packed else str(error)
            raise UserError(f"{path} cannot be read as a tar: {hint}") from error


def _read_shard(file: BinaryIO, size: int) -> Shard:
    shard, at = Shard(), 0
    known: dict[str, str] = {}  # one text for each class, not for each image
    notes: dict[str, str] = {}  # about the next member, whose header has no room for them
    while at < size:
        block = _read(file, at, _BLOCK)
        if not any(block):
            break
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise UserError(f"the header at byte {at:,} is damaged ({error})") from error
        start, length = at + _BLOCK, int(notes.get("size", header.size))
        if not 0 <= length <= size - start:
            raise UserError(f"it is cut short, or damaged: {shorten(header.name)} would have {length:,} bytes")
        at = start + -(-length // _BLOCK) * _BLOCK
        if header.type in _NOTES:
            if length > _LONGEST_NOTE:
                raise UserError(f"a header at byte {start:,} has {length:,} bytes, more than programs write")
            notes |= _NOTES[header.type](_read(file, start, length))
            continue
        if header.type == tarfile.GNUTYPE_SPARSE or any(note.startswith("GNU.sparse") for note in notes):
            raise UserError(f"{shorten(header.name)} is a sparse file: make the tar without --sparse")
        name, notes = notes.get("path", header.name), {}
        if len(name) > LONGEST or name.count("/") > DEEPEST:
            raise UserError(f"it holds {shorten(name)}, a name longer than programs write")
        shard.links += header.type in (tarfile.LNKTYPE, tarfile.SYMTYPE)
        if header.type in _FILES:
            shard.names.append(name)
            shard.starts.append(start)
            shard.sizes.append(length)
            label = _label(file, unpacked_name(name), start, length)
            if label is not None and (name.lower().endswith(".cls") or _key(name) not in shard.labels):
                shard.labels[_key(unpacked_name(name))] = known.setdefault(label, label)
    return shard


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    data = file.read(length)
    if len(data) < length:
        raise UserError("it is cut short")
    return data


def _label(file: BinaryIO, name: str, start: int, length: int) -> str | None:
    """The label in a file of a sample that has one, else None."""
    ending = name.lower().rpartition(".")[2]
    if ending == "cls" and length <= _LONGEST_CLASS:
        return checked_label(_read(file, start, length).decode(errors="surrogateescape").strip(), name)
    if ending != "json" or length > _LONGEST_NOTE:
        return None
    try:
        content = json.loads(_read(file, start, length))
    except (ValueError, RecursionError):  # it is of no use here; that an image lacks its label is said
        return None
    label = content.get("label") if isinstance(content, dict) else None
    return checked_label(str(label), name) if isinstance(label, (str, int)) and not isinstance(label, bool) else None


def _pax(data: bytes) -> dict[str, str]:
    """The records of a header of the newer format, each its length, a key and a value."""
    found, at = {}, 0
    while at < len(data):
        digits = data[at : at + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
        if not equals or not value.endswith(b"\n") or at + length > len(data):
            raise UserError("a header is damaged")
        found[key.decode(errors="replace")] = value[:-1].decode(errors="surrogateescape")
        at += length
    if not found.get("size", "0").isdecimal() or len(found.get("size", "")) > 18:
        raise UserError("a header is damaged: it gives no size")
    return found


def _long_name(data: bytes) -> dict[str, str]:
    return {"path": data.partition(b"\0")[0].decode(errors="surrogateescape")}


_NOTES: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: lambda data: {},
    tarfile.GNUTYPE_LONGNAME: _long_name,
    tarfile.GNUTYPE_LONGLINK: lambda data: {},
}
