"""Traits: the same at every size, and an eye colour that tells nothing about the rest."""

import numpy as np
import pytest

from sagan.data.faces.palette import EYE_COLOURS
from sagan.data.faces.traits import face_traits


def test_traits_are_the_same_at_every_size_and_uniform_in_eye_colour():
    colours = np.array([face_traits(index).eye_colour for index in range(3000)])
    assert np.abs(np.bincount(colours, minlength=len(EYE_COLOURS)) / 3000 - 1 / 6).max() < 0.03
    skins = np.array([sum(face_traits(index).skin) for index in range(3000)])
    means = [skins[colours == colour].mean() for colour in range(len(EYE_COLOURS))]
    assert np.ptp(means) < 0.25 * skins.std(), "the eye colour must tell nothing about the skin"
    with pytest.raises(ValueError, match="0 or more, got index -1"):
        face_traits(-1)
