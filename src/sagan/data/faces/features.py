"""The features of the face: eyes, brows, nose, mouth and beard. Both irises have the same colour."""

import numpy as np

from sagan.data.faces.canvas import Canvas, Floats, arc, ellipse, glow, painted, ramp, wave
from sagan.data.faces.head import head_distance, skin_light
from sagan.data.faces.palette import BLACK, EYE_COLOURS, WHITE, Colour, mixed
from sagan.data.faces.traits import FaceTraits

EYE_Y = 0.05  # height of the eyes in the head's coordinates


def paint_eye(canvas: Canvas, traits: FaceTraits, side: int) -> None:
    """One eye, with ``side`` -1 for the left of the image and 1 for the right: socket, white, iris, lid and crease."""
    middle = side * traits.eye_spacing + traits.yaw
    part = canvas.crop(middle, EYE_Y, 0.24, 0.22)
    x, y = part.x - middle, part.y - EYE_Y
    width, height = traits.eye_width, traits.eye_height
    part.paint(0.35 * glow(x, y + 0.02, 0.27, 0.24), mixed(traits.skin, (0.30, 0.12, 0.12), 0.5))
    opening = ellipse(x, y, width, height)
    eye = part.fill(opening)
    part.paint(eye, painted((0.97, 0.97, 0.98), -0.5 * ramp(0.2 - y * 7.0)))
    paint_iris(part, x - traits.gaze[0], y - traits.gaze[1], eye, traits)
    lid = part.stroke(opening, 0.022) * ramp(0.65 - y * (4.0 / height) * 0.25)
    part.paint(lid, mixed(traits.skin, (0.10, 0.06, 0.07), 0.85))
    lash = arc(x - side * 0.02, y + height + 0.035, width * 0.85, 0.05)
    part.paint(0.35 * part.stroke(lash, 0.012), mixed(traits.skin, (0.25, 0.10, 0.08), 0.7))


def paint_iris(part: Canvas, x: Floats, y: Floats, eye: Floats, traits: FaceTraits) -> None:
    """Iris, pupil and highlights centred at the origin of x and y, inside the opening ``eye``."""
    radius = 0.90 * traits.eye_height
    colour = tuple(EYE_COLOURS.values())[traits.eye_colour]
    iris = ellipse(x, y, radius, radius)
    part.paint(eye * part.fill(iris), painted(colour, (y + 0.03) * (2.5 / radius) * 0.25, shadow=0.6, shine=0.3))
    part.paint(0.6 * eye * part.stroke(iris + 0.008, 0.010), mixed(colour, BLACK, 0.7))
    part.paint(eye * part.fill(ellipse(x, y, 0.36 * radius, 0.36 * radius)), (0.04, 0.03, 0.05))
    part.paint(eye * part.fill(ellipse(x + 0.34 * radius, y + 0.38 * radius, 0.27 * radius, 0.27 * radius)), WHITE)
    part.paint(
        0.6 * eye * part.fill(ellipse(x - 0.36 * radius, y - 0.40 * radius, 0.13 * radius, 0.13 * radius)), WHITE
    )


def hair_shade(traits: FaceTraits) -> Colour:
    """The colour of brows and beards: that of the hair, darker, and never as light as the skin."""
    return mixed(mixed(traits.hair_colour, traits.skin, 0.1), (0.12, 0.07, 0.06), 0.5)


def paint_brow(canvas: Canvas, traits: FaceTraits, side: int) -> None:
    """The eyebrow on one side."""
    middle, height = side * (traits.eye_spacing + 0.01) + traits.yaw, EYE_Y - traits.brow_height
    part = canvas.crop(middle, height, 0.22, 0.12)
    x, y = (part.x - middle) * float(side), part.y - height
    line = arc(x, y + traits.brow_slope * x, 0.15, 0.045)
    part.paint(0.9 * part.stroke(line, traits.brow_weight), hair_shade(traits))


def paint_nose(canvas: Canvas, traits: FaceTraits) -> None:
    """A nose of light and shade."""
    middle = traits.yaw * 1.4
    part = canvas.crop(middle, 0.17, 0.17, 0.24)
    x, y = part.x - middle, part.y - (EYE_Y + traits.nose_length - 0.03)
    width = traits.nose_width
    dark, lit = mixed(traits.skin, (0.35, 0.10, 0.08), 0.45), mixed(traits.skin, WHITE, 0.55)
    part.paint(0.45 * glow(np.abs(x) - width * 0.8, y + 0.08, 0.06, 0.17), dark)
    part.paint(0.55 * glow(x, y - 0.015, width * 1.7, 0.075), dark)
    part.paint(0.50 * glow(x, y + 0.14, 0.045, 0.20), lit)
    part.paint(0.70 * glow(x + 0.01 * traits.light, y + 0.02, width * 0.9, 0.06), lit)
    nostril = ellipse(np.abs(x) - width * 0.62, y - 0.035, 0.024, 0.014)
    part.paint(0.75 * part.fill(nostril), mixed(traits.skin, (0.20, 0.05, 0.05), 0.75))


MOUTH_Y = 0.43
INSIDE_MOUTH: Colour = (0.36, 0.07, 0.10)

# How the line of a closed mouth, or the upper edge of an open one, is bent (negative: the ends are higher).
BENDS = {"smile": -0.07, "grin": -0.06, "calm": -0.01, "laugh": -0.03, "surprise": 0.0, "frown": 0.055}


def lip_shade(traits: FaceTraits) -> Colour:
    """The colour of the lips, between that of the skin and red."""
    return mixed(mixed(traits.skin, (0.60, 0.20, 0.20), 0.35), (0.80, 0.16, 0.22), 0.7 * traits.lip_colour)


def paint_mouth(canvas: Canvas, traits: FaceTraits) -> None:
    """The mouth in its expression: closed lips, teeth, or wide open."""
    middle = traits.yaw * 1.1
    part = canvas.crop(middle, MOUTH_Y, 0.32, 0.2)
    x, y = part.x - middle, part.y - MOUTH_Y
    bend, width = BENDS[traits.mouth], traits.mouth_width
    part.paint(0.30 * glow(x, y - 0.13, 0.16, 0.07), mixed(traits.skin, BLACK, 0.35))
    if traits.mouth in ("smile", "calm", "frown"):
        paint_lips(part, x, y, width, bend, traits)
    elif traits.mouth == "surprise":
        hole = ellipse(x, y - 0.02, width * 0.45, 0.085)
        part.paint(part.fill(hole - 0.03), lip_shade(traits))
        part.paint(part.fill(hole), INSIDE_MOUTH)
    else:
        paint_open_mouth(part, x, y, width, bend, traits)


def paint_lips(part: Canvas, x: Floats, y: Floats, width: float, bend: float, traits: FaceTraits) -> None:
    """Closed lips along a bent line."""
    scaled = x / width
    line = y - bend * (scaled * scaled - 0.5)
    thickness = np.maximum(1.0 - scaled * scaled, 0.0)
    upper, lower = -line - 0.045 * thickness, line - 0.060 * thickness
    lips = part.fill(np.maximum(np.maximum(upper, lower), np.abs(x) - width))
    light = 0.5 * ramp(line * 14.0) - 0.15
    part.paint(lips, painted(lip_shade(traits), light, shine=0.5))
    closed = part.stroke(arc(x, y + 0.5 * bend, width * 1.04, bend), 0.013)
    part.paint(0.85 * closed, mixed(lip_shade(traits), (0.25, 0.04, 0.06), 0.75))


def paint_open_mouth(part: Canvas, x: Floats, y: Floats, width: float, bend: float, traits: FaceTraits) -> None:
    """A grin full of teeth, or a laugh with teeth above and a tongue below."""
    scaled = x / width
    depth = 0.10 if traits.mouth == "grin" else 0.17
    upper = y + 0.055 - bend * (scaled * scaled - 0.3)  # below 0: above the mouth
    bowl = upper - depth * (1.0 - scaled * scaled)
    hole = np.maximum(-upper, bowl) * 0.8
    part.paint(part.fill(hole - 0.028), lip_shade(traits))
    inside = part.fill(hole)
    part.paint(inside, INSIDE_MOUTH)
    if traits.mouth == "laugh":
        part.paint(inside * part.fill(ellipse(x, y - 0.115, width * 0.6, 0.07)), (0.86, 0.38, 0.40))
    part.paint(inside * part.fill(upper - (0.085 if traits.mouth == "grin" else 0.045)), (0.97, 0.96, 0.93))


def paint_beard(canvas: Canvas, traits: FaceTraits) -> None:
    """A moustache, or a full beard from ear to ear."""
    part = canvas.crop(0.0, 0.42, 0.72, 0.45)
    x, y = part.x - traits.yaw, part.y
    threads = 0.25 * wave(9.0 * x * (1.4 - y)) + 0.15 * wave(17.0 * x + 2.0 * y)
    light = skin_light(part, traits) + threads - 0.35
    colour = painted(mixed(hair_shade(traits), traits.hair_colour, 0.45), light, shadow=0.7)
    if traits.beard == "full":
        across = x * (1.0 / traits.head_width)
        edge = 0.29 - 0.26 * across * across + 0.03 * wave(x * 4.0) - y
        hair = ramp(0.5 - edge * 12.0) * part.fill(head_distance(part.x, y, traits, 0.03))
        around_mouth = ellipse(x, y - MOUTH_Y, traits.mouth_width + 0.03, 0.085)
        part.paint(0.95 * hair * ramp(0.5 + around_mouth * 12.0), colour)
    if traits.beard != "none":
        half = ellipse(np.abs(x) - 0.085, y - 0.365 + 0.02 - 0.35 * (np.abs(x) - 0.085), 0.11, 0.036)
        part.paint(0.92 * part.fill(half), colour)
