"""What is measured of one image: its hashes, and figures by which faults are found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from sagan.system.errors import is_of_the_machine

Grey = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
Rows = npt.NDArray[np.uint16]

HASH_SIDE = 16  # bits of a row of the difference hash, and rows
FRAME = 128  # pixels of a side of the frame in which images are laid over each other
VIEWS = "whole", "top left", "top right", "bottom left", "bottom right"

MEASURED = np.dtype(
    [
        ("width", "<u4"),
        ("height", "<u4"),
        ("readable", "?"),
        ("grey", "?"),
        ("alpha", "?"),
        ("turned", "?"),
        ("pixels", "V16"),  # a digest of size and pixels
        ("rows", "<u2", (HASH_SIDE,)),  # dHash, a word for each row
        ("blocking", "<f4"),  # steps at a grid of 8 pixels, as a share of those elsewhere
        ("sharpness", "<f4"),  # steps of one pixel, as a share of those of two
        ("colour_sharpness", "<f4"),  # the same of the colours
        ("contrast", "<f4"),  # standard deviation of the brightness, of 255
        ("brightness", "<f4"),  # its mean
        ("borders", "<u4", (4,)),  # plain rows and columns: left, top, right, bottom
    ]
)

_ORIENTATION = 0x0112  # of EXIF
_THUMB = 64
_COLOURLESS = 4  # levels between the channels of a pixel, as those that JPEG leaves of grey
_MEASURED = 512  # pixels of a side in the middle on which steps are measured
_BLOCK, _LINES = 8, 6  # pixels of a block of JPEG; the fewest lines of a grid that are no chance
_FAINT = 0.1  # levels of a mean step, of an image without any
_SEEN = 3  # levels between neighbours of a small copy: less is changed by any compression
_PLAIN, _STEP = 8, 16  # levels within a border, and from it to the picture
_SHARP = 0.5  # the share of an edge's pixels at which the picture begins at once


def measure(image: Image.Image, rgb: Image.Image) -> npt.NDArray[np.void]:
    """A record of `MEASURED`, of shape (), for an image as its source has it, and in mode RGB."""
    found = np.zeros((), MEASURED)
    light, blue, red = rgb.convert("YCbCr").split()
    grey = np.asarray(light)
    found["width"], found["height"] = rgb.size
    found["readable"] = True
    found["alpha"] = image.mode == "RGBA"
    found["turned"] = _is_turned(image)
    found["grey"] = _is_grey(rgb)
    found["pixels"] = hashlib.blake2b(repr(rgb.size).encode() + rgb.tobytes(), digest_size=16).digest()
    found["rows"] = dhash(light)
    middle = _middle(light)
    found["blocking"], found["sharpness"] = blocking(middle), sharpness(middle)
    found["colour_sharpness"] = (sharpness(_middle(blue)) + sharpness(_middle(red))) / 2
    found["contrast"], found["brightness"] = grey.std(), grey.mean()
    found["borders"] = borders(grey)
    return found


def _is_turned(image: Image.Image) -> bool:
    """Whether the image's EXIF turned it; a picture that was turned keeps what its file said."""
    try:
        return image.getexif().get(_ORIENTATION) in range(2, 9)
    except Exception as error:  # as damaged as the bytes are; the decoder has said so
        if is_of_the_machine(error):
            raise
        return False


def _is_grey(rgb: Image.Image) -> bool:
    small = np.asarray(rgb.resize((_THUMB, _THUMB), Image.Resampling.BOX, reducing_gap=2.0)).astype(np.int16)
    return bool((small.max(2) - small.min(2)).max() <= _COLOURLESS)


def dhash(light: Image.Image) -> Rows:
    """The difference hash of a grey image, 16 rows of 16 bits: whether each pixel of a small copy is visibly darker
    than the one right of it (Krawetz 2013, "Kind of Like That", with 8 rows, and without "visibly")."""
    small = np.asarray(light.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BILINEAR)).astype(np.int16)
    rows: Rows = np.packbits(small[:, 1:] - small[:, :-1] > _SEEN).view(">u2").astype(np.uint16)
    return rows


def _middle(band: Image.Image) -> Values:
    left, top = (max(0, (side - _MEASURED) // 2) for side in band.size)
    return np.asarray(band.crop((left, top, *np.minimum(band.size, (left + _MEASURED, top + _MEASURED))))).astype("f4")


def blocking(grey: Values) -> float:
    """How much larger the steps between neighbours are at the lines of a grid of 8 pixels, wherever it begins, than
    elsewhere; the smaller of both directions. About 1 without a grid. JPEG quantises each block of 8x8 by itself."""
    ratios = list[float]()
    for axis in (0, 1):
        lines = np.abs(np.diff(grey, axis=axis)).mean(1 - axis)
        if len(lines) < _LINES * _BLOCK:
            return 1.0
        whole = np.median(lines[: len(lines) // _BLOCK * _BLOCK].reshape(-1, _BLOCK), axis=0)  # a frame is one line
        ratios.append(float(whole.max() / max(_FAINT, np.median(whole))))
    return min(ratios)


def sharpness(grey: Values) -> float:
    """The mean step from a pixel to the next one, as a share of that to the one after: 0.5 where brightness changes
    evenly, as in an enlarged image, 0.7 in noise; whatever the contrast."""
    near, far = ([np.abs(grey[:, by:] - grey[:, :-by]), np.abs(grey[by:] - grey[:-by])] for by in (1, 2))
    steps = sum(float(each.mean()) for each in far if each.size)
    return sum(float(each.mean()) for each in near if each.size) / steps if steps > _FAINT else 0.0


def borders(grey: Grey) -> tuple[int, int, int, int]:
    """Rows and columns of one colour at the left, top, right and bottom, which end at once: a plain ground that the
    picture begins on gradually is none."""
    left, right = (_plain_lines(lines) for lines in (grey.T, grey.T[::-1]))
    top, bottom = (_plain_lines(lines) for lines in (grey, grey[::-1]))
    return left, top, right, bottom


def _plain_lines(lines: Grey) -> int:
    """The number of first lines that are a border."""
    colour = int(np.median(lines[0]))
    for count, line in enumerate(lines):
        away = np.abs(line.astype(np.int16) - colour)
        if away.max() > _PLAIN:
            return count if (away > _STEP).mean() >= _SHARP else 0
    return 0  # a plain image has no border


def edges(light: Image.Image, around: Sequence[int]) -> Values:
    """The edges of a grey image without its borders, (5, FRAME, FRAME): how far a pixel is from the mean of those
    around. First of the whole image, made as large as the frame; then of each corner as it is, NaN if the image is
    smaller than the frame: what is laid over images of several sizes has its place at the whole of them, or a corner.
    """
    left, top, right, bottom = map(int, around)
    inner = light.crop((left, top, light.width - right, light.height - bottom))
    frames = [inner.resize((FRAME, FRAME), Image.Resampling.BILINEAR, reducing_gap=2.0)]
    width, height = inner.size
    if min(width, height) >= FRAME:
        frames += [inner.crop((x, y, x + FRAME, y + FRAME)) for y in (0, height - FRAME) for x in (0, width - FRAME)]
    found = np.full((len(VIEWS), FRAME, FRAME), np.nan, np.float32)
    for place, frame in enumerate(frames):
        grey = np.asarray(frame).astype(np.float32)
        wide = np.pad(grey, 1, mode="edge")
        found[place] = grey - (wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 4
    return found
