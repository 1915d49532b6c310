"""The figures of one image: each sees its fault, and not what it should not mind."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from sagan.doctor.figures import FRAME, blocking, borders, dhash, edges, measure, sharpness
from sagan.doctor.pairs import NEAR
from tests.doctor.made import jpeg, picture


def bits_apart(one, other):
    return int(np.bitwise_count(dhash(one.convert("L")) ^ dhash(other.convert("L"))).sum())


def grey(image):
    return np.asarray(image.convert("L")).astype(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((70, 70)),
        lambda image: jpeg(image, 40),
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: image.convert("L"),
        lambda image: jpeg(image.resize((64, 64)), 60),
    ],
)
def test_a_copy_has_nearly_the_same_hash(change):
    assert all(bits_apart(each, change(each)) <= NEAR for each in (picture(n, 96, 96) for n in range(8)))


def test_other_images_have_other_hashes():
    pictures = [picture(seed) for seed in range(20)]
    apart = [bits_apart(pictures[a], pictures[b]) for a in range(20) for b in range(a)]
    assert min(apart) > 2 * NEAR


def test_the_hash_is_that_of_its_definition():
    """Falling brightness has no bit, rising brightness every one."""
    rising = Image.fromarray(np.tile(np.arange(0, 255, dtype=np.uint8), (64, 1)))
    assert (dhash(rising) == 0xFFFF).all()
    assert (dhash(rising.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == 0).all()


def test_blocks_grow_with_compression_wherever_the_grid_begins():
    smooth = [picture(seed, 128, 128).resize((256, 256), Image.Resampling.BICUBIC) for seed in range(4)]
    for image in smooth:
        found = [blocking(grey(jpeg(image, quality).crop((3, 5, 250, 250)))) for quality in (95, 20, 8)]
        assert found[0] < 1.5 < found[1] < found[2]


def test_a_frame_is_no_block():
    image = picture(0, 128, 128)
    image.paste((0, 0, 0), (0, 0, 128, 16))
    image.paste((0, 0, 0), (0, 0, 16, 128))
    assert blocking(grey(image)) < 1.3


def test_an_enlarged_image_is_less_sharp():
    small = picture(0, 64, 64)
    assert sharpness(grey(small)) > 1.15 * sharpness(grey(small.resize((192, 192), Image.Resampling.BICUBIC)))
    assert sharpness(np.full((9, 9), 7, np.float32)) == 0


def test_borders_are_counted_at_each_side():
    image = Image.new("L", (60, 50), 255)
    image.paste(picture(0, 48, 40).convert("L").point(lambda value: value // 2), (2, 4))
    assert borders(np.asarray(image)) == (2, 4, 10, 6)


def test_a_plain_ground_is_no_border():
    """An object on white, which begins with a few pixels."""
    x, y = np.meshgrid(np.arange(64) - 32, np.arange(64) - 32)
    disc = np.where(x**2 + y**2 < 400, 40, 255).astype(np.uint8)
    assert borders(disc) == (0, 0, 0, 0)
    assert borders(np.full((8, 8), 9, np.uint8)) == (0, 0, 0, 0)


def test_edges_leave_borders_out():
    image = picture(0, 140, 150).convert("L")
    whole = Image.new("L", (150, 170))
    whole.paste(image, (10, 20))
    np.testing.assert_array_equal(edges(whole, (10, 20, 0, 0)), edges(image, (0, 0, 0, 0)))
    assert np.isnan(edges(picture(0).convert("L"), (0, 0, 0, 0))[1:]).all()


def test_edges_of_a_corner_are_those_of_its_pixels():
    image = picture(0, 200, 150).convert("L")
    corner = image.crop((200 - FRAME, 150 - FRAME, 200, 150))
    np.testing.assert_allclose(edges(image, (0, 0, 0, 0))[4], edges(corner, (0, 0, 0, 0))[4])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 9), (2, 3000)])
def test_any_size_is_measured(size):
    image = Image.new("RGB", size, (10, 200, 30))
    found = measure(image, image)
    assert (found["width"], found["height"]) == size
    assert np.isfinite([float(found[name]) for name in ("blocking", "sharpness", "colour_sharpness", "contrast")]).all()


def test_grey_is_seen_in_colours_that_jpeg_keeps():
    image = picture(0).convert("L")
    assert measure(image, jpeg(image.convert("RGB"), 90).convert("RGB"))["grey"]
    assert not measure(image, picture(0))["grey"]
