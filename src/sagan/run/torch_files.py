"""torch's own file format, written completely or not at all, and read without running code from the file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from sagan.system.errors import UserError
from sagan.system.files import write_whole


def write_torch_file(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them. The old file stays until the new one is complete on the
    disk. Raises OSError if it cannot be written."""
    try:
        write_whole(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch wraps the error of the file system
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        raise cause or OSError(f"{path} cannot be written; is the disk full?") from error


def read_torch_file(path: Path) -> Any:
    """The content of a torch file, on the CPU; only the types above are read (``weights_only``).

    Raises UserError for a torn or damaged file and for one of another kind.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a checkpoint file")
    with path.open("rb") as file:
        try:
            _check_archive(file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch does not document what it raises for other files
            raise UserError(f"{path} is not a whole checkpoint file") from error


def _check_archive(file: BinaryIO) -> None:
    """Raises an error unless every member of torch's zip is uncompressed and matches its checksum: torch checks
    neither, and a compressed member may unpack to any size."""
    if zipfile.is_zipfile(file):
        archive = zipfile.ZipFile(file)
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise UserError("a member is compressed")
        if archive.testzip() is not None:
            raise UserError("a checksum is wrong")
