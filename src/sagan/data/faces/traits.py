"""The traits of a face, drawn from the raw Philox stream of (index, seed).

The colour of both irises is drawn first, uniformly and independently of everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sagan.data.faces import palette
from sagan.data.faces.palette import Colour, mixed
from sagan.system.errors import UserError

T = TypeVar("T")

HAIR_STYLES = ("bald", "buzz", "short", "spiky", "bob", "long", "afro", "curly", "bun", "buns", "pigtails")
HAIRLINES = ("round", "fringe", "curtain", "peak")
MOUTHS = ("smile", "grin", "calm", "laugh", "surprise", "frown")
HATS = ("none", "beanie", "sun hat", "headband")
TOPS = ("crew neck", "v-neck", "collar", "stripes", "dungarees")
BEARDS = ("none", "moustache", "full")


@dataclass(frozen=True)
class FaceTraits:
    """Everything that varies between faces. Lengths are in the head's coordinates, colours are RGB in 0..1."""

    eye_colour: int  # index into EYE_COLOURS
    skin: Colour
    hair_colour: Colour
    hair_style: str  # one of HAIR_STYLES
    hairline: str  # one of HAIRLINES
    mouth: str  # one of MOUTHS
    hat: str  # one of HATS
    hat_colour: Colour
    beard: str  # one of BEARDS
    glasses: str  # none, round or square
    glasses_colour: Colour
    earrings: str  # none, stud or hoop
    earring_colour: Colour
    top: str  # one of TOPS
    top_colours: tuple[Colour, Colour]
    background: tuple[Colour, Colour]
    background_slant: float  # -1..1: the gradient's direction, from up-left to up-right
    bokeh: tuple[tuple[float, float, float], ...]  # blurred lights: x, y, radius in the image's coordinates
    freckles: bool
    shift: tuple[float, float]  # of the head's centre, in the image's coordinates
    scale: float  # of the head
    tilt: float  # tangent of half the angle of the head, positive clockwise
    yaw: float  # how far the features move sideways on the head
    head_width: float  # half widths and half heights
    head_height: float
    jaw: float  # 0 round .. 0.3 pointed
    eye_spacing: float  # from the middle to the centre of an eye
    eye_width: float
    eye_height: float
    gaze: tuple[float, float]  # of both irises
    brow_height: float  # above the eye
    brow_slope: float  # negative: worried, positive: determined
    brow_weight: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_colour: float  # 0 like the skin .. 1 red
    blush: float
    light: float  # -1..1: which side the light on the skin comes from


class Draws:
    """A stream of uniform numbers: the raw words of Philox, which numpy guarantees never to change."""

    def __init__(self, index: int, seed: int) -> None:
        words = np.random.Philox(np.random.SeedSequence([seed, index])).random_raw(96)
        self.numbers = iter(((words >> np.uint64(11)) * (1.0 / (1 << 53))).tolist())

    def between(self, low: float, high: float) -> float:
        """Uniform in low..high."""
        return low + (high - low) * float(next(self.numbers))

    def bell(self, spread: float) -> float:
        """In -spread..spread, more often near the middle."""
        return spread * (float(next(self.numbers)) - float(next(self.numbers)))

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return bool(next(self.numbers) < probability)

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(next(self.numbers) * len(options))]

    def colour(self, options: Sequence[Colour], jitter: float = 0.03) -> Colour:
        """One of the options, a little lighter or darker."""
        chosen = self.choice(options)
        return mixed(chosen, palette.WHITE if self.happens(0.5) else palette.BLACK, self.between(0.0, jitter))


def face_traits(index: int, seed: int = 0) -> FaceTraits:
    """The traits of face ``index`` of the data set ``seed``; the same at every size. Both must be 0 or more."""
    if index < 0 or seed < 0:
        raise UserError(f"index and seed of a face must be 0 or more, got index {index} and seed {seed}")
    draws = Draws(index, seed)
    eye_colour = draws.choice(range(len(palette.EYE_COLOURS)))  # first, and nothing below depends on it
    tone = draws.between(0.0, len(palette.SKIN_TONES) - 1.001)
    skin = mixed(palette.SKIN_TONES[int(tone)], palette.SKIN_TONES[int(tone) + 1], tone - int(tone))
    hair_style = draws.choice(HAIR_STYLES[:2] + HAIR_STYLES[2:] * 3)
    takes_hat = hair_style in ("bald", "buzz", "short", "bob", "long", "curly", "pigtails")
    hat = draws.choice(("none",) * 9 + HATS)
    earrings = draws.choice(("none", "none", "none", "stud", "hoop"))
    hair_names = tuple(palette.HAIR_COLOURS)
    return FaceTraits(
        eye_colour=eye_colour,
        skin=skin,
        hair_colour=draws.colour([palette.HAIR_COLOURS[name] for name in hair_names[:-2] * 2 + hair_names[-2:]], 0.08),
        hair_style=hair_style,
        hairline=draws.choice(HAIRLINES),
        mouth=draws.choice(("smile", "smile", *MOUTHS)),
        hat=hat if takes_hat else "none",
        hat_colour=draws.colour(palette.CLOTH_COLOURS),
        beard=draws.choice(("none",) * 8 + BEARDS),
        glasses=draws.choice(("none",) * 5 + ("round", "square")),
        glasses_colour=draws.choice(palette.GLASSES_COLOURS),
        earrings=earrings,
        earring_colour=draws.choice(palette.EARRING_COLOURS),
        top=draws.choice(TOPS),
        top_colours=(draws.colour(palette.CLOTH_COLOURS), draws.colour(palette.CLOTH_COLOURS)),
        background=(draws.colour(palette.BACKGROUND_COLOURS, 0.1), draws.colour(palette.BACKGROUND_COLOURS, 0.1)),
        background_slant=draws.between(-1.0, 1.0),
        bokeh=tuple(
            (draws.between(-1.0, 1.0), draws.between(-1.0, 0.6), draws.between(0.1, 0.3))
            for _ in range(draws.choice((0, 0, 3, 5)))
        ),
        freckles=draws.happens(0.15),
        shift=(draws.bell(0.06), draws.bell(0.04)),
        scale=draws.between(0.92, 1.04),
        tilt=draws.bell(0.045),
        yaw=draws.bell(0.04),
        head_width=draws.between(0.54, 0.60),
        head_height=draws.between(0.66, 0.72),
        jaw=draws.between(0.02, 0.24),
        eye_spacing=draws.between(0.245, 0.275),
        eye_width=draws.between(0.165, 0.185),
        eye_height=draws.between(0.135, 0.158),
        gaze=(draws.bell(0.03), draws.bell(0.015)),
        brow_height=draws.between(0.21, 0.245),
        brow_slope=draws.bell(0.25),
        brow_weight=draws.between(0.016, 0.032),
        nose_length=draws.between(0.22, 0.28),
        nose_width=draws.between(0.06, 0.09),
        mouth_width=draws.between(0.16, 0.24),
        lip_colour=draws.between(0.15, 0.9),
        blush=draws.between(0.0, 0.5),
        light=draws.bell(1.0),
    )
