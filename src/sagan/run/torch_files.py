"""torch's own file format, written whole and read without running code from it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from sagan.system.errors import UserError
from sagan.system.files import write_whole


def write_torch_file(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them. The old file stays until the new one is whole on the
    disk; raises OSError, and leaves the old one, where it cannot be written."""
    try:
        write_whole(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch wraps what the file system said
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        raise cause or OSError(f"{path} cannot be written; is the disk full?") from error


def read_torch_file(path: Path) -> Any:
    """What a file of torch's holds, on the CPU, of the types above (``weights_only``).

    Raises UserError with one sentence for a torn or damaged file and for one of another kind.
    """
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file) and zipfile.ZipFile(file).testzip() is not None:  # torch checks no sums
                raise UserError("a checksum is wrong")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what torch raises for bytes that are no such file is nowhere said
            raise UserError(f"{path} is not a whole checkpoint file") from error
