"""torch's file format, read without running code from the file and without more memory than the file has bytes."""

from __future__ import annotations

import errno
import pickletools
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.files import open_regular, write_whole
from sagan.system.typed import shorten

_KINDS = re.compile(  # what the pickle of a file of tensors names; what else torch allows may take any amount of memory
    r"collections OrderedDict|torch (Size|device|(cuda )?\w+Storage|(float|bfloat|complex|u?int|bool)\w*)"
    r"|torch\.cuda \w+Storage|torch\.storage \w+Storage|torch\.serialization _get_layout"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|sparse_tensor|meta_tensor_no_storage)"
)
_PICKLES = 4  # at the start of a file of torch before 1.6: magic number, version, machine, content


def write_torch_file(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them. The old file stays until the new one is complete on the
    disk. Raises OSError if it cannot be written."""
    try:
        write_whole(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch wraps the error of the file system
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        raise cause or OSError(f"{path} cannot be written; is the disk full?") from error


def read_torch_file(path: Path, what: str = "checkpoint") -> Any:
    """The content of a torch file, on the CPU; only the types above are read (``weights_only``).

    Raises UserError for a torn or damaged file and for one of another kind than ``what``.
    """
    with open_regular(path, f"{what} file") as file:
        try:
            _check(file)
            _check_sums(file)
            file.seek(0)
            with warnings.catch_warnings(action="ignore"):  # about TorchScript, which is refused
                return torch.load(file, map_location="cpu", weights_only=True)
        except UserError as error:
            raise UserError(f"{path} is not a whole {what} file: {error}") from error
        except Exception as error:  # torch does not document what it raises for other files
            if is_out_of_memory(error):
                raise
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a seek by a torn archive's offset
                error.filename = error.filename or str(path)
                raise
            raise UserError(f"{path} is not a whole {what} file") from error


def read_without_tensors(path: Path) -> Any:
    """The content of a torch file, its tensors without their numbers; None where it is torn or of another kind."""
    try:
        with open_regular(path, "checkpoint file") as file:
            _check(file)
        return torch.load(path, map_location="meta", mmap=True, weights_only=True)
    except Exception as error:  # torch does not document what it raises for other files
        if is_out_of_memory(error):
            raise
        return None


def _check(file: BinaryIO) -> None:
    """Raises an error unless the file is one that `torch.save` could have written, as far as this can be known before
    it is unpacked: torch looks at none of it."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        for _ in range(_PICKLES):
            _check_pickle(file)
        return
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise UserError("a part of it is compressed")
    length = file.seek(0, 2)
    stored = sum(member.file_size for member in members)
    if archive.start_dir != _directory(file) or stored > length or any(m.file_size != m.compress_size for m in members):
        raise UserError("its directory is damaged")
    for member in members:
        if member.filename.endswith("/data.pkl"):
            _check_pickle(archive.read(member))


def _directory(file: BinaryIO) -> int:
    """Where a zip's directory starts, by the field that torch reads; zipfile infers it, and a file could show each of
    them another directory. -1 where the end is not as torch writes it."""
    length = file.seek(0, 2)
    file.seek(max(0, length - 98))
    end = file.read().rjust(
        98, b"\0"
    )  # 56 bytes of the large directory's end, 20 of where that is, 22 of the usual end
    if end[76:80] != b"PK\5\6" or end[96:] != b"\0\0":  # a comment
        return -1
    if end[56:60] != b"PK\6\7":
        return int(struct.unpack("<L", end[92:96])[0])
    place, start = struct.unpack("<Q", end[64:72])[0], struct.unpack("<Q", end[48:56])[0]
    return int(start) if place == length - 98 and end[:4] == b"PK\6\6" else -1


def _check_pickle(pickled: bytes | BinaryIO) -> None:
    """Raises UserError where a pickle names anything but tensors and their containers."""
    named = (argument for code, argument, _ in pickletools.genops(pickled) if "GLOBAL" in code.name)
    for name in named:
        if not isinstance(name, str) or _KINDS.fullmatch(name) is None:
            raise UserError(f"it holds {shorten(name)}, and may hold tensors, numbers and text only")


def _check_sums(file: BinaryIO) -> None:
    """Raises UserError where a part of a zip does not match its checksum."""
    if zipfile.is_zipfile(file):
        damaged = zipfile.ZipFile(file).testzip()
        if damaged is not None:
            raise UserError(f"the checksum of {shorten(damaged)} is wrong")
