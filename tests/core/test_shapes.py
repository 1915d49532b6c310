import itertools

import pytest

from sagan.core.shapes import ImageShape
from sagan.system.errors import UserError


def test_a_shape_in_every_order():
    shape = ImageShape(3, 32, 64)
    assert (shape.chw, shape.hwc, shape.numel, str(shape)) == ((3, 32, 64), (32, 64, 3), 3 * 32 * 64, "32x64")
    assert (shape.shorter, ImageShape.square(64).shorter) == (32, 64)


def test_a_size_in_words_is_read_back():
    for shape in (ImageShape.square(64), ImageShape(3, 64, 96), ImageShape(1, 112, 80)):
        assert ImageShape.of(shape.size, shape.channels) == shape
        assert ImageShape.of(str(shape), shape.channels) == shape
    assert ImageShape.of("64x64").size == 64


@pytest.mark.parametrize(
    "size", ["", "64x", "x64", "64x64x3", "64X96", "0", "064", "-64", "64.0", "big", 0, -1, "6" * 99]
)
def test_what_is_no_size_is_refused_in_a_sentence(size):
    with pytest.raises(UserError, match="imsize must be a size such as 64, or 64x96 for height x width, got '"):
        ImageShape.of(size)


@pytest.mark.parametrize(
    ("size", "first"),
    [
        (16, (4, 4)),
        (48, (6, 6)),
        (64, (4, 4)),
        (80, (5, 5)),
        (96, (6, 6)),
        ("64x96", (4, 6)),
        ("80x112", (5, 7)),
        ("112x80", (7, 5)),
        ("16x256", (4, 64)),
        (8192, (4, 4)),
    ],
)
def test_doublings_begin_with_a_map_of_the_same_aspect(size, first):
    shape = ImageShape.of(size)
    assert shape.grid(shape.shorter >> shape.doublings) == first
    assert tuple(side << shape.doublings for side in first) == (shape.height, shape.width)


def test_the_first_map_has_a_shorter_side_of_4_to_7_or_the_shape_is_refused():
    for height, width in itertools.product(range(16, 130), (16, 17, 24, 32, 36, 96, 112)):
        shape = ImageShape(3, height, width)
        reached = [n for n in range(12) if height % 2**n == width % 2**n == 0 and 4 <= min(height, width) >> n <= 7]
        if reached:
            assert shape.doublings == reached[0]
        else:
            with pytest.raises(UserError, match="cannot be reached"):
                _ = shape.doublings


@pytest.mark.parametrize(
    ("size", "near"),
    [
        (8, "16 and 20"),
        (50, "48 and 56"),
        (63, "56 and 64"),
        (100, "96 and 112"),
        (9000, "7168 and 8192"),
        ("60x90", "56x88 and 56x96"),
        ("64x100", "56x96 and 64x96"),
        ("8x96", "16x92 and 16x96"),
    ],
)
def test_a_refusal_names_the_nearest_sizes(size, near):
    with pytest.raises(UserError, match=f"imsize {size} cannot be reached by doubling .* that can are {near}$"):
        _ = ImageShape.of(size).doublings
    for each in near.split(" and "):
        assert ImageShape.of(each).doublings >= 2


def test_maps_have_the_aspect_of_the_image():
    shape = ImageShape(3, 80, 112)
    assert [shape.grid(size) for size in (5, 10, 40)] == [(5, 7), (10, 14), (40, 56)]
    assert (shape.map_name(10), ImageShape.square(64).map_name("8")) == ("10x14", "8x8")
