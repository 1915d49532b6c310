"""Every pixel mode becomes grey, RGB or RGBA, and then so many channels."""

import errno
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from sagan.data.sources.decode import MAX_PIXELS, to_rgb
from sagan.data.sources.decode import decode as decode_as_it_is
from sagan.data.sources.own import SOFTWARE
from sagan.data.sources.remarks import collect_remarks
from sagan.system.errors import UserError
from tests.data.sources.made import encoded, picture


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in mode RGB."""
    return to_rgb(decode_as_it_is(data, name, max_pixels))


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


def tiff(strips, *, bits, photometric, planar=1, largest=None, order="<"):
    """An uncompressed TIFF of 2x2 pixels, made by hand from the bytes of its strips."""
    offsets = np.cumsum([8, *map(len, strips)])
    tags = {
        256: [2], 257: [2], 258: bits, 259: [1], 262: [photometric], 273: list(offsets[:-1]), 277: [len(bits)],
        278: [2], 279: list(map(len, strips)), 284: [planar],
    }  # fmt: skip
    if largest is not None:
        tags[281] = [largest]
    start = int(offsets[-1])
    beyond = start + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        field = packed if len(values) == 1 else struct.pack(f"{order}I", beyond + len(more))
        more += b"" if len(values) == 1 else packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + field
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + b"".join(strips) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more


def whole(value, order="<"):
    return np.full((2, 2), value, np.dtype(f"{order}u2")).tobytes()


def test_white_may_be_zero_in_a_16_bit_tiff():
    for value, expected in [(0, 255), (65535, 0), (16384, 191)]:
        assert decode(tiff([whole(value)], bits=[16], photometric=0), "it").getpixel((0, 0)) == (expected,) * 3
    assert decode(tiff([whole(16384)], bits=[16], photometric=1), "it").getpixel((0, 0)) == (64, 64, 64)


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_16_bits_keep_their_colours(order):
    planes = [whole(value, order) for value in (0xF001, 0x80FE, 0x10FF)]
    image = decode(tiff(planes, bits=[16] * 3, photometric=2, planar=2, order=order), "it")
    assert np.unique(np.asarray(image).reshape(4, 3), axis=0).tolist() == [[0xF0, 0x80, 0x10]]


def test_a_tiff_says_which_value_is_the_largest():
    assert decode(tiff([whole(4095)], bits=[16], photometric=1, largest=4095), "it").getpixel((0, 0)) == (255,) * 3
    packed = bytes([0xFF, 0xFF, 0xFF, 0x80, 0x08, 0x00])  # 12 bits each, rows padded to bytes
    image = decode(tiff([packed], bits=[12], photometric=1), "it")
    assert np.asarray(image)[:, :, 0].tolist() == [[255, 255], [128, 128]]


def test_what_may_be_12_bits_is_remarked():
    with collect_remarks() as remarks:
        value(Image.fromarray(np.full((2, 2), 4095, dtype=np.uint16)))
        value(Image.fromarray(np.full((2, 2), 0, dtype=np.uint16)))
        value(Image.fromarray(np.full((2, 2), 4096, dtype=np.uint16)))
    assert len(remarks) == 1
    assert "12 bits" in remarks[0]


def test_transparent_everywhere_is_remarked_and_an_unused_fourth_byte_is_not_transparency():
    clear = Image.new("RGBA", (2, 2), (200, 100, 50, 0))
    with collect_remarks() as remarks:
        assert value(clear) == (255, 255, 255)
        assert value(clear, "WEBP", lossless=True, exact=True) == (255, 255, 255)
    assert remarks == ["transparent everywhere, so all that remains is white"] * 2
    with collect_remarks() as remarks:
        assert value(clear, "BMP") == (200, 100, 50)
    assert remarks == []


def exif_bytes(entries):
    """An EXIF block with orientation 6 and further entries (tag, type, count, four bytes)."""
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", 6, 0)), *entries])
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


@pytest.mark.parametrize(
    "entry",
    [
        (0x0100, 9, 1, struct.pack("<i", -5)),  # a negative width
        (0x011A, 2, 4, b"72\0\0"),  # a resolution as text
        (0x011A, 5, 1, struct.pack("<I", 0xFFFF)),  # one that lies behind the end
        (0x0132, 7, 4, b"\xff\xfe\0\1"),
        (0x010F, 200, 4, b"abcd"),  # a type that there is not
        (0x8825, 4, 1, struct.pack("<I", 0)),  # GPS that begins where the block does
        (0x9C9B, 1, 4, b"\0\xd8\0\0"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_photos_are_turned_whatever_else_their_exif_holds(entry, kind):
    image = picture(5, width=16, height=8)
    data = encoded(image, kind, exif=exif_bytes([entry]))
    with collect_remarks():
        turned = decode(data, "it")
    assert turned.size == (8, 16)


def test_exif_that_cannot_be_read_is_remarked_and_leaves_no_raw_warning():
    data = encoded(picture(5), "JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<I", 10**6))
    with warnings.catch_warnings(record=True) as raw, collect_remarks() as remarks:
        warnings.simplefilter("always")
        assert decode(data, "it").size == (12, 10)
    assert raw == []
    assert remarks == [] or "EXIF" in remarks[0]


def with_chunk(png, kind, content):
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return png[:33] + chunk + png[33:]  # behind the header


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"tEXt", b"Comment\0" + b"x" * 3_000_000),
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000))),
    ],
)
def test_a_png_with_much_text_or_a_large_profile_is_read(kind, content):
    image = picture(3)
    read = decode(with_chunk(encoded(image), kind, content), "it")
    assert np.array_equal(np.asarray(read), np.asarray(image))


def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked():
    data = encoded(Image.new("1", (400, 300)))
    assert decode(data, "it", 120_000).size == (400, 300)
    with pytest.raises(UserError, match=r"it cannot be read: it has 400x300 pixels, more than the 119,999 of max_p"):
        decode(data, "it", 119_999)


def test_pillows_own_limit_stays_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    decode(encoded(picture(1)), "it")
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "it holds no image in a known format"),
        (b"II*\0\xff\xff\xff\x7f", "it begins like TIFF, but is damaged"),
        (b"\x89PNG\r\n\x1a\n", "it begins like PNG, but is damaged"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "pip install pillow-heif"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it holds no image in a known format"),
    ],
)
def test_why_there_is_no_image(data, reason):
    with pytest.raises(UserError, match=f"it cannot be read: .*{reason}"):
        decode(data, "it")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_16_bits(pixels: np.ndarray, *chunks: bytes) -> bytes:
    """Grey or colour, by the shape."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    ends = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + ends


def tiff_of_16_bits(pixels: np.ndarray) -> bytes:
    """Colour, uncompressed, which Pillow does not write."""
    height, width, _ = pixels.shape
    behind = 8 + 2 + 12 * 9 + 4
    tags = [(256, 1, width), (257, 1, height), (258, 3, behind), (259, 1, 1), (262, 1, 2)]
    tags += [(273, 1, behind + 6), (277, 1, 3), (278, 1, height), (279, 1, pixels.size * 2)]
    listed = b"".join(struct.pack("<HHII", tag, 3, count, value) for tag, count, value in tags)
    start = b"II*\0" + struct.pack("<IH", 8, len(tags)) + listed + bytes(4) + struct.pack("<HHH", 16, 16, 16)
    return start + pixels.astype("<u2").tobytes()


TWELVE = np.random.default_rng(0).integers(0, 4096, (6, 5, 3)).astype(np.uint16)
TWELVE[0, 0] = 4095
DEEP = {
    "grey PNG": lambda pixels: png_of_16_bits(pixels[:, :, 0]),
    "grey TIFF": lambda pixels: encoded(Image.fromarray(pixels[:, :, 0].copy()), "TIFF"),
    "inverted TIFF": lambda pixels: encoded(Image.fromarray(pixels[:, :, 0].copy()), "TIFF", tiffinfo={262: 0}),
    "colour PNG": png_of_16_bits,
    "colour TIFF": tiff_of_16_bits,
    "colour PPM": lambda pixels: b"P6 5 6 65535\n" + pixels.astype(">u2").tobytes(),
    "text PPM": lambda pixels: b"P3 5 6 65535\n" + " ".join(map(str, pixels.ravel())).encode(),
}


@pytest.mark.parametrize("kind", DEEP)
def test_12_bits_in_16_are_noticed_and_16_are_not(kind):
    with collect_remarks() as remarks:
        decode(DEEP[kind](TWELVE), "it")
    nearly = "white" if kind == "inverted TIFF" else "black"
    assert [f"no value above 4,095, which is nearly {nearly}" in remark for remark in remarks] == [True]
    with collect_remarks() as remarks:
        assert np.asarray(decode(DEEP[kind](TWELVE * 16), "it")).max() > 250
    assert remarks == []


@pytest.mark.parametrize(
    ("stated", "expected"), [(None, 16), (4095, 255), (1, 16), (30_000, 16), (65535, 16), (100_000_000, 16), (1023, 16)]
)
def test_a_largest_value_is_heeded_where_it_tells_the_bits(stated, expected):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if stated is not None:
        tags[281] = stated
        tags.tagtype[281] = 4
    found = decode(encoded(Image.fromarray(TWELVE[:, :, 0].copy()), "TIFF", tiffinfo=tags), "it")
    assert found.getpixel((0, 0)) == (expected,) * 3


def test_a_transparent_value_of_16_bits_is_white():
    grey = np.array([[0, 65535, 257]], np.uint16)
    assert decode(png_of_16_bits(grey, chunk(b"tRNS", b"\0\0")), "it").getpixel((0, 0)) == (255, 255, 255)
    assert decode(png_of_16_bits(grey, chunk(b"tRNS", b"\0\0")), "it").getpixel((2, 0)) == (1, 1, 1)
    colour = np.full((1, 2, 3), 0x1234, np.uint16) * np.array([1, 2], np.uint16)[:, None]
    found = decode(png_of_16_bits(colour, chunk(b"tRNS", b"\x12\x34" * 3)), "it")
    assert (found.getpixel((0, 0)), found.getpixel((1, 0))) == ((255, 255, 255), (0x24, 0x24, 0x24))


def notes(**texts: str) -> PngImagePlugin.PngInfo:
    made = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        if name == "xmp":
            made.add_itxt("XML:com.adobe.xmp", text)
        else:
            made.add_text(name.replace("_", " "), text, zip=len(text) > 10_000)
    return made


SIX = Image.Exif()
SIX[0x112] = 6
RAW = f"\nexif\n{len(SIX.tobytes()):8}\n{SIX.tobytes().hex()}"
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
LARGE = "x" * 3_000_000


@pytest.mark.parametrize(
    "options",
    [
        {"exif": SIX, "pnginfo": notes(junk=LARGE)},
        {"pnginfo": notes(Raw_profile_type_exif=RAW, junk=LARGE)},
        {"pnginfo": notes(xmp=XMP, junk=LARGE)},
    ],
    ids=["eXIf", "text", "XMP"],
)
def test_large_texts_do_not_hide_the_turn(options):
    assert decode(encoded(Image.new("RGB", (3, 2)), **options), "it").size == (2, 3)


@pytest.mark.parametrize(
    "options", [{"pnginfo": notes(xmp=XMP + LARGE)}, {"pnginfo": notes(Raw_profile_type_exif=LARGE)}]
)
def test_a_turn_in_a_text_that_is_too_large_is_read_or_missed_with_a_remark(options):
    with collect_remarks() as remarks:
        size = decode(encoded(Image.new("RGB", (3, 2)), **options), "it").size
    assert size == (2, 3) or len(remarks) == 1


@pytest.mark.parametrize(
    "damaged",
    [chunk(b"pHYs", b"\0\0"), chunk(b"iCCP", b"a\0\5xxxx"), chunk(b"tEXt", b"a\0b")[:-1] + b"x", chunk(b"gAMA", b"")],
)
def test_what_is_damaged_beside_the_pixels_does_not_matter(damaged):
    whole = encoded(picture(0))
    found = decode(whole[:33] + damaged + whole[33:], "it")
    assert np.array_equal(np.asarray(found), np.asarray(picture(0)))


@pytest.mark.parametrize(("kind", "value"), [(1, b"\6"), (2, "6"), (3, 6), (4, 6), (5, 6), (9, 6), (12, 6.0)])
def test_an_orientation_of_any_type_turns(kind, value):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x112] = value
    tags.tagtype[0x112] = kind
    data = encoded(Image.new("RGB", (3, 2)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + tags.tobytes(8))
    assert decode(data, "it").size == (2, 3)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread"), ImportError("no decoder")],
)
def test_trouble_of_the_machine_is_not_a_damaged_image(error, monkeypatch):
    def failing(*arguments, **options):
        raise error

    monkeypatch.setattr(Image, "open", failing)
    with pytest.raises(OSError, match=str(error.args[-1])) as found:
        decode(encoded(picture(0)), "it")
    assert found.value.filename == "it"


def test_a_picture_that_this_program_wrote_is_no_photo():
    with pytest.raises(UserError, match="it is a picture that sagan wrote"):
        decode(encoded(picture(0), pnginfo=notes(Software=SOFTWARE)), "it")
