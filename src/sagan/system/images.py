"""The one conversion from a network's images to pixels, and grids of samples as files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.files import read_regular, write_whole


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] (values outside are clipped) as uint8, rounded to the nearest level; same shape."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def grid(images: Tensor, *, columns: int = 8, padding: int = 2) -> np.ndarray:
    """Images (n, 3, h, w) uint8 as one picture, row by row, on black: (rows * (h + padding) + padding, ..., 3) uint8.

    The layout is that of the published program's samples: 64 images of 64x64 give 530x530 pixels.
    """
    count, _, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    picture = np.zeros((rows * (height + padding) + padding, columns * (width + padding) + padding, 3), np.uint8)
    for index, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        picture[top : top + height, left : left + width] = image
    return picture


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text below it."""
    whole = Image.fromarray(np.pad(picture, ((0, 20), (0, 0), (0, 0))))
    ImageDraw.Draw(whole).text((6, len(picture) + 4), text, fill="white")
    return np.asarray(whole)


LARGEST_PICTURE = 2**27  # pixels of a picture that this program wrote


def read_png(path: Path) -> Image.Image:
    """A picture that this program wrote, in mode RGB. Raises UserError for anything else, whatever its name says."""
    data = read_regular(path)
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG"])  # others start programs (PostScript)
        if picture.width * picture.height <= LARGEST_PICTURE:
            return picture.convert("RGB")
        raise UserError(f"it has {picture.width:,}x{picture.height:,} pixels")
    except Exception as error:  # decoders raise nearly anything
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} is not a picture that sagan wrote ({error})") from error


def save_png(picture: np.ndarray, path: Path, *, software: str | None = None, sync: bool = False) -> None:
    """Writes (height, width, 3) uint8 as PNG, completely or not at all. ``software``: kept in its metadata. ``sync``:
    flushes it to the disk, as `write_whole` does."""
    notes = None
    if software is not None:
        notes = PngInfo()
        notes.add_text("Software", software)
    write_whole(path, lambda file: Image.fromarray(picture).save(file, format="PNG", pnginfo=notes), sync=sync)
