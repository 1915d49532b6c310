"""The one place where images are decoded to RGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sagan.system.errors import UserError


def decode(data: bytes, name: str) -> Image.Image:
    """The RGB image in ``data``, rotated by its EXIF orientation; of an animation, the first frame.

    Colour profiles are not applied. Raises UserError, naming the image, if it is damaged or the bytes are not an image.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)
    except UnidentifiedImageError:
        what = "it holds no image in a known format" if data else "the file is empty"
        raise UserError(f"{name} cannot be read: {what}") from None
    except MemoryError:  # not the image's fault
        raise
    except Exception as error:  # decoders raise nearly anything: SyntaxError, struct.error, ...
        raise UserError(f"{name} cannot be read: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB, 8 bits a channel.

    Transparent images (alpha, or a transparent palette entry) are composited over white. 16-bit grey is scaled so that
    65535 becomes 255; 32-bit integers are taken for 16-bit values, as Pillow loads some 16-bit files that way.
    Floating-point images have no known range and raise UserError.
    """
    if image.mode == "F":
        raise UserError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16-bit values (mode I or I;16) as mode L: v / 257, rounded. UserError outside 0..65535."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(
            f"its pixels range from {values.min()} to {values.max()}, outside the 0..65535 of a 16-bit image; "
            f"save it with 8 or 16 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def over_white(image: Image.Image) -> Image.Image:
    """The image composited over white, mode RGB."""
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
