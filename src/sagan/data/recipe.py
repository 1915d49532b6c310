"""How an image of any size becomes a square of pixels: the crop, the size and the filter."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from sagan.data.sources.remarks import collect_remarks
from sagan.data.sources.room import one_image
from sagan.data.sources.source import Source
from sagan.system.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How an image becomes ``size`` x ``size`` pixels.

    ``crop``: "square", the largest centred square; "squash", the whole image, stretched (the published program's for
    LSUN); or a number of pixels such as "160", the centred square of that side (the published program's for CelebA).
    ``filter``: the antialiased resampling, "bilinear" as published, or "lanczos", "bicubic", "box".
    """

    size: int
    crop: str = "square"
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size must be 1 pixel or more, got {self.size}")

    def cut(self, image: Image.Image) -> Image.Image:
        """The part of an image that is resized. Raises UserError if it is smaller than the pixels to cut out."""
        if self.crop == "squash":
            return image
        if self.crop == "square":
            return cut_centre(image, min(image.size))
        side = int(self.crop)
        if min(image.size) < side:
            raise UserError(
                f"it is {image.width}x{image.height}, smaller than the {side}x{side} pixels to cut out "
                "(--crop square takes the largest square)"
            )
        return cut_centre(image, side)


def cut_centre(image: Image.Image, side: int) -> Image.Image:
    """The centred square of ``side`` pixels; half pixels are rounded to even, as in the published program."""
    if image.size == (side, side):
        return image
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


@dataclass(frozen=True)
class Prepared:
    """One image of the source: the bytes of its pixels (size, size, 3), or the reason why it has none."""

    name: str
    within: str  # its name within the source
    pixels: bytes | None
    enlarged: bool = False
    reason: str = ""
    remarks: tuple[str, ...] = ()


def prepare_image(source: Source, index: int, recipe: Recipe) -> Prepared:
    """The image at the recipe's size, or why there is none. OSError if it cannot be reached: it is not skipped then.

    While other threads decode images too, it waits until there is room for this one (see `room`).
    """
    name = source.name(index)
    try:
        with one_image():
            return _prepared(source, index, recipe)
    except UserError as error:
        return Prepared(name, source.name_within(index), None, reason=str(error).removeprefix(name).lstrip(" :"))
    except MemoryError as error:
        error.add_note(f"it ran out at {name}: a smaller `max_pixels` skips large images; what is prepared is kept")
        raise


def _prepared(source: Source, index: int, recipe: Recipe) -> Prepared:
    with collect_remarks() as remarks:
        image = _reached(source, index)
    image = recipe.cut(image)  # the whole image is let go
    enlarged = min(image.size) < recipe.size
    resized = image.resize((recipe.size, recipe.size), Image.Resampling[recipe.filter.upper()])
    name, within = source.name(index), source.name_within(index)
    return Prepared(name, within, resized.tobytes(), enlarged, remarks=tuple(remarks))


def _reached(source: Source, index: int) -> Image.Image:
    try:
        return source.read(index)
    except OSError as error:
        error.filename = error.filename or source.name(index)
        error.add_note("what is prepared is kept, and the same command resumes from there once the image can be read")
        raise
