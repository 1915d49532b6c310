"""The bare head: its outline, the light on its skin, neck and ears, and the same earring on both ears."""

import numpy as np

from sagan.data.faces.canvas import Canvas, Floats, box, ellipse, glow, painted, ramp
from sagan.data.faces.palette import WHITE, mixed
from sagan.data.faces.traits import FaceTraits


def skin_light(canvas: Canvas, traits: FaceTraits) -> Floats:
    """Light on the skin: from above and from one side, and fading towards the edge of the head."""
    x, y = canvas.x * (1.0 / traits.head_width), canvas.y * (1.0 / traits.head_height)
    round_off = x * x + y * y
    return 0.42 - 0.42 * round_off * round_off - 0.18 * y + (0.28 * traits.light) * x


def paint_neck(canvas: Canvas, traits: FaceTraits) -> None:
    """The neck, in the shadow of the chin."""
    part = canvas.crop(0.0, 0.85, 0.45, 0.45)
    shadow = -1.0 + 0.8 * ramp((part.y - 0.62) * 2.6)
    throat = box(part.x, part.y - 0.8, 0.19 + 0.06 * (traits.head_width - 0.54), 0.5, 0.1)
    part.paint(part.fill(throat), painted(traits.skin, shadow))


def paint_ears(canvas: Canvas, traits: FaceTraits) -> None:
    """Both ears and their earrings."""
    reach = traits.head_width + 0.2
    part = canvas.crop(0.0, 0.15, reach, 0.32)
    x, y = np.abs(part.x) - (traits.head_width + 0.01), part.y - 0.08
    part.paint(part.fill(ellipse(x - 0.1 * y, y, 0.11, 0.17)), painted(traits.skin, skin_light(part, traits) + 0.25))
    part.paint(0.6 * glow(x - 0.01, y, 0.09, 0.13), painted(traits.skin, np.float32(-1.0) + 0.0 * x))
    if traits.earrings == "stud":
        part.paint(part.fill(ellipse(x - 0.02, y - 0.17, 0.055, 0.055)), traits.earring_colour)
        part.paint(part.fill(ellipse(x - 0.005, y - 0.155, 0.02, 0.02)), WHITE)
    elif traits.earrings == "hoop":
        part.paint(part.stroke(ellipse(x - 0.02, y - 0.22, 0.075, 0.085), 0.018), traits.earring_colour)


def head_distance(x: Floats, y: Floats, traits: FaceTraits, margin: float = 0.0) -> Floats:
    """Signed distance to the outline of the head, ``margin`` wider: an ellipse that narrows towards the chin."""
    below = np.maximum(y, 0.0) * (1.0 / traits.head_height)
    return ellipse(x / (1.0 - traits.jaw * below * below), y, traits.head_width + margin, traits.head_height + margin)


def paint_head(canvas: Canvas, traits: FaceTraits) -> None:
    """The bare head with cheeks, and freckles if it has them."""
    x, y = canvas.x, canvas.y
    canvas.paint(canvas.fill(head_distance(x, y, traits)), painted(traits.skin, skin_light(canvas, traits)))
    part = canvas.crop(traits.yaw, 0.25, 0.52, 0.22)
    cheek = np.abs(part.x - traits.yaw) - 0.33
    rosy = mixed(traits.skin, (0.90, 0.28, 0.28), 0.6)
    part.paint(traits.blush * glow(cheek, part.y - 0.28, 0.18, 0.13), rosy)
    if traits.freckles:
        for across, down in ((-0.09, 0.0), (-0.02, 0.05), (0.05, -0.01), (-0.01, -0.05), (0.10, 0.05)):
            spot = ellipse(cheek - across + 0.05, part.y - 0.25 - down, 0.014, 0.014)
            part.paint(0.6 * part.fill(spot), mixed(traits.skin, (0.45, 0.20, 0.10), 0.6))
