"""Drawn faces: the embedded default data set, and the measures of whether far-apart parts of an image agree.

Every face is a pure function of (index, size, seed): the same bytes on every machine. The two irises always have one
colour of ``EYE_COLOURS``, drawn uniformly and independently of everything else; hair, ears and earrings are the same
on both sides.
"""

from sagan.data.faces.drawing import LARGEST, SMALLEST, draw_face, draw_faces, draw_traits
from sagan.data.faces.measures import eye_colour_agreement, eye_colours, left_right_symmetry
from sagan.data.faces.palette import EYE_COLOURS
from sagan.data.faces.source import FacesSource, holds_drawn_faces
from sagan.data.faces.traits import BEARDS, HAIR_STYLES, HAIRLINES, HATS, MOUTHS, TOPS, FaceTraits, face_traits

__all__ = [
    "BEARDS",
    "EYE_COLOURS",
    "HAIRLINES",
    "HAIR_STYLES",
    "HATS",
    "LARGEST",
    "MOUTHS",
    "SMALLEST",
    "TOPS",
    "FaceTraits",
    "FacesSource",
    "draw_face",
    "draw_faces",
    "draw_traits",
    "eye_colour_agreement",
    "eye_colours",
    "face_traits",
    "holds_drawn_faces",
    "left_right_symmetry",
]
