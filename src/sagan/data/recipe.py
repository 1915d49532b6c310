"""How an image of any size becomes a square of pixels: the crop, the size and the filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from sagan.data.sources import Source
from sagan.system.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How an image becomes ``size`` x ``size`` pixels.

    ``crop``: "square", the largest centred square; "squash", the whole image pressed into a square (what the published
    program did to LSUN); or a number of pixels such as "160", the centred square of that side (what it did to CelebA).
    ``filter``: the antialiased resampling, "bilinear" as published, or "lanczos", "bicubic", "box".
    """

    size: int
    crop: str = "square"
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size must be 1 pixel or more, got {self.size}")
        if self.crop not in CROPS and not is_pixels(self.crop):
            raise UserError(f"crop must be {', '.join(CROPS)} or a number of pixels such as 160, got {self.crop!r}")
        if self.filter not in FILTERS:
            raise UserError(f"filter must be one of {', '.join(FILTERS)}, got {self.filter!r}")


def is_pixels(crop: str) -> bool:
    return crop.isascii() and crop.isdecimal() and not crop.startswith("0")


def cut_centre(image: Image.Image, side: int) -> Image.Image:
    """The centred square of ``side`` pixels; half pixels are rounded to even, as in the published program."""
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def cut_pixels(image: Image.Image, side: int) -> Image.Image:
    """As ``cut_centre``, but UserError when the image is smaller: it is not padded."""
    if min(image.size) < side:
        raise UserError(f"it is {image.width}x{image.height}, smaller than the {side}x{side} pixels to cut out")
    return cut_centre(image, side)


CROPS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "square": lambda image: cut_centre(image, min(image.size)),
    "squash": lambda image: image,
}
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Prepared:
    """One image of the source: its pixel bytes (size, size, 3), or the reason why there are none."""

    name: str
    pixels: bytes | None
    enlarged: bool = False
    reason: str = ""


def prepare_image(source: Source, index: int, recipe: Recipe) -> Prepared:
    name = source.name(index)
    try:
        image = source.read(index)
        cut = cut_pixels(image, int(recipe.crop)) if is_pixels(recipe.crop) else CROPS[recipe.crop](image)
    except (UserError, OSError) as error:
        return Prepared(name, None, reason=str(error).removeprefix(name).lstrip(" :"))
    enlarged = min(cut.size) < recipe.size
    return Prepared(name, cut.resize((recipe.size, recipe.size), FILTERS[recipe.filter]).tobytes(), enlarged)
