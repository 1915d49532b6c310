"""Pixels from traits, drawn from back to front.

Only additions, products, quotients and square roots are used, in a fixed order. IEEE 754 defines the rounding of each,
so the bytes do not depend on the platform or on numpy's version.
"""

import numpy as np

from sagan.data.faces.canvas import Bytes, Canvas, ellipse, glow, head_canvas, image_canvas, ramp, unit
from sagan.data.faces.clothing import paint_clothes, paint_glasses, paint_hat
from sagan.data.faces.features import paint_beard, paint_brow, paint_eye, paint_mouth, paint_nose
from sagan.data.faces.hair import paint_back_hair, paint_front_hair
from sagan.data.faces.head import paint_ears, paint_head, paint_neck
from sagan.data.faces.palette import WHITE
from sagan.data.faces.traits import FaceTraits, face_traits
from sagan.system.errors import UserError

SMALLEST, LARGEST = 16, 256  # sizes in pixels


def check_size(size: int) -> None:
    """Raises UserError for a size at which faces cannot be drawn."""
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"size of drawn faces must be {SMALLEST} to {LARGEST} pixels, got {size}; give such an imsize")


def paint_background(canvas: Canvas, traits: FaceTraits) -> None:
    """A slanted gradient, a glow behind the head and sometimes blurred lights."""
    first, last = (np.asarray(colour, np.float32).reshape(3, 1, 1) for colour in traits.background)
    share = ramp(0.5 + 0.4 * canvas.y + (0.35 * traits.background_slant) * canvas.x)
    canvas.pixels[:] = first + share * (last - first)
    for x, y, radius in traits.bokeh:
        part = canvas.crop(x, y, radius, radius)
        distance = ellipse(part.x - x, part.y - y, radius, radius)
        part.paint(0.22 * ramp(0.5 - distance * 12.0), WHITE)
    canvas.paint(0.25 * glow(canvas.x, canvas.y + 0.1, 1.2, 1.2), WHITE)


def draw_traits(traits: FaceTraits, size: int) -> Bytes:
    """The face with these traits, (size, size, 3) uint8 RGB; size 16..256."""
    check_size(size)
    image = image_canvas(size)
    head = head_canvas(image, traits)
    paint_background(image, traits)
    for paint in (paint_back_hair, paint_neck, paint_clothes, paint_ears, paint_head):
        paint(head, traits)
    for side in (-1, 1):
        paint_eye(head, traits, side)
    for paint in (paint_nose, paint_beard, paint_mouth, paint_front_hair):
        paint(head, traits)
    for side in (-1, 1):
        paint_brow(head, traits, side)
    for paint in (paint_glasses, paint_hat):
        paint(head, traits)
    levels = np.floor(unit(image.pixels) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def draw_face(index: int, size: int, seed: int = 0) -> Bytes:
    """Face ``index`` of the data set ``seed``, (size, size, 3) uint8 RGB; size 16..256. The same bytes everywhere."""
    return draw_traits(face_traits(index, seed), size)
