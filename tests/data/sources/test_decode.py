"""Every pixel mode becomes RGB."""

import numpy as np
import pytest
from PIL import Image

from sagan.data.sources.decode import decode
from tests.data.sources.made import encoded, picture


def value(image: Image.Image, kind: str = "PNG", **options) -> tuple[int, int, int]:
    """The first pixel after writing, reading back and turning to RGB."""
    result = decode(encoded(image, kind, **options), "it")
    assert result.mode == "RGB"
    return result.getpixel((0, 0))


def palette_image(transparency: int | None = None) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (2, 2), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (2, 2), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (2, 2), (40, 255)), "PNG", (40, 40, 40)),
        (Image.new("RGBA", (2, 2), (200, 100, 50, 255)), "PNG", (200, 100, 50)),
        (Image.new("RGBA", (2, 2), (200, 100, 50, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (palette_image(), "PNG", (10, 200, 30)),
        (palette_image(transparency=1), "PNG", (255, 255, 255)),
        (palette_image(), "GIF", (10, 200, 30)),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "BMP", (1, 2, 3)),
        (Image.new("RGB", (2, 2), (1, 2, 3)), "PPM", (1, 2, 3)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "TIFF", (255, 255, 255)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
    ],
)
def test_every_pixel_mode_becomes_rgb(image, kind, expected):
    assert value(image, kind) == expected


def test_a_cmyk_jpeg_is_not_inverted():
    red, green, blue = value(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert red > 245
    assert max(green, blue) < 10


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("deep", "expected"), [(65535, 255), (0, 0), (32896, 128), (257, 1), (255, 1), (128, 0), (129, 1)]
)
def test_16_bit_grey_is_scaled_not_clipped(kind, deep, expected):
    image = Image.fromarray(np.full((2, 2), deep, dtype=np.uint16))
    assert value(image, kind) == (expected,) * 3


def test_16_bit_colour_and_portable_maps_are_scaled():
    assert decode(b"P6 1 1 65535\n\xff\xff\x00\x00\x80\x80", "it").getpixel((0, 0)) == (255, 0, 128)
    assert decode(b"P5 1 1 65535\n\xff\xff", "it").getpixel((0, 0)) == (255, 255, 255)


def test_numbers_without_a_known_range_are_refused():
    with pytest.raises(ValueError, match="floating-point"):
        value(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    with pytest.raises(ValueError, match="70000"):
        value(Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)), "TIFF")


def test_exif_orientation_is_applied():
    image = picture(5, width=16, height=8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to look at it
    turned = decode(encoded(image, "PNG", exif=exif), "it")
    assert np.array_equal(np.asarray(turned), np.asarray(image.transpose(Image.Transpose.ROTATE_270)))
