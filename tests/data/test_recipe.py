"""The right pixels: crops, filters and sizes, and both published data sets as published."""

import json

import numpy as np
import pytest
from PIL import Image

from sagan.data.prepare import prepare
from sagan.data.recipe import Recipe, cut_centre
from sagan.data.sources.open import open_source
from sagan.run.store import Store
from tests.data.made import SHARED, First, Pictures, quiet


def independent(image, crop, size, resample):
    """The recipe's meaning, said with other calls of Pillow: the crop as the box of one resize."""
    width, height = image.size
    if crop == "squash":
        return np.asarray(image.resize((size, size), resample))
    side = min(image.size) if crop == "square" else int(crop)
    left, top = (width - side) // 2, (height - side) // 2
    pixels = np.asarray(image)[top : top + side, left : left + side]
    return np.asarray(Image.fromarray(pixels).resize((size, size), resample))


@pytest.mark.parametrize("filter", ["bilinear", "lanczos", "bicubic", "box"])
@pytest.mark.parametrize("crop", ["square", "squash", "12", "16"])
def test_crops_and_filters_are_what_they_say(crop, filter, tmp_path):
    source = Pictures(3)
    store = prepare(source, Recipe(8, crop, filter), tmp_path / "store")
    resample = getattr(Image.Resampling, filter.upper())
    for i in range(3):
        assert np.array_equal(store.images[i], independent(source.read(i), crop, 8, resample))


@pytest.mark.parametrize(("width", "height", "left", "top"), [(178, 218, 9, 29), (163, 165, 2, 2), (160, 160, 0, 0)])
def test_the_centre_is_where_the_published_program_cut(width, height, left, top):
    image = Pictures(1, width=width, height=height).read(0)
    expected = image.crop((left, top, left + 160, top + 160))  # halves to even: (163 - 160) / 2 = 1.5 is 2
    assert np.array_equal(np.asarray(cut_centre(image, 160, 160)), np.asarray(expected))


def test_images_smaller_than_the_crop_are_refused_not_padded(tmp_path):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "set" / "small.png")
    Image.new("RGB", (30, 30), "red").save(tmp_path / "set" / "whole.png")
    store = prepare(open_source(tmp_path / "set"), Recipe(8, "24"), tmp_path / "store", **quiet)
    assert store.count == 1
    (skipped,) = store.skipped
    assert skipped.name == str(tmp_path / "set" / "small.png")
    assert skipped.reason.startswith("it is 30x20, smaller than the 24x24 pixels to cut out (--crop square")
    with pytest.raises(ValueError, match=r"no image of .* could be used \(centre 31 pixels\); the first: .*small\.png"):
        prepare(open_source(tmp_path / "set"), Recipe(8, "31"), tmp_path / "none", **quiet)
    assert not (tmp_path / "none").exists()


def test_enlarged_images_are_counted_and_said(tmp_path):
    said = []
    store = prepare(Pictures(3), Recipe(32), tmp_path / "store", warn=said.append)
    assert store.meta.enlarged == 3
    assert any("3 images smaller than 32x32" in sentence for sentence in said)


def test_a_size_is_one_pixel_or_more():
    with pytest.raises(ValueError, match="must be a size such as 64, .* got '0'"):
        Recipe(0)


@pytest.mark.skipif(not (SHARED / "CelebA").is_dir(), reason="no CelebA photographs beside the repository")
def test_celeba_is_cut_as_published(tmp_path):
    source = First(open_source(SHARED / "CelebA"), 24)
    store = prepare(source, Recipe(64, "160"), tmp_path / "store")
    assert store.count == 24
    for i in range(24):
        with Image.open(source.name(i)) as image:
            expected = image.crop((9, 29, 169, 189)).resize((64, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(store.images[i], np.asarray(expected))


@pytest.mark.skipif(not (SHARED / "LSUN").is_dir(), reason="no LSUN photographs beside the repository")
def test_lsun_is_squashed_as_published(tmp_path):
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    source = First(open_source(SHARED / "LSUN" / "church_outdoor_train_lmdb"), 24)
    store = prepare(source, Recipe(64, "squash"), tmp_path / "store")
    assert store.count == 24
    expected = source.read(7).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(store.images[7], np.asarray(expected))
    assert 20 < store.images.mean() < 235


@pytest.mark.skipif(not (SHARED / "celeba64.zip").is_file(), reason="no zip of faces beside the repository")
def test_a_zip_of_faces_at_half_size(tmp_path):
    store = prepare(First(open_source(SHARED / "celeba64.zip"), 64), Recipe(32), tmp_path / "store")
    assert Store.open(store.folder).images.shape == (64, 32, 32, 3)
    assert json.loads((store.folder / "meta.json").read_text())["skipped"] == []


@pytest.mark.parametrize(
    ("size", "box"), [("8x16", (0, 3, 20, 13)), ("16x8", (6, 0, 14, 16)), ("8x10", (0, 0, 20, 16))]
)
def test_fill_is_the_largest_centred_part_of_the_aspect(size, box):
    image = Pictures(1, width=20, height=16).read(0)
    recipe = Recipe(size, "fill")
    made, enlarged = recipe.apply(image)
    expected = image.crop(box).resize(made.size, Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(made), np.asarray(expected))
    assert (made.height, made.width) == (recipe.shape.height, recipe.shape.width)
    assert enlarged == (box[2] - box[0] < made.width or box[3] - box[1] < made.height)


def test_fill_and_square_are_one_recipe_for_square_sizes():
    assert Recipe(8, "fill") == Recipe(8) == Recipe("8x8")
    with pytest.raises(ValueError, match="crop square gives square images, and the size is 8x16: fill takes"):
        Recipe("8x16")


def test_a_number_of_pixels_is_the_shorter_side_of_what_is_cut_out():
    image = Pictures(1, width=20, height=16).read(0)
    made, _ = Recipe("4x6", "12").apply(image)
    assert np.array_equal(
        np.asarray(made), np.asarray(image.crop((1, 2, 19, 14)).resize((6, 4), Image.Resampling.BILINEAR))
    )
    with pytest.raises(ValueError, match=r"it is 20x16, smaller than the 21x14 pixels to cut out \(--crop fill"):
        Recipe("4x6", "14").apply(image)


@pytest.mark.parametrize(
    ("crop", "ground"), [("pad", (0, 0, 0)), ("pad:#ffffff", (255, 255, 255)), ("pad:#aabbcc", (170, 187, 204))]
)
@pytest.mark.parametrize("sides", [(40, 10), (10, 40), (1, 3000), (16, 16)])
def test_padded_images_are_whole_and_centred(crop, ground, sides):
    made, _ = Recipe(16, crop).apply(Image.new("RGB", sides, "red"))
    pixels = np.asarray(made)
    red = (pixels == (255, 0, 0)).all(2)
    assert red.sum() == {(40, 10): 64, (10, 40): 64, (1, 3000): 16, (16, 16): 256}[sides]
    assert (pixels[~red] == ground).all()
    assert np.array_equal(red, red[::-1, ::-1]) or sides == (1, 3000)


def test_padding_of_transparent_images_is_transparent():
    image = Image.new("RGBA", (8, 4), (9, 9, 9, 255))
    made, _ = Recipe(8, "pad", channels=4).apply(image)
    assert made.getpixel((0, 0)) == (0, 0, 0, 0)
    assert made.getpixel((4, 4)) == (9, 9, 9, 255)
    assert Recipe(8, "pad:#ff0000", channels=4).apply(image)[0].getpixel((0, 0)) == (255, 0, 0, 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_store_has_the_channels_that_are_asked_for(channels, tmp_path):
    (tmp_path / "set").mkdir()
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "set" / "grey.png")
    Image.new("RGBA", (8, 8), (200, 100, 50, 51)).save(tmp_path / "set" / "transparent.png")
    store = prepare(open_source(tmp_path / "set"), Recipe(8, channels=channels), tmp_path / "store", **quiet)
    store = Store.open(store.folder)
    assert store.images.shape == (2, 8, 8, channels)
    assert np.array_equal(store.images[0, ..., 0], grey), "grey is kept exactly"
    over_white = (244, 224, 214)
    seen = {1: [229], 3: over_white, 4: (200, 100, 50, 51)}[channels]
    assert np.abs(store.images[1, 0, 0].astype(int) - seen).max() <= 1


def test_colours_that_cannot_be_seen_do_not_bleed_into_others():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = 0, 255, 0, 0  # green, and nothing is seen of it
    pixels[:, 4:] = 255, 0, 0, 255
    made = np.asarray(Recipe(3, channels=4).apply(Image.fromarray(pixels))[0])
    assert not made[..., 1][made[..., 3] > 0].any()
