"""The shape of an image, as everything from the store to the extractors speaks of it."""

from __future__ import annotations

from dataclasses import dataclass

from sagan.system.errors import UserError

CHANNELS = 3  # red, green and blue


@dataclass(frozen=True)
class ImageShape:
    """Channels, height and width of an image; as text, such as on a card, ``64x64``."""

    channels: int
    height: int
    width: int

    @classmethod
    def square(cls, size: int) -> ImageShape:
        """An RGB image of ``size`` x ``size`` pixels."""
        return cls(CHANNELS, size, size)

    @property
    def chw(self) -> tuple[int, int, int]:
        """As tensors have it: channels, height, width."""
        return self.channels, self.height, self.width

    @property
    def hwc(self) -> tuple[int, int, int]:
        """As files have it: height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def numel(self) -> int:
        """How many numbers an image has."""
        return self.channels * self.height * self.width

    @property
    def side(self) -> int:
        """Height and width of a square image. Raises UserError for another."""
        if self.height != self.width:
            raise UserError(f"images must be as wide as high for these networks, got {self}")
        return self.height

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"
