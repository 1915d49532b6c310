import pytest

from sagan.core.shapes import ImageShape


def test_a_shape_in_every_order():
    shape = ImageShape(3, 32, 64)
    assert (shape.chw, shape.hwc, shape.numel, str(shape)) == ((3, 32, 64), (32, 64, 3), 3 * 32 * 64, "32x64")


def test_only_a_square_has_one_side():
    assert ImageShape.square(64) == ImageShape(3, 64, 64)
    assert ImageShape.square(64).side == 64
    with pytest.raises(ValueError, match="images must be square for these networks, got 32x64"):
        _ = ImageShape(3, 32, 64).side
