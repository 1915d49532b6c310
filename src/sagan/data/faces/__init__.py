"""Drawn faces: the built-in default data set, and measures of whether distant parts of an image agree.

Every face is a pure function of (index, size, seed): the same bytes on every machine. The two irises always have the
same one of the ``EYE_COLOURS``, drawn uniformly and independently of everything else; hair, ears and earrings are the
same on both sides.
"""

from sagan.data.faces.measures import eye_colour_agreement, left_right_symmetry
from sagan.data.faces.source import FacesSource, holds_drawn_faces

__all__ = ["FacesSource", "eye_colour_agreement", "holds_drawn_faces", "left_right_symmetry"]
