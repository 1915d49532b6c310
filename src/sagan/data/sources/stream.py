"""Bytes at any place of a file, also of one that is compressed as a whole and is not unpacked to the disk."""

from __future__ import annotations

import errno
import threading
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sagan.system.errors import UserError
from sagan.system.files import open_regular

if TYPE_CHECKING:
    from zlib import _Decompress

GZIP, DEFLATE = zlib.MAX_WBITS | 16, -zlib.MAX_WBITS
_PACKED, _UNPACKED = 2**16, 2**20  # bytes that are unpacked at once, before and after
_BEST = 1032  # bytes that deflate packs in one, at most
_POINTS, _CLOSEST = 256, 2**22  # from which unpacking can begin again: at most, and their least distance in bytes
_KEPT = 2**22  # of the last bytes that were unpacked: threads ask for neighbours in any order


class Bytes(Protocol):
    """Bytes that threads may ask for at once."""

    def at(self, offset: int, size: int) -> bytes:
        """So many bytes. Raises UserError where they are damaged; OSError where the file has become shorter."""
        ...


class PlainBytes:
    """The bytes of a file from ``start`` on."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path, self.start, self.file, self.lock = path, start, open_regular(path), threading.Lock()
        weakref.finalize(self, self.file.close)

    def at(self, offset: int, size: int) -> bytes:
        with self.lock:
            self.file.seek(self.start + offset)
            data = self.file.read(size)
        if len(data) < size:
            raise OSError(errno.ESTALE, "the file became shorter while it was read", str(self.path))
        return data


@dataclass
class _Point:
    """A place from which unpacking can go on: in what is packed, in what it unpacks to, and the decoder there."""

    packed: int
    unpacked: int
    decoder: _Decompress

    def copy(self) -> _Point:
        return _Point(self.packed, self.unpacked, self.decoder.copy())


class InflatedBytes:
    """The ``size`` bytes that ``packed`` bytes of a file from ``start`` on unpack to, which deflate compressed.

    Memory does not grow with the file: unpacking goes on from where it is, or from the last of some hundred points
    before what is asked for. ``at`` raises UserError where there are fewer bytes and, for the last of bytes that were
    all seen in turn, where their checksum is not ``crc``.
    """

    def __init__(self, path: Path, start: int, packed: int, size: int, crc: int, wbits: int = DEFLATE) -> None:
        if size > packed * _BEST + _UNPACKED:
            raise UserError(f"it says that {packed:,} bytes unpack to {size:,}, more than deflate can pack in them")
        self.start, self.packed, self.size, self.crc = start, packed, size, crc
        self.file, self.lock = open_regular(path), threading.Lock()
        weakref.finalize(self, self.file.close)
        self.distance = max(_CLOSEST, size // _POINTS)
        self.points = [_Point(0, 0, zlib.decompressobj(wbits))]
        self.now = self.points[0].copy()
        self.last = bytearray()  # the bytes before ``now``
        self.summed = self.sum = 0  # of how many bytes the checksum is known

    def at(self, offset: int, size: int) -> bytes:
        if offset + size > self.size:
            raise UserError(f"it would end behind the {self.size:,} bytes that there are")
        with self.lock:
            if not self.now.unpacked - len(self.last) <= offset <= self.now.unpacked:
                before = [point for point in self.points if point.unpacked <= offset]
                if not before[-1].unpacked <= self.now.unpacked <= offset:
                    self.now = before[-1].copy()
                    self.last.clear()
            while self.now.unpacked < offset + size:
                self._unpack(keep=max(_KEPT, size + _UNPACKED))
            if offset + size == self.summed == self.size and self.sum != self.crc:
                raise UserError("its checksum is wrong")
            start = offset - (self.now.unpacked - len(self.last))
            return bytes(self.last[start : start + size])

    def _unpack(self, keep: int) -> None:
        """Unpacks some more."""
        now = self.now
        if now.unpacked - self.points[-1].unpacked >= self.distance:
            self.points.append(now.copy())
        self.file.seek(self.start + now.packed)
        packed = self.file.read(min(_PACKED, self.packed - now.packed))
        try:
            made = now.decoder.decompress(packed, min(_UNPACKED, self.size - now.unpacked))
        except zlib.error as error:
            raise UserError(f"it is damaged ({error})") from error
        if not made and not packed:
            raise UserError(f"it unpacks to {now.unpacked:,} bytes instead of {self.size:,}")
        if now.unpacked == self.summed:
            self.sum, self.summed = zlib.crc32(made, self.sum), self.summed + len(made)
        now.packed += len(packed) - len(now.decoder.unconsumed_tail)
        if now.decoder.eof and now.unpacked + len(made) < self.size:
            raise UserError(f"it unpacks to {now.unpacked + len(made):,} bytes instead of {self.size:,}")
        now.unpacked += len(made)
        self.last += made
        del self.last[: max(0, len(self.last) - keep)]
