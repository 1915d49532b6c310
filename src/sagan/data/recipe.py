"""How an image of any size becomes one of a data set: its channels, the crop, the size and the filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image

from sagan.core.shapes import CHANNELS, ImageShape
from sagan.data.sources.decode import eight_bits, to_channels
from sagan.data.sources.remarks import collect_remarks
from sagan.data.sources.room import one_image
from sagan.data.sources.source import Source
from sagan.system.errors import UserError

_LATER: dict[str, object] = {"channels": CHANNELS, "range": None}  # what earlier versions did, and had no name for

Size = tuple[int, int]  # width and height, as Pillow has them


@dataclass(frozen=True)
class Recipe:
    """How an image becomes one of ``size``: 64, or "64x96" for height x width.

    ``crop``: "square", the largest centred square; "fill", the largest centred rectangle of the size's aspect;
    "squash", the whole image, stretched (the published program's for LSUN); "pad", the whole image on black,
    transparent where there is alpha, or "pad:#rrggbb" on a colour; or a number of pixels such as "160", the centred
    rectangle of the aspect with that shorter side (the published program's for CelebA).
    ``filter``: the antialiased resampling, "bilinear" as published, or "lanczos", "bicubic", "box".
    ``channels``: 1 for grey, 3, or 4 with alpha; "auto": the most that an image needs, which `settled` replaces.
    ``range``: the values of 16-bit images that become black and white; None: 0 and 65535; "auto": `settled` decides.
    """

    size: int | str
    crop: str = "square"
    filter: str = "bilinear"
    channels: int | Literal["auto"] = CHANNELS
    range: tuple[int, int] | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        shape = ImageShape.of(self.size)
        object.__setattr__(self, "size", shape.size)
        if shape.height == shape.width and self.crop == "fill":
            object.__setattr__(self, "crop", "square")
        if shape.height != shape.width and self.crop == "square":
            raise UserError(
                f"`crop` square gives square images, and the size is {shape}: fill takes the largest part of its aspect"
            )

    @property
    def shape(self) -> ImageShape:
        """Of the images, once their channels are settled."""
        assert self.channels != "auto", "it is settled first"
        return ImageShape.of(self.size, self.channels)

    @property
    def key(self) -> dict[str, Any]:
        """What tells the recipes of one source apart; as earlier versions wrote it for what they could do."""
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != _LATER[name]}

    def apply(self, image: Image.Image) -> tuple[Image.Image, bool]:
        """An image of 8 bits as one of the recipe's shape, and whether it was enlarged. Raises UserError if it is
        smaller than the pixels to cut out."""
        image = to_channels(image, self.shape.channels)
        if self.crop.startswith("pad"):
            return self._padded(image)
        image = self._cut(image)  # the whole image is let go
        return self._resized(image, self._size), image.width < self._size[0] or image.height < self._size[1]

    @property
    def _size(self) -> Size:
        return self.shape.width, self.shape.height

    def _cut(self, image: Image.Image) -> Image.Image:
        if self.crop == "squash":
            return image
        if self.crop in ("square", "fill"):
            return cut_centre(image, *_of_aspect(image.size, self._size))
        shape, shorter = self.shape, int(self.crop)
        wanted = round(shorter * shape.width / shape.shorter), round(shorter * shape.height / shape.shorter)
        if image.width < wanted[0] or image.height < wanted[1]:
            largest = "square takes the largest square" if shape.width == shape.height else "fill takes what fits"
            raise UserError(
                f"it is {image.width}x{image.height}, smaller than the {wanted[0]}x{wanted[1]} pixels to cut out "
                f"(--crop {largest})"
            )
        return cut_centre(image, *wanted)

    def _padded(self, image: Image.Image) -> tuple[Image.Image, bool]:
        """The whole image on a ground, as large as it fits; never larger than the result, whatever its aspect."""
        width, height = _of_aspect(self._size, image.size)
        ground = Image.new(image.mode, self._size, self.crop.partition(":")[2] or 0)
        ground.paste(
            self._resized(image, (width, height)), ((self._size[0] - width) // 2, (self._size[1] - height) // 2)
        )
        return ground, image.width < width or image.height < height

    def _resized(self, image: Image.Image, size: Size) -> Image.Image:
        return image.resize(size, Image.Resampling[self.filter.upper()])


def _of_aspect(size: Size, aspect: Size) -> Size:
    """The largest width and height of an aspect that fit into a size."""
    (width, height), (across, down) = size, aspect
    if width * down > height * across:
        return max(1, round(height * across / down)), height
    return width, max(1, round(width * down / across))


def cut_centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """The centred rectangle of this size; half pixels are rounded to even, as in the published program."""
    if image.size == (width, height):
        return image
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class Prepared:
    """One image of the source: the bytes of its pixels (height, width, channels), or the reason why it has none."""

    name: str
    within: str  # its name within the source
    pixels: bytes | None
    enlarged: bool = False
    reason: str = ""
    remarks: tuple[str, ...] = ()


def unchecked(image: Image.Image) -> None:
    """A check of images that takes any."""


def prepare_image(
    source: Source, index: int, recipe: Recipe, check: Callable[[Image.Image], None] = unchecked
) -> Prepared:
    """The image as the recipe makes it, or why there is none. OSError if it cannot be reached: it is not skipped then.

    While other threads decode images too, it waits until there is room for this one (see `room`). ``check`` sees the
    image as the source has it, and may raise.
    """
    name = source.name(index)
    try:
        with one_image():
            return _prepared(source, index, recipe, check)
    except UserError as error:
        return Prepared(name, source.name_within(index), None, reason=str(error).removeprefix(name).lstrip(" :"))
    except MemoryError as error:
        error.add_note(f"it ran out at {name}: a smaller `max_pixels` skips large images; what is prepared is kept")
        raise


def _prepared(source: Source, index: int, recipe: Recipe, check: Callable[[Image.Image], None]) -> Prepared:
    assert recipe.range != "auto", "it is settled first"
    with collect_remarks() as remarks:
        image = _reached(source, index)
        check(image)
        made, enlarged = recipe.apply(eight_bits(image, recipe.range))
    name, within = source.name(index), source.name_within(index)
    return Prepared(name, within, made.tobytes(), enlarged, remarks=tuple(remarks))


def _reached(source: Source, index: int) -> Image.Image:
    try:
        return source.read(index)
    except OSError as error:
        error.filename = error.filename or source.name(index)
        error.add_note("what is prepared is kept, and the same command resumes from there once the image can be read")
        raise
