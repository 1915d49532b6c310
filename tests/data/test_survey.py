"""What images need is found by looking at them: the channels, and the range of 16-bit values."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from sagan.data import survey
from sagan.data.prepare import open_or_prepare, prepare, store_folder
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from sagan.data.survey import FIRST, Needs, first_needs, needs_of, settled
from sagan.run.store import Store
from sagan.system.errors import UserError
from tests.data.made import Pictures, quiet

AUTO = Recipe(8, channels="auto", range="auto")


def grey(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)


def colour(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def clear(seed):
    """Transparent in one pixel alone."""
    pixels = np.dstack([colour(seed), np.full((8, 8), 255, np.uint8)])
    pixels[2, 3, 3] = 100
    return pixels


def deep(low, high):
    return np.linspace(low, high, 64).round().astype(np.uint16).reshape(8, 8)


def folder(path, images):
    path.mkdir(parents=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(path / f"{number:03}.png")
    return open_source(path)


@pytest.mark.parametrize(
    ("odd", "channels"),
    [
        (grey(9), 1),
        (np.repeat(grey(9)[..., None], 3, 2), 1),  # grey that is stored as colours
        (np.dstack([grey(9), np.full((8, 8), 255, np.uint8)]), 1),  # alpha that is full everywhere
        (colour(9), 3),
        (np.dstack([colour(9), np.full((8, 8), 255, np.uint8)]), 3),
        (clear(9), 4),
        (np.dstack([grey(9), np.full((8, 8), 254, np.uint8)]), 4),
    ],
)
@pytest.mark.parametrize("place", [0, 5, 29])  # the second is not among the first that are looked at
def test_one_image_decides_the_channels_of_all(odd, channels, place, tmp_path):
    images = [grey(seed) for seed in range(30)]
    images[place] = odd
    source = folder(tmp_path / "set", images)
    store = open_or_prepare(source, AUTO, tmp_path / "root", **quiet)
    assert store.images.shape == (30, 8, 8, channels)
    assert store.meta.channels == channels
    stores = [path for path in (tmp_path / "root").iterdir() if path.name.startswith("set-")]
    assert stores == [store.folder], "what was prepared in vain is gone"
    straight = prepare(source, Recipe(8, channels=channels), tmp_path / "straight", **quiet)
    assert straight.hash == store.hash


def test_what_was_found_is_remembered(tmp_path, monkeypatch):
    source = Pictures(30)
    first = open_or_prepare(source, AUTO, tmp_path, **quiet)
    reads = source.reads
    assert open_or_prepare(source, AUTO, tmp_path, **quiet).folder == first.folder
    assert source.reads == reads
    (file,) = (tmp_path / "identities").glob("*.json")
    assert json.loads(file.read_text()) == {"channels": 3, "levels": []}
    file.write_text("[]")  # damaged: all are looked at again
    assert open_or_prepare(source, AUTO, tmp_path, **quiet).folder == first.folder
    assert source.reads == reads + FIRST + 30
    assert json.loads(file.read_text()) == {"channels": 3, "levels": []}


def test_a_store_that_was_made_without_looking_is_not_trusted(tmp_path):
    images = [colour(seed) for seed in range(30)]
    images[5] = clear(5)
    source = folder(tmp_path / "set", images)
    assert first_needs(source).channels == 3
    open_or_prepare(source, Recipe(8), tmp_path / "root", **quiet)
    assert open_or_prepare(source, AUTO, tmp_path / "root", **quiet).meta.channels == 4


@pytest.mark.parametrize("first", [AUTO, Recipe(8)])
def test_an_interrupted_preparation_is_gone_on_with_where_its_images_were_looked_at(first, chunks, tmp_path):
    source = Pictures(30)
    source.stop_at = 20  # not among the first
    with pytest.raises(KeyboardInterrupt):
        open_or_prepare(source, first, tmp_path, **quiet)
    source.stop_at, said = None, []
    open_or_prepare(source, AUTO, tmp_path, warn=said.append)
    assert said[0].startswith("resuming" if first is AUTO else str(tmp_path))


def test_a_store_of_colours_is_the_one_that_earlier_versions_made(tmp_path):
    source = folder(tmp_path / "set", [colour(seed) for seed in range(3)])
    former = open_or_prepare(source, Recipe(8), tmp_path / "root", **quiet)
    reads = {path.name: path.read_bytes() for path in former.folder.iterdir()}
    assert open_or_prepare(source, AUTO, tmp_path / "root", **quiet).folder == former.folder
    assert {path.name: path.read_bytes() for path in former.folder.iterdir()} == reads


def test_folder_and_hash_of_a_store_of_colours_are_those_of_version_0_1(tmp_path):
    source = Pictures(3)
    recipe = Recipe(8, "12", "lanczos")
    wanted = {"format": 1, "identity": "pictures:1", "size": 8, "crop": "12", "filter": "lanczos"}
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:10]
    assert store_folder(tmp_path, source, recipe).name == f"pictures-8-{key}"
    store = prepare(Pictures(3), Recipe(8), tmp_path / "store", **quiet)
    assert store.hash == "a3c240f8537ab53d2b137714e75c122f7de997af3e9859005976190a41740a47"
    assert "range" not in json.loads((store.folder / "meta.json").read_text())


def test_images_that_cannot_be_read_have_no_needs(tmp_path):
    source = Pictures(20, bad=[0, 7])
    assert needs_of(source, range(20), workers=3) == Needs(3)
    assert needs_of(source, [0, 7], workers=1) == Needs()
    assert open_or_prepare(source, AUTO, tmp_path, **quiet).count == 18


@pytest.mark.parametrize(
    ("levels", "range_"),
    [
        ((0, 4095), (0, 4095)),
        ((7, 900), (7, 900)),
        ((0, 2**14 - 1), (0, 2**14 - 1)),
        ((0, 2**14), None),
        ((0, 65535), None),
        ((61440, 65535), (61440, 65535)),  # white is zero
        ((30000, 31000), None),
        ((500, 500), None),  # one value has no range
        ((), None),
    ],
)
def test_a_range_is_that_of_the_data_where_these_are_far_below_full_scale(levels, range_):
    assert Needs(1, levels).range == range_
    assert settled(AUTO, Needs(1, levels)) == Recipe(8, channels=1, range=range_)
    assert settled(Recipe(8, range=(3, 9)), Needs(1, levels)) == Recipe(8, range=(3, 9))


def test_the_range_is_of_all_images_so_that_their_brightness_compares(tmp_path):
    source = folder(tmp_path / "set", [deep(100, 1123), deep(500, 500), deep(1000, 4180)])
    store = open_or_prepare(source, AUTO, tmp_path / "root", **quiet)
    assert store.meta.range == (100, 4180)
    assert store.meta.channels == 1
    expected = [(image.astype(int) - 100) * 255 / 4080 for image in (deep(100, 1123), deep(500, 500), deep(1000, 4180))]
    assert np.abs(store.images[..., 0] - np.array(expected)).max() <= 0.5
    assert Store.open(store.folder).meta.range == (100, 4180)
    assert "16-bit values from 100 as black to 4,180 as white" in store.describe()


def test_a_deep_image_among_others_is_found_wherever_it_is(tmp_path):
    images = [grey(seed) for seed in range(30)]
    images[5] = deep(0, 4095)
    source = folder(tmp_path / "set", images)
    store = open_or_prepare(source, AUTO, tmp_path / "root", **quiet)
    assert store.meta.range == (0, 4095)
    assert store.images[5].max() == 255
    assert np.array_equal(store.images[4][..., 0], grey(4)), "8 bits are left alone"


def test_a_range_may_be_given_and_the_full_one_is_what_earlier_versions_had(tmp_path):
    source = folder(tmp_path / "set", [deep(0, 4095)])
    said = []
    full = open_or_prepare(source, Recipe(8), tmp_path / "root", warn=said.append)
    assert full.images.max() == 16
    assert "range auto shows them" in said[0].replace("`", "")
    own = open_or_prepare(source, Recipe(8, range=(1000, 2000)), tmp_path / "root", **quiet)
    values = deep(0, 4095).astype(float)
    assert np.abs(own.images[0, ..., 0] - ((values - 1000) * 255 / 1000).clip(0, 255)).max() <= 0.5
    assert own.folder != full.folder


def test_needs_that_no_images_have_are_refused():
    for wrong in ({"channels": 2}, {"levels": (1,)}):
        with pytest.raises(UserError, match="no needs of images"):
            Needs(**wrong)


def test_many_images_are_looked_at_in_pieces(monkeypatch):
    monkeypatch.setattr(survey, "_AT_ONCE", 3)
    progress = []
    needs_of(Pictures(8), range(8), workers=2, progress=lambda done, total: progress.append((done, total)))
    assert progress == [(3, 8), (6, 8), (8, 8)]
