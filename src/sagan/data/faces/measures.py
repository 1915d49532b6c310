"""Whether distant parts of an image agree: the colours of the two irises, and hair and ears on both sides.

On drawn faces they do. A generator that has only learned local texture gets the parts right but not their agreement,
which ``eye_colour_agreement`` and ``left_right_symmetry`` measure on any images.
"""

import numpy as np
from numpy.typing import NDArray

from sagan.data.faces.canvas import Bytes, Floats
from sagan.data.faces.palette import EYE_COLOURS
from sagan.system.errors import UserError

EYE_WINDOW = (0.265, 0.05)  # the middle of the right window in the image's coordinates; the left one is its mirror
EYE_REACH = 0.265  # half the side of a window; the two meet in the middle of the image and share no pixel
LEAST_CHROMA = {"gold": 0.26}  # higher than for other colours, as skin and blond hair have similar hues
OTHER_LEAST_CHROMA = 0.14
LEAST_COSINE = 0.92  # hues within 23 degrees of that of the palette
LEAST_VOTES, MOST_VOTES = 0.006, 0.2  # of a window's weight: fewer are no iris, more are a coloured area
LEAST_SHARE = 0.5  # of the votes in a window


def chroma(colours: Floats, axis: int) -> tuple[Floats, Floats]:
    """The two coordinates of colours (red, green, blue along ``axis``) in the plane perpendicular to grey."""
    red, green, blue = (np.take(colours, band, axis) for band in range(3))
    return (2.0 * red - green - blue) * (1.0 / 6.0**0.5), (green - blue) * (1.0 / 2.0**0.5)


def eye_votes(images: Bytes, side: int) -> Floats:
    """The amount of each palette colour in one eye's window, (n, 6); 1 is a window full of the purest colour."""
    height, width = images.shape[2:]
    y = (np.arange(height) + 0.5) * (2.0 / height) - 1.0 - EYE_WINDOW[1]
    x = (np.arange(width) + 0.5) * (2.0 / width) - 1.0 - side * EYE_WINDOW[0]
    rows, columns = np.nonzero(np.abs(y) < EYE_REACH)[0], np.nonzero(np.abs(x) < EYE_REACH)[0]
    window = images[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255.0
    weight = np.outer(1.0 - (y[rows] / EYE_REACH) ** 2, 1.0 - (x[columns] / EYE_REACH) ** 2)
    across, along = chroma(window, 1)
    strength = np.sqrt(across * across + along * along)
    votes = np.empty((len(images), len(EYE_COLOURS)), np.float32)
    for number, (name, colour) in enumerate(EYE_COLOURS.items()):
        one, other = chroma(np.asarray(colour), 0)
        cosine = (across * one + along * other) / (strength * float(np.sqrt(one * one + other * other)) + 1e-6)
        least = LEAST_CHROMA.get(name, OTHER_LEAST_CHROMA)
        counted = np.where(cosine > LEAST_COSINE, np.maximum(strength - least, 0.0), 0.0)
        votes[:, number] = (counted * weight).sum((1, 2)) / weight.sum()
    return votes


def check_images(images: Bytes) -> None:
    """Raises UserError unless this is a batch of colour images."""
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8:
        raise UserError(f"images must be uint8 of shape (n, 3, height, width), got {images.dtype} {images.shape}")


def eye_colours(images: Bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The colours of the two irises, each found in a fixed window of its own.

    images: (n, 3, h, w) uint8, of size 16 or more. Returns (left, right, confident), each (n,): indices into
    ``EYE_COLOURS`` for the eyes on the left and on the right of the image, and whether both windows contain as much of
    one palette colour as an iris could, and more of it than of all others together.
    """
    check_images(images)
    found, sure = [], []
    for side in (-1, 1):
        votes = eye_votes(images, side)
        most = votes.max(1)
        found.append(votes.argmax(1))
        sure.append((most > LEAST_VOTES) & (most < MOST_VOTES) & (most > LEAST_SHARE * votes.sum(1)))
    return found[0], found[1], sure[0] & sure[1]


def eye_colour_agreement(images: Bytes) -> dict[str, float]:
    """How often the two irises have the same colour, on (n, 3, h, w) uint8 images.

    Returns ``agreement``, the share of the confident images whose irises agree; ``chance``, the agreement if left and
    right were independent with the same frequencies; ``confident``, the share of images in which both irises were
    found; and ``n``, the number of images. Without a confident image agreement and chance are NaN. Drawn faces have an
    agreement of 1 and a chance of 1/6; all are confident from 24 pixels on, and 0.8 of them at 16.
    """
    left, right, confident = eye_colours(images)
    left, right = left[confident], right[confident]
    kinds = len(EYE_COLOURS)
    share = [np.bincount(side, minlength=kinds) / max(len(side), 1) for side in (left, right)]
    nothing = float("nan")
    return {
        "agreement": float((left == right).mean()) if len(left) else nothing,
        "chance": float((share[0] * share[1]).sum()) if len(left) else nothing,
        "confident": float(confident.mean()) if len(confident) else nothing,
        "n": float(len(images)),
    }


AXIS_REACH = 0.125  # twice the largest distance of the mirror axis from the middle, in the image's coordinates


def coarse(images: Bytes) -> Floats:
    """The images in 0..1, averaged over squares to 32..63 pixels a side, so that fine texture has no influence."""
    count, bands, height, width = images.shape
    step = max(1, min(height, width) // 32)
    rows, columns = height // step, width // step
    cropped = images[:, :, : rows * step, : columns * step].reshape(count, bands, rows, step, columns, step)
    small: Floats = cropped.mean((3, 5), dtype=np.float32) / 255.0
    return small


def mirror_difference(images: Floats, others: Floats) -> Floats:
    """Mean absolute difference, (n,), of each image and its mirrored other around the face, about the best axis."""
    height, width = images.shape[2:]
    y = ((np.arange(height) + 0.5) * (2.0 / height) - 1.0)[:, None]
    x = np.abs((np.arange(width) + 0.5) * (2.0 / width) - 1.0)[None]
    face = (x / 0.44) ** 2 + ((y - 0.15) / 0.50) ** 2 < 1.0
    region = ~face & (x < 0.85) & (np.abs(y + 0.15) < 0.65)  # hair, hat, ears and earrings
    reach = round(AXIS_REACH * width / 2)
    mirrored = others[:, :, :, ::-1]
    shifted = (np.abs(images - np.roll(mirrored, shift, 3)) for shift in range(-reach, reach + 1))
    least: Floats = np.minimum.reduce([difference[:, :, region].mean((1, 2)) for difference in shifted])
    return least


def left_right_symmetry(images: Bytes) -> dict[str, float]:
    """How well hair and ears on the left mirror those on the right, on (n, 3, h, w) uint8 images.

    Returns ``difference``, the mean absolute difference (0..1) of the images and their mirror images around the face,
    about the best of a few vertical axes; ``chance``, the same for each image and the mirror image of another, half a
    batch away; ``symmetry``, 1 - difference / chance: 1 for perfect mirror images, about 0 if the halves belong to
    different faces; and ``n``. NaN for fewer than two images. As heads are tilted and backgrounds slanted, drawn faces
    have a symmetry of 0.77.
    """
    check_images(images)
    if len(images) < 2:
        return {"difference": float("nan"), "chance": float("nan"), "symmetry": float("nan"), "n": float(len(images))}
    small = coarse(images)
    difference = float(mirror_difference(small, small).mean())
    chance = float(mirror_difference(small, np.roll(small, len(small) // 2, 0)).mean())
    symmetry = 1.0 - difference / chance if chance > 0.0 else float("nan")
    return {"difference": difference, "chance": chance, "symmetry": symmetry, "n": float(len(images))}
