"""The hair behind the head and in front of it, the same on both sides."""

from collections.abc import Callable

import numpy as np

from sagan.data.faces.canvas import Canvas, Floats, box, ellipse, glow, painted, ramp, wave
from sagan.data.faces.head import head_distance
from sagan.data.faces.palette import mixed
from sagan.data.faces.traits import FaceTraits


def curls(x: Floats, y: Floats, size: float) -> Floats:
    """Distance to the round curls around the head."""
    places = ((0.0, -0.66), (0.34, -0.60), (0.58, -0.36), (0.68, -0.06), (0.66, 0.22), (0.56, 0.46))
    distances = [ellipse(x - across, y - down, size, size) for across, down in places]
    nearest: Floats = np.minimum.reduce(distances)
    return nearest


# Hair behind the head: signed distance, by the distance from the middle line, y and the traits.
BACK_HAIR: dict[str, Callable[[Floats, Floats, FaceTraits], Floats]] = {
    "bob": lambda x, y, t: box(x, y + 0.13, t.head_width + 0.11, 0.65, t.head_width + 0.08),
    "long": lambda x, y, t: box(x - 0.05 * y, y - 0.22, t.head_width + 0.11, 1.0, t.head_width + 0.08),
    "afro": lambda x, y, t: ellipse(x, y + 0.16, 0.90, 0.80) + 0.03 * wave((x * x - y) * 4.0),
    "curly": lambda x, y, t: curls(x, y, 0.25),
    "bun": lambda x, y, t: ellipse(x, y + 0.80, 0.24, 0.22),
    "buns": lambda x, y, t: ellipse(x - 0.46, y + 0.68, 0.24, 0.23),
    "pigtails": lambda x, y, t: ellipse(x - 0.76 - 0.1 * y, y - 0.20, 0.19, 0.42),
}


def hair_light(canvas: Canvas, x: Floats, strands: float) -> Floats:
    """Light on hair: from above, with a band of sheen, and strands that fade if the pixels are too coarse for them."""
    fineness = max(0.0, 1.0 - strands * canvas.pixel)
    threads = wave(strands * x * (1.0 - 0.45 * canvas.y)) + 0.6 * wave(1.7 * strands * x + canvas.y) - 1.0
    sheen = glow(canvas.y + 0.50 - 0.25 * x * x, 0.0 * x, 0.17, 1.0)
    return 0.10 - 0.5 * ramp(0.5 + 0.5 * canvas.y) + (0.17 * fineness) * threads + 0.55 * sheen


def paint_back_hair(canvas: Canvas, traits: FaceTraits) -> None:
    """The hair behind the head, the same on both sides."""
    if traits.hair_style in BACK_HAIR:
        x = np.abs(canvas.x)
        distance = BACK_HAIR[traits.hair_style](x, canvas.y, traits)
        light = hair_light(canvas, x, 7.0) - 0.35 - 0.3 * ramp(1.0 + distance * 6.0)
        canvas.paint(canvas.fill(distance), painted(traits.hair_colour, light + 0.3, shadow=0.7))
    if traits.hair_style == "pigtails":
        band = ellipse(np.abs(canvas.x) - 0.68, canvas.y + 0.15, 0.08, 0.10)
        canvas.paint(canvas.fill(band), traits.hat_colour)


def hairline_height(x: Floats, traits: FaceTraits) -> Floats:
    """The y of the hairline at the distance x from the middle line."""
    across = x * (1.0 / traits.head_width)
    squared = across * across
    if traits.hairline == "fringe":
        return np.asarray(-0.25 + 0.03 * wave(x * 4.5) + 0.26 * squared * squared, np.float32)
    if traits.hairline == "curtain":
        return np.asarray(-0.54 + 0.44 * across + 0.18 * squared, np.float32)
    peak = 0.10 * np.maximum(1.0 - x * 6.0, 0.0) if traits.hairline == "peak" else 0.0
    return np.asarray(-0.40 + peak + 0.46 * squared * squared, np.float32)


HAIR_DEPTH = {"bald": 0.0, "buzz": 0.012, "short": 0.07, "spiky": 0.07, "afro": 0.08, "curly": 0.08, "bun": 0.045}


def paint_front_hair(canvas: Canvas, traits: FaceTraits) -> None:
    """The hair on the skull down to the hairline, with its shadow on the forehead."""
    if traits.hair_style == "bald":
        return
    part = canvas.crop(0.0, -0.4, 0.9, 0.62)
    x, y = np.abs(part.x), part.y
    outline = head_distance(x, y, traits, HAIR_DEPTH.get(traits.hair_style, 0.06))
    if traits.hair_style == "spiky":
        outline = outline - (0.15 * wave(x * 3.2 + 0.5)) * ramp(-0.4 - y * 1.6)
    edge = (y - hairline_height(x, traits)) * 0.8
    on_skull = part.fill(head_distance(x, y, traits))
    part.paint(0.35 * on_skull * ramp(1.0 - edge * 9.0), mixed(traits.skin, (0.20, 0.08, 0.08), 0.6))
    light = hair_light(part, x, 9.0) + 0.1
    colour = mixed(traits.hair_colour, traits.skin, 0.35) if traits.hair_style == "buzz" else traits.hair_colour
    part.paint(part.fill(np.maximum(outline, edge)), painted(colour, light, shadow=0.6, shine=0.3))
