"""The one conversion between a network's images and pixels, each way, and grids of samples as files.

Pixels are uint8 with 1 channel (grey), 3 (red, green, blue) or 4 (and alpha, straight). A network sees and draws the
last with its colours premultiplied by alpha, so that the colour of what is transparent has no influence.
"""

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
    """A network's images (..., channels, h, w) in [-1, 1] (values outside are clipped) as pixels, rounded to the
    nearest level; same shape."""
    if images.ndim > 2 and images.shape[-3] == 4:
        unit = images.float().add(1).div(2).clamp(0, 1)
        colours, alpha = unit.split([3, 1], dim=-3)
        rounded = alpha.mul(255).round()  # what the colours will be multiplied by
        straight = colours.mul(255 * 255).div(rounded.clamp_min(1)).clamp_max(255) * (rounded > 0)
        return torch.cat([straight, rounded], dim=-3).round().to(torch.uint8)
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """Pixels (..., channels, h, w), uint8, as a network's images: float32 in [-1, 1], in the same memory format."""
    images = pixels.float().div_(127.5).sub_(1)
    if pixels.ndim > 2 and pixels.shape[-3] == 4:
        colours, alpha = images.split([3, 1], dim=-3)
        colours.add_(1).mul_(alpha.add(1).div_(2)).sub_(1)
    return images


def on_checkerboard(pixels: Tensor) -> Tensor:
    """Pixels (n, 4, h, w) over grey and white squares, as (n, 3, h, w); those without alpha as they are."""
    if pixels.shape[1] != 4:
        return pixels
    height, width = pixels.shape[2:]
    y, x = (torch.arange(side, device=pixels.device) // 8 for side in (height, width))
    ground = torch.where((y[:, None] + x) % 2 == 0, 255.0, 192.0)
    colours, alpha = pixels.float().split([3, 1], dim=1)
    return ground.add((colours - ground).mul(alpha.div(255))).round().to(torch.uint8)


def as_rgb(pixels: Tensor) -> Tensor:
    """Pixels (n, channels, h, w) as a film shows them, (n, 3, h, w): on a checkerboard, and grey as a colour."""
    pixels = on_checkerboard(pixels)
    return pixels.expand(-1, 3, -1, -1)


def grid(images: Tensor, *, columns: int = 8, padding: int = 2) -> np.ndarray:
    """Images (n, channels, h, w) uint8 as one picture, row by row, on black: (rows * (h + padding) + padding, ..., 1 or
    3) uint8. What is transparent lies on a checkerboard.

    The layout is that of the published program's samples: 64 images of 64x64 give 530x530 pixels.
    """
    images = on_checkerboard(images)
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    picture = np.zeros((rows * (height + padding) + padding, columns * (width + padding) + padding, channels), np.uint8)
    for index, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        picture[top : top + height, left : left + width] = image
    return picture


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text below it."""
    whole = as_picture(np.pad(picture, ((0, 20), (0, 0), (0, 0))))
    ImageDraw.Draw(whole).text((6, len(picture) + 4), text, fill="white")
    return np.asarray(whole).reshape(whole.height, whole.width, -1)


def as_picture(pixels: np.ndarray) -> Image.Image:
    """Pixels (height, width, channels), uint8, as Pillow's image in mode L, RGB or RGBA."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


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
    """Writes (height, width, channels) uint8 as PNG, completely or not at all. ``software``: kept in its metadata.
    ``sync``: flushes it to the disk, as `write_whole` does."""
    notes = None
    if software is not None:
        notes = PngInfo()
        notes.add_text("Software", software)
    write_whole(path, lambda file: as_picture(picture).save(file, format="PNG", pnginfo=notes), sync=sync)
