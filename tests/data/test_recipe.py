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
