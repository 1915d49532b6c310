"""The canvas, and shapes: signed distances (negative inside) and soft weights, on arrays of coordinates.

There are two coordinate systems, both with x to the right and y downwards: the image's, in which the image is the
square from -1 to 1, and the head's, in which the head is upright, centred, and about 0.6 by 0.7 in half width and half
height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagan.data.faces.palette import Colour
from sagan.data.faces.traits import FaceTraits

Floats = NDArray[Any]  # of float32: the stubs of numpy make float64 of every product with a Python number
Bytes = NDArray[np.uint8]


def ellipse(x: Floats, y: Floats, width: float, height: float) -> Floats:
    """Distance to the ellipse with these half axes: its equation divided by its gradient, exact on the border."""
    x, y = x / width, y / height
    gradient = np.sqrt((x / width) * (x / width) + (y / height) * (y / height))
    return (x * x + y * y - 1.0) / (2.0 * gradient + 1e-6)


def box(x: Floats, y: Floats, width: float, height: float, corner: float) -> Floats:
    """Distance to the box with these half sides and rounded corners of radius ``corner``."""
    x, y = np.abs(x) - (width - corner), np.abs(y) - (height - corner)
    outside_x, outside_y = np.maximum(x, 0.0), np.maximum(y, 0.0)
    outside: Floats = np.sqrt(outside_x * outside_x + outside_y * outside_y)
    return outside + np.minimum(np.maximum(x, y), 0.0) - corner


def arc(x: Floats, y: Floats, width: float, rise: float) -> Floats:
    """Distance, 0 or more, to the parabola through the origin whose ends, ``width`` away, are ``rise`` lower."""
    along = np.minimum(np.maximum(x, -width), width)
    slope = along * (2.0 * rise / (width * width))
    away = (y - along * slope * 0.5) / np.sqrt(1.0 + slope * slope)
    distance: Floats = np.sqrt(away * away + (x - along) * (x - along))
    return distance


def glow(x: Floats, y: Floats, width: float, height: float) -> Floats:
    """A soft spot: 1 in the middle, falling smoothly to 0 at the ellipse with these half axes."""
    inside = np.maximum(1.0 - (x / width) * (x / width) - (y / height) * (y / height), 0.0)
    return inside * inside


def unit(t: Floats) -> Floats:
    """The values clipped to 0..1; on small arrays twice as fast as numpy's clip."""
    return np.minimum(np.maximum(t, 0.0), 1.0)


def ramp(t: Floats) -> Floats:
    """0 up to 0, 1 from 1 on, smooth in between."""
    t = unit(t)
    return t * t * (3.0 - 2.0 * t)


def wave(t: Floats) -> Floats:
    """A periodic row of parabolas between 0 and 1, with period 1."""
    t = t - np.floor(t)
    return 4.0 * t * (1.0 - t)


@dataclass(frozen=True)
class Canvas:
    """A part of the image being drawn: views of its pixels, and the coordinates of their centres."""

    pixels: Floats  # (3, h, w), in 0..1, painted in place
    x: Floats  # (h, w)
    y: Floats
    pixel: float  # the size of a pixel in these coordinates
    origin: tuple[float, float]  # row and column of the coordinates' origin
    turn: tuple[float, float]  # cosine and sine of the coordinates' angle

    def crop(self, x: float, y: float, width: float, height: float) -> Canvas:
        """The part around the box at (x, y) with these half sides, which may be empty, in the same coordinates."""
        cosine, sine = self.turn
        row = self.origin[0] + (sine * x + cosine * y) / self.pixel
        column = self.origin[1] + (cosine * x - sine * y) / self.pixel
        rows = (cosine * height + abs(sine) * width) / self.pixel + 1.0
        columns = (cosine * width + abs(sine) * height) / self.pixel + 1.0
        top, left = max(int(row - rows), 0), max(int(column - columns), 0)
        down, across = slice(top, max(int(row + rows) + 2, top)), slice(left, max(int(column + columns) + 2, left))
        origin = (self.origin[0] - top, self.origin[1] - left)
        return Canvas(
            self.pixels[:, down, across], self.x[down, across], self.y[down, across], self.pixel, origin, self.turn
        )

    def fill(self, distance: Floats) -> Floats:
        """The share of each pixel inside the shape with this signed distance."""
        return unit(0.5 - distance * (1.0 / self.pixel))

    def stroke(self, distance: Floats, half_width: float) -> Floats:
        """The share of each pixel within ``half_width`` of a line, also correct for lines thinner than a pixel."""
        away = np.abs(distance)
        return self.fill(away - half_width) - self.fill(away + half_width)

    def paint(self, alpha: Floats, colour: Colour | Floats) -> None:
        """Paints a colour, one or (3, h, w), over the pixels with opacity ``alpha`` (h, w)."""
        layer = np.asarray(colour, np.float32).reshape(3, 1, 1) if isinstance(colour, tuple) else colour
        np.add(self.pixels, alpha * (layer - self.pixels), out=self.pixels)


def image_canvas(size: int) -> Canvas:
    """An empty image in its own coordinates."""
    centres = ((np.arange(size) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    x, y = np.broadcast_to(centres, (size, size)), np.broadcast_to(centres[:, None], (size, size))
    middle = size / 2 - 0.5
    return Canvas(np.zeros((3, size, size), np.float32), x, y, 2.0 / size, (middle, middle), (1.0, 0.0))


def head_canvas(image: Canvas, traits: FaceTraits) -> Canvas:
    """The same pixels in the head's coordinates."""
    half = traits.tilt  # cosine and sine by the half-angle formulas, as the platform's may round differently
    cosine, sine = (1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half)
    right, down = traits.shift
    x, y = (image.x - right) * (1.0 / traits.scale), (image.y - down) * (1.0 / traits.scale)
    origin = (image.origin[0] + down / image.pixel, image.origin[1] + right / image.pixel)
    pixel = image.pixel / traits.scale
    return Canvas(image.pixels, cosine * x + sine * y, cosine * y - sine * x, pixel, origin, (cosine, sine))


def painted(colour: Colour, light: Floats, shadow: float = 0.45, shine: float = 0.25) -> Floats:
    """The colour under ``light`` (h, w) in -1..1: darker below 0, closer to white above 0; (3, h, w)."""
    base = np.asarray(colour, np.float32).reshape(3, 1, 1)
    return base * (1.0 + shadow * np.minimum(light, 0.0)) + (1.0 - base) * (shine * np.maximum(light, 0.0))
