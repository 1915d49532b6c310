"""The measures see agreement where there is some, and chance where there is none."""

import numpy as np
import pytest

from sagan.data.faces.measures import eye_colour_agreement, eye_colours, left_right_symmetry
from sagan.data.faces.palette import EYE_COLOURS
from sagan.data.faces.traits import face_traits
from tests.data.made import draw_faces

COUNT = 400


@pytest.fixture(scope="module")
def drawn():
    return {size: draw_faces(COUNT, size) for size in (32, 64)}


@pytest.fixture(scope="module")
def true_colours():
    return np.array([face_traits(index).eye_colour for index in range(COUNT)])


def halves_of_two(images):
    """The left half of each image beside the right half of another."""
    mixed = images.copy()
    middle = images.shape[3] // 2
    mixed[:, :, :, middle:] = np.roll(images, 7, 0)[:, :, :, middle:]
    return mixed


def box_blur(images):
    """Each pixel the mean of the 3 x 3 around it."""
    padded = np.pad(images.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = images.shape[2:]
    shifted = [padded[:, :, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.round(sum(shifted) / 9.0).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 64])
def test_drawn_faces_agree_and_the_colour_found_is_the_true_one(drawn, true_colours, size):
    left, right, confident = eye_colours(drawn[size])
    assert confident.mean() >= 0.98
    assert (left == true_colours)[confident].mean() >= 0.99
    assert (right == true_colours)[confident].mean() >= 0.99
    result = eye_colour_agreement(drawn[size])
    assert result["agreement"] >= 0.99
    assert result["chance"] == pytest.approx(1 / 6, abs=0.02)
    assert result["n"] == COUNT


@pytest.mark.parametrize("size", [32, 64])
def test_halves_of_two_faces_agree_by_chance(drawn, true_colours, size):
    result = eye_colour_agreement(halves_of_two(drawn[size]))
    truth = (true_colours == np.roll(true_colours, 7)).mean()
    assert result["confident"] >= 0.95
    assert result["agreement"] == pytest.approx(truth, abs=0.02)
    assert result["agreement"] == pytest.approx(result["chance"], abs=0.06)  # three standard errors


def test_blur_does_not_break_the_measure(drawn, true_colours):
    blurred = box_blur(drawn[64])
    left, right, confident = eye_colours(blurred)
    assert confident.mean() >= 0.95
    assert ((left == true_colours) & (right == true_colours))[confident].mean() >= 0.98
    assert eye_colour_agreement(box_blur(halves_of_two(drawn[64])))["agreement"] < 0.25


def test_noise_of_a_half_trained_generator_does_not_break_the_measure(drawn, true_colours):
    noise = np.random.default_rng(0).normal(0.0, 20.0, drawn[32].shape)
    left, right, confident = eye_colours(np.clip(drawn[32] + noise, 0, 255).astype(np.uint8))
    assert confident.mean() >= 0.95
    assert ((left == true_colours) & (right == true_colours))[confident].mean() >= 0.97


def test_the_two_eyes_are_judged_independently(drawn):
    images = drawn[32]
    painted_over = images.copy()
    painted_over[:, :, :, 16:] = 128
    assert np.array_equal(eye_colours(images)[0], eye_colours(painted_over)[0])
    assert not eye_colours(painted_over)[2].any()


def test_without_eyes_nothing_is_confident():
    flat = np.concatenate([np.full((1, 3, 32, 32), level, np.uint8) for level in (0, 128, 255)])
    colours = np.round(255 * np.array(list(EYE_COLOURS.values()))).astype(np.uint8)
    floods = np.broadcast_to(colours[:, :, None, None], (len(colours), 3, 32, 32))
    noise = np.random.default_rng(1).integers(0, 256, (50, 3, 32, 32), dtype=np.uint8)
    for images in (flat, floods, noise):
        result = eye_colour_agreement(images)
        assert result["confident"] == 0.0
        assert np.isnan(result["agreement"])
        assert np.isnan(result["chance"])


@pytest.mark.parametrize("size", [32, 64])
def test_symmetry_tells_faces_from_halves_of_two(drawn, size):
    whole, mixed = left_right_symmetry(drawn[size]), left_right_symmetry(halves_of_two(drawn[size]))
    assert whole["symmetry"] == pytest.approx(0.77, abs=0.04)
    assert abs(mixed["symmetry"]) < 0.15
    assert whole["difference"] < 0.5 * mixed["difference"]


def test_mirror_images_are_symmetric_wherever_their_axis_is(drawn):
    half = drawn[32][:, :, :, :16]
    mirrored = np.concatenate([half, half[:, :, :, ::-1]], 3)
    assert left_right_symmetry(mirrored)["symmetry"] == 1.0
    assert left_right_symmetry(np.roll(mirrored, 1, 3))["symmetry"] == 1.0


def test_symmetry_of_less_than_two_images_is_unknown(drawn):
    assert np.isnan(left_right_symmetry(drawn[32][:1])["symmetry"])


@pytest.mark.parametrize("measure", [eye_colours, eye_colour_agreement, left_right_symmetry])
@pytest.mark.parametrize("images", [np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 3, 32, 32), np.float32)])
def test_measures_refuse_other_layouts(measure, images):
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        measure(images)
