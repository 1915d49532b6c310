"""The drawing: a pure function of (index, size, seed), one picture at every size, alike on both sides."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from sagan.data.faces.drawing import draw_face, draw_traits
from sagan.data.faces.traits import HAIR_STYLES, face_traits
from tests.data.made import draw_faces


def frontal(index):
    """The traits of a face that looks straight ahead, lit from above before an even background."""
    return replace(
        face_traits(index),
        shift=(0.0, 0.0),
        tilt=0.0,
        yaw=0.0,
        gaze=(0.0, 0.0),
        light=0.0,
        background_slant=0.0,
        bokeh=(),
    )


@pytest.mark.parametrize("size", [16, 17, 33, 50, 64, 256])
def test_any_size_from_16_to_256_can_be_drawn(size):
    face = draw_face(3, size)
    assert face.shape == (size, size, 3)
    assert face.dtype == np.uint8
    assert face.std() > 20


@pytest.mark.parametrize("size", [0, 15, 257])
def test_other_sizes_are_refused_with_the_allowed_ones(size):
    with pytest.raises(ValueError, match=f"16 to 256 pixels, got {size}"):
        draw_face(0, size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(32, "56ef39548aee0af4"), (64, "30fc8e606d0e7255")],
)
def test_the_bytes_are_the_same_on_every_machine(size, expected):
    found = hashlib.sha256(b"".join(draw_face(index, size, seed=5).tobytes() for index in range(12))).hexdigest()
    assert found[:16] == expected


def test_a_face_does_not_depend_on_what_was_drawn_before():
    alone = draw_face(9, 32, seed=1)
    draw_faces(5, 32)
    np.random.seed(0)
    assert np.array_equal(alone, draw_face(9, 32, seed=1))


def test_other_indices_and_seeds_give_other_faces():
    images = {draw_face(index, 16, seed).tobytes() for index in range(20) for seed in range(3)}
    assert len(images) == 60


def test_a_large_face_made_small_looks_like_the_small_face():
    """The drawing is one picture at every resolution: lines thinner than a pixel keep their weight."""
    large = draw_faces(20, 128).reshape(20, 3, 32, 4, 32, 4).mean((3, 5))
    assert np.abs(large - draw_faces(20, 32)).mean() < 2.4


def test_the_iris_colour_changes_both_eyes_and_nothing_else():
    traits = replace(frontal(2), glasses="none")
    one, other = (draw_traits(replace(traits, eye_colour=colour), 64).astype(int) for colour in (1, 4))
    rows, columns = np.nonzero(np.abs(one - other).sum(2))
    assert (columns < 32).sum() > 30
    assert (columns >= 32).sum() == pytest.approx((columns < 32).sum(), abs=4)
    assert rows.min() > 20
    assert rows.max() < 45


@pytest.mark.parametrize("trait", [{"earrings": "hoop"}, {"hair_style": "pigtails"}, {"hat": "sun hat"}])
def test_what_is_worn_is_worn_on_both_sides(trait):
    plain = replace(frontal(5), earrings="none", hair_style="bald", hat="none")
    changed = np.abs(draw_traits(replace(plain, **trait), 64).astype(int) - draw_traits(plain, 64)).sum(2) > 0
    assert changed.sum() > 10
    assert (changed != changed[:, ::-1]).sum() < 0.05 * changed.sum()  # the eyes under it have highlights on one side


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_hair_and_ears_of_a_frontal_face_are_mirror_images(style):
    face = draw_traits(replace(frontal(11), hair_style=style, glasses="none", top="crew neck"), 64).astype(int)
    difference = np.abs(face - face[:, ::-1]).max(2)
    difference[20:46, 14:50] = 0  # the highlights of the eyes are on one side
    difference[52:] = 0  # as are the folds of the cloth
    assert difference.max() <= 1
