"""The one place where images are decoded, and where their values get 8 bits and their number of channels."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile, _Tile
from PIL.TiffImagePlugin import TiffImageFile

from sagan.data.sources.names import FORMATS
from sagan.data.sources.own import OWN_NOTES
from sagan.data.sources.remarks import decoding, remark
from sagan.data.sources.room import Room, hold
from sagan.system.errors import UserError, is_of_the_machine, is_out_of_memory

MAX_PIXELS = 178_956_970  # of one image: what Pillow refuses beyond, 512 MiB of RGB

MAX_BYTES = 2**30  # of one image's file, unpacked from its zip

FILES, PIXELS = Room(MAX_BYTES), Room(MAX_PIXELS)  # of the images that are decoded at the same time

_BAND = 2**20  # pixels that are converted at a time

_TURNS = {  # by EXIF's orientation
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_TILE = 322, 323  # tags of TIFF: the width and height of its tiles, each of which is decoded as a whole
_BITS, _PHOTOMETRIC, _PLANES, _LARGEST = 258, 262, 284, 281  # tags of TIFF
_LARGEST_OF_BITS = {2**bits - 1 for bits in range(8, 17)}
_NEARLY_BLACK = 16  # what 4,095 of 65,535 is with 8 bits, rounded
_COLOURS = {"RGB": 3, "RGBA": 3, "RGBX": 3, "LA": 1}  # modes of 8 bits, and how many bands are no alpha
_GREY = ("1", "L", "LA", "La")
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
DEEP = "I;16"  # the mode of grey images of 16 bits
_INVERTED = "sagan white is zero"  # in the notes of an image of 16 bits
_TRANSPARENT = "transparent everywhere, so all that remains is white"
_PNG = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS: dict[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": _PNG,
    "GIF": b"GIF8",
    "BMP": b"BM",
    "WebP": b"RIFF",
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
}


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # of a JPEG, with the length of what follows
_SCAN, _END, _MOST_SCANS = b"\xff\xda", b"\xff\xd9", 500


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in ``data``, turned upright by its EXIF orientation; of an animation, the first frame.

    Its mode is L for grey, RGB, RGBA where a pixel is transparent, or `DEEP` for grey of 16 bits, whose values
    `eight_bits` maps. Colour profiles are not applied. Raises UserError naming the image when the bytes are no image, a
    damaged one, or one of more than ``max_pixels``. What else is noticed becomes a `remark`.
    """
    try:
        with decoding(name):
            return _decode_png(data, max_pixels) if data.startswith(_PNG) else _decode(data, max_pixels)
    except UnidentifiedImageError:
        raise UserError(f"{name} cannot be read: {_unidentified(data)}") from None
    except Exception as error:  # decoders raise nearly anything: SyntaxError, struct.error, ...
        if is_out_of_memory(error):  # the machine's trouble, not the image's
            raise MemoryError(f"{name}: {error}") from error
        if is_of_the_machine(error):
            raise OSError(errno.EAGAIN, f"it could not be decoded ({error})", name) from error
        raise UserError(f"{name} cannot be read: {error}") from error


def _decode_png(data: bytes, max_pixels: int) -> Image.Image:
    """Where what is beside the pixels is damaged, or larger than the 1 MiB of text or profile that Pillow takes, only
    the pixels and what tells their turn are read."""
    try:
        return _decode(data, max_pixels)
    except Exception as error:
        bare = _with_chunks(data, _PIXEL_CHUNKS)
        if isinstance(error, UserError) or is_of_the_machine(error) or bare == data:
            raise
        with contextlib.suppress(ValueError, SyntaxError, UnidentifiedImageError):  # these, too
            return _decode(_with_chunks(data, _PIXEL_CHUNKS + _TURN_CHUNKS), max_pixels)
        remark("what it tells of its turn is damaged or too large, so it is taken to be upright")
        return _decode(bare, max_pixels)


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    if data.startswith(_BEGINNINGS["JPEG"]) and data.count(_SCAN) > _MOST_SCANS:
        _refuse_scans(data)
    image: Image.Image = Image.open(io.BytesIO(data), formats=_formats())
    key, mark = OWN_NOTES.get(image.format or "", ("", ""))
    if key and image.info.get(key) == mark:
        raise UserError("it is a picture that sagan wrote, such as a grid of samples")
    size = image.size
    if isinstance(image, TiffImageFile):
        _name_planes(image)
        size = max(size, (_first(image.tag_v2.get(_TILE[0]), 0), _first(image.tag_v2.get(_TILE[1]), 0)), key=math.prod)
    refuse_too_large(*size, max_pixels)
    cut = isinstance(image, ImageFile) and image.mode in _COLOURS and any(map(_has_16_bits, image.tile))
    image.load()
    return as_it_is(_upright(_of_16_bits(image) if cut else _as_meant(image)))


def _refuse_scans(data: bytes) -> None:
    """Raises UserError for a JPEG of more scans than any program writes, of which each takes as long as an image."""
    at, scans = 2, 0
    while (marker := _MARKER.search(data, at)) and not marker[0].endswith(_END):
        scans += marker[0].endswith(_SCAN)
        if scans > _MOST_SCANS:
            raise UserError(f"it is stored in more than {_MOST_SCANS} scans, and a JPEG has about ten at most")
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def refuse_too_large(width: int, height: int, max_pixels: int) -> None:
    """Waits until there is room for an image of this size. Raises UserError for one of too many pixels."""
    if width * height > max_pixels:
        raise UserError(f"it has {width:,}x{height:,} pixels, more than the {max_pixels:,} of `max_pixels`")
    hold(PIXELS, width * height)


@functools.cache
def _formats() -> list[str]:
    """Pillow's names of the formats that are read; the others (PostScript starts a program) are not tried."""
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    Image.init()
    return [kind for kind in {kind.upper() for kind in FORMATS.values()} if kind in Image.OPEN]


def _as_meant(image: Image.Image) -> Image.Image:
    """The image with what its file says about its pixels, and Pillow does not heed."""
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")  # the fourth byte is unused
    if image.mode.startswith("I;16") and isinstance(image, TiffImageFile):
        tags, found = image.tag_v2, levels_of(image)[1]
        bits = min(_first(tags.get(_BITS), 16), 16)
        stated = _first(tags.get(_LARGEST), 0)  # only where it tells the bits: else it is a finding about this image
        largest = stated if stated in _LARGEST_OF_BITS and found <= stated < 2**bits else 2**bits - 1
        white_is_zero = tags.get(_PHOTOMETRIC) == 0
        if largest == 65535:
            image.info[_INVERTED] = white_is_zero
            return image
        return _grey(image, lambda values: _scaled(largest - values if white_is_zero else values, largest))
    return image


def _has_16_bits(tile: _Tile) -> bool:
    """Whether a tile of Pillow's holds colours of 16 bits, of which Pillow keeps the higher 8."""
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if tile.codec_name in ("ppm", "ppm_plain"):
        return isinstance(args[-1], int) and args[-1] >= 4096 * 4
    return ";16" in str(args[0])


def _of_16_bits(image: Image.Image) -> Image.Image:
    """An image with colours (or grey and alpha) of which Pillow kept the higher 8 of 16 bits, as it is meant."""
    clear = image.info.get("transparency")
    if isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    colours = image.getbands()[: _COLOURS[image.mode]]
    if not any(value for band in colours for value in image.getchannel(band).histogram()[_NEARLY_BLACK + 1 :]):
        _remark_12_bits("colour" if len(colours) > 1 else "grey")
    return image


def _remark_12_bits(what: str, nearly: str = "black") -> None:
    remedy = "`range` auto shows them" if what == "grey" else "save them scaled"
    remark(f"16-bit {what} with no value above 4,095, which is nearly {nearly}: if these are 12 bits, {remedy}")


def _first(tag: Any, default: int) -> int:
    """The value of a tag, which may hold several or none."""
    value = tag[0] if isinstance(tag, tuple) and tag else tag
    return value if isinstance(value, int) and value > 0 else default


def _name_planes(image: TiffImageFile) -> None:
    """Pillow reads planes of 16 bits as if they had 8, unless they are compressed."""
    if image.tag_v2.get(_PLANES) != 2 or _first(image.tag_v2.get(_BITS), 8) != 16:
        return
    ending = ";16L" if image.tag_v2.prefix == b"II" else ";16B"
    image.tile = [
        tile._replace(args=(tile.args[0] + ending, *tile.args[1:]))
        if tile.codec_name == "raw" and isinstance(tile.args, tuple) and len(str(tile.args[0])) == 1
        else tile
        for tile in image.tile
    ]


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its orientation says, whatever else its EXIF holds."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception as error:  # as damaged as the bytes are
        if is_out_of_memory(error):
            raise
        remark(f"its EXIF cannot be read ({error}), so it is taken to be upright")
        return image
    turn = _TURNS.get(_number(orientation))
    return image if turn is None else image.transpose(turn)


def _number(value: Any) -> int:
    """A whole number in EXIF of any type, of several the first; 0 for anything else."""
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, bytes) and len(value) == 1 and value < b"0":
        value = value[0]
    with contextlib.suppress(ValueError, TypeError, ArithmeticError):
        if int(value) == float(value):
            return int(value)
    return 0


def as_it_is(image: Image.Image) -> Image.Image:
    """An image of any mode of Pillow's in one of the modes of `decode`.

    32-bit integers are taken for 16-bit values, as Pillow loads some 16-bit files that way. Floating-point images have
    no known range and raise UserError.
    """
    if image.mode == "F":
        raise UserError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _deep(image)
    plain = "L" if image.mode in _GREY else "RGB"
    if image.mode in _ALPHA or "transparency" in image.info:
        image = _as_mode(image, "RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            return image
    return _as_mode(image, plain)


def eight_bits(image: Image.Image, levels: tuple[int, int] | None = None) -> Image.Image:
    """An image of `decode` with 8 bits a channel. ``levels``: the values of 16 bits that become black and white, by
    default 0 and 65535; others have no effect on an image of 8 bits."""
    if image.mode != DEEP:
        return image
    low, high = levels or (0, 65535)
    if levels is None:
        _remark_dark(image)
    grey = _grey(image, lambda values: _scaled(values - low, high - low))
    if (clear := _clear(image)) is None:
        return grey
    grey = grey.convert("RGBA")
    grey.putalpha(_grey(image, lambda values: np.where(values == clear, 0, 255)))
    return grey


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """An image of 8 bits with 1 channel (mode L), 3 (RGB; what is transparent is laid over white) or 4 (RGBA)."""
    if channels == 4:
        return _as_mode(image, "RGBA")
    if image.mode == "RGBA":
        image = _over_white(image)
    return _as_mode(image, "L" if channels == 1 else "RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of `decode` in mode RGB, where only colours are of use."""
    return to_channels(eight_bits(image), 3)


def channels_of(image: Image.Image, known: int = 1) -> int:
    """How many channels an image of `decode` needs: 4 if a pixel is transparent, 3 if one has a colour, else 1. Where 3
    are ``known`` to be needed by others, its colours are not looked at."""
    if image.mode == "RGBA" or (image.mode == DEEP and _clear(image) is not None):
        return 4
    if image.mode != "RGB" or known >= 3:
        return known
    red, green, blue = image.split()
    grey = all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))
    return 1 if grey else 3


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _deep(image: Image.Image) -> Image.Image:
    """A grey image of 16-bit values in any mode, in mode I;16, with 0 as black. UserError outside 0..65535."""
    low, high = levels_of(image)
    if low < 0 or high > 65535:
        raise UserError(
            f"its pixels run from {low} to {high}, outside the 0..65535 of a 16-bit image; save it with 8 or 16 bits"
        )
    values = np.asarray(image).astype(np.uint16)
    made = Image.fromarray(65535 - values if image.info.get(_INVERTED) else values)
    made.info = dict(image.info)
    return made


def _remark_dark(image: Image.Image) -> None:
    low, high = levels_of(image)
    inverted = image.info.get(_INVERTED)
    if 0 < (65535 - low if inverted else high) < 4096:
        _remark_12_bits("grey", "white" if inverted else "black")


def _clear(image: Image.Image) -> int | None:
    """The value of 16 bits that is transparent, if it occurs in the image."""
    clear = image.info.get("transparency")
    found = isinstance(clear, int) and any((_values(band) == clear).any() for band in _bands(image))
    return clear if found else None


def levels_of(image: Image.Image) -> tuple[int, int]:
    """The smallest and the largest value of a grey image."""
    ends = [(int(values.min()), int(values.max())) for values in map(_values, _bands(image))]
    return min(low for low, _ in ends), max(high for _, high in ends)


Values = np.ndarray[Any, np.dtype[np.int64]]


def _scaled(values: Values, largest: int) -> Values:
    """Grey values from 0 to ``largest`` as 0 to 255, rounded; exact for 65535, where 255 is v / 257."""
    return (values.clip(0, largest) * 255 + largest // 2) // largest


def _grey(image: Image.Image, change: Callable[[Values], Values]) -> Image.Image:
    """The image with its values changed, in mode L."""
    return _joined(image, "L", (Image.fromarray(change(_values(band)).astype(np.uint8)) for band in _bands(image)))


def _values(image: Image.Image) -> Values:
    return np.asarray(image).astype(np.int64)


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """The image in pieces from top to bottom, so that what is computed from it takes little memory."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _joined(image: Image.Image, mode: str, bands: Iterator[Image.Image]) -> Image.Image:
    """A new image of the size of another, from its bands."""
    made, top = Image.new(mode, image.size), 0
    for band in bands:
        made.paste(band, (0, top))
        top += band.height
    return made


def _over_white(image: Image.Image) -> Image.Image:
    """The image laid over a white ground, mode RGB."""
    opaque = False

    def laid(band: Image.Image) -> Image.Image:
        nonlocal opaque
        layer = band.convert("RGBA")
        opaque = opaque or layer.getchannel("A").getextrema()[1] != 0
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")

    made = _joined(image, "RGB", map(laid, _bands(image)))
    if not opaque:
        remark(_TRANSPARENT)
    return made


def _unidentified(data: bytes) -> str:
    """Why Pillow finds no image in the bytes."""
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp":
        kind = "AVIF" if data[8:12] in (b"avif", b"avis") else "HEIC"
        remedy = "install Pillow 11.3 or newer" if kind == "AVIF" else "pip install pillow-heif, or save it as JPEG"
        return f"it looks like {kind}, which is not read here or is damaged ({remedy})"
    if kind := next((kind for kind, beginning in _BEGINNINGS.items() if data.startswith(beginning)), ""):
        return f"it begins like {kind}, but is damaged, cut short or of a kind that Pillow does not read"
    return "it holds no image in a known format"


_PIXEL_CHUNKS = b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"  # of a PNG
_TURN_CHUNKS = b"eXIf", b"zTXtRaw profile type exif\0", b"tEXtRaw profile type exif\0", b"iTXtXML:com.adobe.xmp\0"


def _with_chunks(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    """A PNG with only those chunks whose kind and content begin in one of these ways."""
    chunks, at = [data[:8]], 8
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data.startswith(kept, at + 4):
            chunks.append(data[at:end])
        at = end
    return b"".join(chunks)
