"""The colours of faces, and the mixture of two colours."""

Colour = tuple[float, float, float]  # red, green, blue in 0..1

EYE_COLOURS: dict[str, Colour] = {
    "gold": (0.96, 0.85, 0.00),
    "green": (0.10, 0.70, 0.16),
    "turquoise": (0.00, 0.74, 0.80),
    "blue": (0.10, 0.28, 0.96),
    "violet": (0.50, 0.12, 0.90),
    "magenta": (0.93, 0.05, 0.56),
}
SKIN_TONES: tuple[Colour, ...] = (
    (0.98, 0.86, 0.78), (0.95, 0.79, 0.69), (0.90, 0.72, 0.58), (0.80, 0.60, 0.46), (0.68, 0.48, 0.35),
    (0.55, 0.37, 0.27), (0.42, 0.28, 0.21),
)  # fmt: skip
HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.10, 0.09, 0.11),
    "dark brown": (0.22, 0.14, 0.10),
    "brown": (0.38, 0.24, 0.15),
    "chestnut": (0.48, 0.22, 0.14),
    "ginger": (0.76, 0.38, 0.16),
    "dark blond": (0.66, 0.50, 0.30),
    "blond": (0.90, 0.76, 0.48),
    "grey": (0.58, 0.58, 0.60),
    "white": (0.88, 0.88, 0.88),
    "pink": (0.88, 0.52, 0.62),
    "teal": (0.26, 0.50, 0.52),
}
EARRING_COLOURS: tuple[Colour, ...] = (
    (0.98, 0.80, 0.25), (0.86, 0.88, 0.92), (0.88, 0.14, 0.18), (0.14, 0.62, 0.40), (0.20, 0.40, 0.86),
    (0.97, 0.94, 0.88),
)  # fmt: skip
GLASSES_COLOURS: tuple[Colour, ...] = ((0.10, 0.10, 0.12), (0.33, 0.22, 0.17), (0.52, 0.53, 0.57))
CLOTH_COLOURS: tuple[Colour, ...] = (
    (0.80, 0.24, 0.24), (0.92, 0.52, 0.22), (0.94, 0.78, 0.34), (0.42, 0.62, 0.34), (0.20, 0.44, 0.42),
    (0.22, 0.36, 0.62), (0.44, 0.32, 0.60), (0.84, 0.52, 0.62), (0.24, 0.25, 0.30), (0.92, 0.91, 0.88),
    (0.50, 0.36, 0.28),
)  # fmt: skip
BACKGROUND_COLOURS: tuple[Colour, ...] = (
    (0.62, 0.78, 0.90), (0.97, 0.82, 0.66), (0.72, 0.84, 0.70), (0.86, 0.76, 0.90), (0.95, 0.72, 0.70),
    (0.30, 0.42, 0.56), (0.34, 0.46, 0.42), (0.50, 0.38, 0.50), (0.90, 0.89, 0.84), (0.96, 0.88, 0.58),
)  # fmt: skip
WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """The colour ``share`` of the way from one to the other."""
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue
