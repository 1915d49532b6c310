"""The store: opened only when whole, a valid .npy for any other program, and able to say what it is."""

import json

import numpy as np
import pytest
from PIL import Image

from sagan.core.shapes import ImageShape
from sagan.data.prepare import Recipe, prepare
from sagan.data.sources.open import open_source
from sagan.run.store import HEADER_BYTES, Store, images_header

COUNT, SIZE = 5, 8


@pytest.fixture
def folder(tmp_path):
    """A store of five random images, prepared from an array with no change of size."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(tmp_path / "set.npy", pixels)
    return prepare(open_source(tmp_path / "set.npy"), Recipe(SIZE), tmp_path / "store").folder


def test_a_store_holds_the_images_as_a_read_only_memory_map(folder):
    store = Store.open(folder)
    assert isinstance(store.images, np.memmap)
    assert not store.images.flags.writeable
    assert (store.count, store.size, len(store.hash)) == (COUNT, SIZE, 64)
    assert np.array_equal(store.images, np.load(folder.parent / "set.npy"))
    assert np.array_equal(store.images, np.load(folder / "images.npy"))  # as any other program would read it


@pytest.mark.parametrize(("count", "size"), [(0, 1), (1, 64), (202_599, 64), (10**15, 65536)])
def test_the_header_is_valid_and_of_one_length(count, size, tmp_path):
    header = images_header(count, ImageShape.square(size))
    assert len(header) == HEADER_BYTES
    with (tmp_path / "x.npy").open("w+b") as file:
        file.write(header)
        file.seek(0)
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == ((count, size, size, 3), False, np.dtype(np.uint8))


def test_a_store_describes_itself(tmp_path):
    (tmp_path / "set").mkdir()
    for i, side in enumerate((20, 20, 12)):
        Image.new("RGB", (side, side), (i, i, i)).save(tmp_path / "set" / f"{i}.png")
    (tmp_path / "set" / "bad.png").write_bytes(b"")
    source = open_source(tmp_path / "set")
    store = prepare(source, Recipe(16), tmp_path / "a", warn=lambda _: None)
    assert store.describe() == (
        f"3 images of 16x16 from 4 PNG files under {tmp_path / 'set'} (centre square, bilinear), "
        f"1 skipped, 1 enlarged from smaller ones"
    )
    store = prepare(source, Recipe(8, "16", "box"), tmp_path / "b", warn=lambda _: None)
    assert store.describe().endswith("(centre 16 pixels, box), 2 skipped")
    assert "squashed" in prepare(source, Recipe(8, "squash"), tmp_path / "c", warn=lambda _: None).describe()


def test_a_store_says_how_many_classes_it_has(tmp_path):
    for number, name in enumerate(("a/1.png", "b/1.png", "b/2.png")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "set" / name)
    recipe, silent = Recipe(8), {"warn": lambda _: None}
    store = prepare(open_source(tmp_path / "set"), recipe, tmp_path / "two")
    assert store.describe().startswith("3 images of 8x8 in 2 classes (0 a, 1 b) from 3 PNG files under ")
    (tmp_path / "set" / "a" / "1.png").write_bytes(b"")
    store = prepare(open_source(tmp_path / "set"), recipe, tmp_path / "one", **silent)
    assert (store.classes, store.labels.tolist()) == (("b",), [0, 0])
    assert store.describe().startswith("2 images of 8x8 from 3 PNG files under ")


def test_a_store_names_its_first_classes_and_its_last(tmp_path):
    for number in range(30):
        (tmp_path / "set" / str(number)).mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "set" / str(number) / "1.png")
    store = prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "store")
    assert (
        " in 30 classes (0 ('0'), 1 ('1'), 2 ('2'), 3 ('3'), 4 ('4'), 5 ('5'), 6 ('6'), 7 ('7'), ... 29 ('29')) from "
        in store.describe()
    )
    assert store.describe().replace(str(tmp_path / "set"), "set") == Store.open(store.folder).describe()


def test_classes_numbered_in_another_order_are_those_of_the_same_images(labelled):
    store = Store.open(labelled)
    other = store.numbered_as(("b", "a"))
    assert (other.classes, other.labels.tolist(), other.hash) == (("b", "a"), [1, 0, 0], store.hash)
    assert Store.open(labelled).classes == ("a", "b")


@pytest.fixture
def labelled(tmp_path):
    """The folder of a store of three images in two classes."""
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name)
    return prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "store").folder


def write_labels(folder, labels):
    np.save(folder / "labels.npy", np.array(labels))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "labels.npy").unlink(), "it has no labels.npy"),
        (lambda f: (f / "labels.npy").write_bytes(b""), r"labels\.npy is damaged"),
        (lambda f: (f / "labels.npy").write_bytes((f / "labels.npy").read_bytes()[:-1]), r"labels\.npy is damaged"),
        (lambda f: write_labels(f, [0, 1]), "it is not 3 labels"),
        (lambda f: write_labels(f, [0.0, 1.0, 1.0]), "it is not 3 labels"),
        (lambda f: write_labels(f, [0, 1, 2]), "a label is not one of the 2 classes"),
        (lambda f: write_labels(f, [0, 1, -1]), "a label is not one of the 2 classes"),
    ],
)
def test_labels_that_are_not_whole_are_refused(damage, message, labelled):
    assert Store.open(labelled).labels.tolist() == [0, 1, 1]
    damage(labelled)
    with pytest.raises(ValueError, match=f"{message}.*prepare it again"):
        Store.open(labelled)


def change_meta(folder, **changes):
    meta = json.loads((folder / "meta.json").read_text())
    meta.update(changes)
    (folder / "meta.json").write_text(json.dumps({key: value for key, value in meta.items() if value is not None}))


def truncate(folder):
    data = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(data[:-1])


def half_done(folder):
    data = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(images_header(0, ImageShape.square(SIZE)) + data[HEADER_BYTES:])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "meta.json").unlink(), "not a prepared store: it has no meta.json"),
        (lambda f: (f / "meta.json").write_text("{"), "damaged: it is not JSON .*prepare it again"),
        (lambda f: (f / "meta.json").write_text("[]"), "no format number"),
        (lambda f: change_meta(f, format=99), "written by a newer sagan: its format is 99.*prepare it again"),
        (lambda f: change_meta(f, sha256=None), "damaged: sha256 missing.*prepare it again"),
        (lambda f: change_meta(f, sha256="x"), "sha256 must be 64 hexadecimal digits, got 'x'"),
        (lambda f: change_meta(f, count=True), "count must be a whole number, got True"),
        (lambda f: change_meta(f, count=10**30), r"count must be below 2\*\*63"),
        (lambda f: change_meta(f, frames=3), "written by a newer sagan: this version does not know frames"),
        (lambda f: (f / "images.npy").unlink(), "it has no images.npy"),
        (lambda f: change_meta(f, count=6), "not 6 images of 8x8"),
        (half_done, "not 5 images of 8x8"),
        (truncate, r"1,087 bytes instead of 1,088"),
    ],
)
def test_what_is_not_a_whole_store_is_refused_with_what_to_do(damage, message, folder):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        Store.open(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no prepared store at"):
        Store.open(tmp_path / "nowhere")
