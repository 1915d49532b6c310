"""The shape of an image."""

from __future__ import annotations

from dataclasses import dataclass

from sagan.system.errors import UserError

CHANNELS = 3  # red, green and blue


@dataclass(frozen=True)
class ImageShape:
    """Channels, height and width of an image; as text ``64x64``."""

    channels: int
    height: int
    width: int

    @classmethod
    def square(cls, size: int) -> ImageShape:
        """An RGB image of ``size`` x ``size`` pixels."""
        return cls(CHANNELS, size, size)

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
    def side(self) -> int:
        """Height and width of a square image. Raises UserError if it is not square."""
        if self.height != self.width:
            raise UserError(f"images must be square for these networks, got {self}")
        return self.height

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"
