"""Clothing: a top, glasses and a hat."""

import numpy as np

from sagan.data.faces.canvas import Canvas, Floats, arc, box, ellipse, painted, ramp, wave
from sagan.data.faces.features import EYE_Y
from sagan.data.faces.head import head_distance
from sagan.data.faces.palette import WHITE, mixed
from sagan.data.faces.traits import FaceTraits


def neckline(x: Floats, y: Floats, top: str) -> Floats:
    """Distance to the opening of a top, through which the neck shows."""
    if top in ("v-neck", "collar"):
        return np.asarray((np.abs(x) * 1.4 + y - 1.06) * 0.58, np.float32)
    return ellipse(x, y - 0.76, 0.25, 0.15)


def paint_clothes(canvas: Canvas, traits: FaceTraits) -> None:
    """Shoulders and one of five tops."""
    part = canvas.crop(0.0, 1.1, 1.5, 0.45)
    x, y = part.x, part.y
    main, other = traits.top_colours
    opening = neckline(x, y, traits.top)
    body = np.maximum(ellipse(x, y - 1.42, 0.92, 0.66), -opening)
    light = 0.35 - 1.3 * np.abs(x) * np.abs(x) + 0.3 * wave(x * 1.5 + 0.5 * y)
    cover = part.fill(body)
    part.paint(cover, painted(main, light))
    if traits.top == "stripes":
        part.paint(cover * ramp((wave(y * 7.0) - 0.5) * 3.0), painted(other, light))
    elif traits.top == "dungarees":
        bib = np.minimum(box(x, y - 1.25, 0.34, 0.24, 0.04), box(np.abs(x) - 0.33, y - 1.0, 0.065, 0.4, 0.02))
        part.paint(cover * part.fill(bib), painted(other, light))
    elif traits.top == "collar":
        flap = box(np.abs(x) - 0.20 + 0.55 * (y - 0.92), y - 0.90, 0.10, 0.11, 0.02)
        part.paint(part.fill(np.maximum(flap, -opening)), painted(mixed(main, WHITE, 0.7), light))
    else:
        part.paint(cover * part.stroke(opening - 0.03, 0.03), painted(other, light))


def paint_glasses(canvas: Canvas, traits: FaceTraits) -> None:
    """Two frames, a bridge, the arms, and a glint on each lens."""
    if traits.glasses == "none":
        return
    part = canvas.crop(0.0, EYE_Y, traits.head_width + 0.05, 0.28)
    x, y = part.x - traits.yaw, part.y - EYE_Y
    local = np.abs(x) - traits.eye_spacing
    frame = ellipse(local, y, 0.215, 0.205) if traits.glasses == "round" else box(local, y, 0.215, 0.185, 0.06)
    own = x - np.where(x < 0, -1.0, 1.0).astype(np.float32) * traits.eye_spacing
    glint = part.stroke((own + y + 0.14) * 0.7, 0.025)
    part.paint(part.fill(frame) * (0.06 + 0.22 * glint), WHITE)
    part.paint(part.stroke(frame, 0.020), traits.glasses_colour)
    part.paint(part.stroke(arc(x, y + 0.05, 0.06, 0.02), 0.018), traits.glasses_colour)
    sides = np.maximum(np.abs(y + 0.03) - 0.016, traits.eye_spacing + 0.21 - np.abs(x))
    part.paint(part.fill(np.maximum(sides, np.abs(part.x) - traits.head_width)), traits.glasses_colour)


def paint_hat(canvas: Canvas, traits: FaceTraits) -> None:
    """A beanie with a pompom, a sun hat or a headband."""
    if traits.hat == "none":
        return
    part = canvas.crop(0.0, -0.6, 1.1, 0.5)
    x, y = part.x, part.y
    wide = traits.head_width
    trim = mixed(traits.hat_colour, WHITE, 0.55)
    light = 0.3 - 1.2 * x * x
    if traits.hat == "headband":
        band = np.maximum(np.abs(y + 0.42 - 0.1 * x * x) - 0.06, head_distance(x, y, traits, 0.065))
        part.paint(part.fill(band), painted(traits.hat_colour, light))
        return
    crown = np.maximum(ellipse(x, y + 0.36, wide + 0.09, 0.52), y + 0.30)
    if traits.hat == "beanie":
        part.paint(part.fill(ellipse(x, y + 0.88, 0.13, 0.12)), painted(trim, 0.5 - 4.0 * (y + 0.88)))
        part.paint(part.fill(crown), painted(traits.hat_colour, light - 0.3 * wave(x * 5.0)))
        part.paint(part.fill(box(x, y + 0.38 - 0.08 * x * x, wide + 0.11, 0.085, 0.07)), painted(trim, light - 0.2))
    else:
        part.paint(part.fill(crown), painted(traits.hat_colour, light))
        brim = ellipse(x, y + 0.38, 0.98, 0.13)
        part.paint(part.fill(brim), painted(traits.hat_colour, light - 0.2 - 2.5 * (y + 0.36)))
        ribbon = np.maximum(np.abs(y + 0.53 - 0.1 * x * x) - 0.05, crown)
        part.paint(part.fill(ribbon), painted(trim, light))
