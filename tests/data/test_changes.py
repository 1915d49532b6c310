import os

import numpy as np
import pytest
from PIL import Image

from sagan.data import Recipe, open_or_prepare, open_source
from sagan.data.changes import describe_changes, find_store, other_images
from sagan.run.config import DataConfig
from sagan.run.store import NAMES


def prepared(root, shades, source="photos"):
    folder = root / source
    for path in folder.glob("*.png"):
        path.unlink()
    folder.mkdir(exist_ok=True)
    for name, shade in shades.items():
        Image.new("RGB", (16, 16), (shade, 0, 0)).save(folder / f"{name}.png")
    return open_or_prepare(open_source(folder), Recipe(16), root / "prepared")


def test_what_is_gone_new_and_changed_is_counted_and_named(tmp_path):
    old = prepared(tmp_path, {name: number for number, name in enumerate("abcdefg")})
    new = prepared(tmp_path, {"a": 0, "b": 1, "c": 99, "h": 7})
    assert describe_changes(old, new) == (
        "of 7 images, 4 gone (d.png, e.png, f.png, ...), 1 new (h.png) and 1 changed (c.png)"
    )


def test_of_a_store_without_names_the_pixels_are_counted(tmp_path):
    old = prepared(tmp_path, {"a": 0, "b": 1, "c": 2})
    (old.folder / NAMES).unlink()
    new = prepared(tmp_path, {"a": 0, "c": 9})
    assert describe_changes(old, new) == "of 3 images, 2 gone or changed and 1 new or changed (c.png)"


def test_the_old_store_is_found_by_its_pixels_and_offered_as_a_command(tmp_path):
    old = prepared(tmp_path, {"a": 0, "b": 1})
    (tmp_path / "prepared" / "torn").mkdir()
    (tmp_path / "prepared" / "torn" / "meta.json").write_text("{")
    new = prepared(tmp_path, {"a": 0})
    assert find_store(old.hash, [tmp_path / "prepared"]).folder == old.folder
    data = DataConfig(data="photos", prepared=str(tmp_path / "prepared"))
    sentence = other_images(tmp_path / "my run", data, new, f"{old.hash} {'0' * 64}")
    assert "of 2 images, 1 gone (b.png)" in sentence
    assert f"`sagan resume '{tmp_path}/my run' --data {old.folder}` uses them" in sentence
    assert "bring those back" in other_images(tmp_path / "run", data, new, "0" * 64)
    assert "other classes" in other_images(tmp_path / "run", data, new, f"{new.hash} {'0' * 64}")


def test_two_arrays_of_one_size_and_time_are_told_apart(tmp_path):
    stores = []
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "set.npy", np.full((3, 16, 16, 3), number, np.uint8))
        os.utime(tmp_path / name / "set.npy", ns=(0, 0))
        stores.append(open_or_prepare(open_source(tmp_path / name / "set.npy"), Recipe(16), tmp_path / "prepared"))
    assert [int(store.images[0, 0, 0, 0]) for store in stores] == [0, 1]


# ---- a prepared store as a source


def test_a_prepared_store_serves_as_it_is_or_as_images(tmp_path):
    store = prepared(tmp_path, {"a": 0, "b": 1})
    source = open_source(store.folder)
    assert source.served(16, "auto", "bilinear").hash == store.hash
    assert [source.name_within(number) for number in range(2)] == ["a.png", "b.png"]
    assert source.read(1).getpixel((0, 0)) == (1, 0, 0)
    assert open_or_prepare(source, Recipe(8), tmp_path / "smaller").size == 8


@pytest.mark.parametrize(
    ("size", "crop", "filter", "said"),
    [
        (32, "auto", "bilinear", "prepared at 16x16, and imsize is 32: give --imsize 16"),
        (16, "squash", "bilinear", "prepared with --crop square, not squash"),
        (16, "square", "box", "prepared with --filter bilinear, not box"),
    ],
)
def test_a_store_prepared_in_another_way_is_refused(tmp_path, size, crop, filter, said):
    with pytest.raises(ValueError, match=said):
        open_source(prepared(tmp_path, {"a": 0}).folder).served(size, crop, filter)
