"""The shape of an image, and of the maps that a network makes it from."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from sagan.system.errors import UserError

CHANNELS = 3  # red, green and blue
SMALLEST_SIDE, LARGEST_SIDE = 16, 8192  # of images that networks are built for


@dataclass(frozen=True)
class ImageShape:
    """Channels, height and width of an image; as text ``64x64``.

    Networks double a first map until it is as large as the image. The map's shorter side is from 4 to 7: a smaller one
    has no room for what a 3x3 convolution sees around a pixel, and a larger one would leave too much to the first
    layer. So with n = floor(log2(shorter side / 4)) both sides must be divisible by 2^n, and the first map is
    (height / 2^n) x (width / 2^n): 4x4 for 64x64, 6x6 for 96x96, 4x6 for 64x96, 5x7 for 80x112.

    The ``size`` of a map is its shorter side. The maps of one network differ in it, and have the image's aspect.
    """

    channels: int
    height: int
    width: int

    @classmethod
    def square(cls, size: int) -> ImageShape:
        """An RGB image of ``size`` x ``size`` pixels."""
        return cls(CHANNELS, size, size)

    @classmethod
    def of(cls, size: int | str, channels: int = CHANNELS) -> ImageShape:
        """An image of a size in words: 64, or "64x96" for height x width. Raises UserError for anything else."""
        sides = re.fullmatch("([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", str(size))
        if sides is None:
            raise UserError(f"`imsize` must be a size such as 64, or 64x96 for height x width, got {str(size)[:40]!r}")
        return cls(channels, int(sides[1]), int(sides[2] or sides[1]))

    @property
    def size(self) -> int | str:
        """The size in words: 64 for a square, else ``64x96``."""
        return self.height if self.height == self.width else str(self)

    @property
    def chw(self) -> tuple[int, int, int]:
        """Channels, height, width: the order of tensors."""
        return self.channels, self.height, self.width

    @property
    def hwc(self) -> tuple[int, int, int]:
        """Height, width, channels: the order of files."""
        return self.height, self.width, self.channels

    @property
    def numel(self) -> int:
        """The number of values in an image."""
        return self.channels * self.height * self.width

    @property
    def shorter(self) -> int:
        """The shorter side."""
        return min(self.height, self.width)

    @property
    def doublings(self) -> int:
        """How often a network doubles its first map. Raises UserError for a shape that networks are not built for."""
        doublings = _doublings(self.height, self.width)
        if doublings is None:
            near = " and ".join(str(shape.size) for shape in self._nearest())
            raise UserError(
                f"`imsize` {self.size} cannot be reached by doubling both sides of a first map whose shorter side is "
                f"4 to 7 pixels, as the networks do: the nearest sizes that can are {near}"
            )
        return doublings

    def grid(self, size: int) -> tuple[int, int]:
        """Height and width of the map of this size."""
        return self.height * size // self.shorter, self.width * size // self.shorter

    def map_name(self, size: int | str) -> str:
        """Height and width of the map of this size, such as ``16x24``."""
        height, width = self.grid(int(size))
        return f"{height}x{width}"

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    def _nearest(self) -> list[ImageShape]:
        """The two nearest shapes that networks are built for; for a square, squares."""
        height, width = (min(max(side, SMALLEST_SIDE), LARGEST_SIDE) for side in (self.height, self.width))
        about = (min(height, width) // 4).bit_length() - 1
        found = {
            (tall, wide)
            for step in (2**n for n in (about - 1, about, about + 1))
            for tall, wide in itertools.product(*(_multiples(side, step) for side in (height, width)))
            if _doublings(tall, wide) is not None and (tall == wide or self.height != self.width)
        }
        nearest = sorted(found, key=lambda each: (abs(each[0] - height) + abs(each[1] - width), each))
        return [ImageShape(self.channels, *each) for each in sorted(nearest[:2])]


def _doublings(height: int, width: int) -> int | None:
    """n of the rule of `ImageShape`; None for sides that do not follow it."""
    shorter, longer = sorted((height, width))
    if shorter < SMALLEST_SIDE or longer > LARGEST_SIDE:
        return None
    doublings = (shorter // 4).bit_length() - 1
    return None if height % 2**doublings or width % 2**doublings else doublings


def _multiples(side: int, step: int) -> range:
    """The multiples of a step around a side."""
    return range((side // step - 1) * step, side + 2 * step, step)


def refuse_other_than_rgb(shape: ImageShape, what: str) -> None:
    """Raises UserError for images of other channels than red, green and blue. ``what``: begins the sentence."""
    if shape.channels != CHANNELS:
        kind = "grey" if shape.channels == 1 else "with transparency"
        raise UserError(f"{what} needs images of red, green and blue, and these are {kind}")


def refuse_other_than_rgb_squares(shape: ImageShape, what: str) -> None:
    """Raises UserError for images that are not square, or of other channels. ``what``: begins the sentence."""
    refuse_other_than_rgb(shape, what)
    if shape.height != shape.width:
        raise UserError(f"{what} needs square images, and these are {shape}")
