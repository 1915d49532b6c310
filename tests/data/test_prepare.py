"""Preparation: the right pixels, the same bytes however often it is interrupted, and nothing skipped in silence."""

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sagan.data.prepare as module
from sagan.data.prepare import Recipe, open_or_prepare, prepare, store_folder
from sagan.data.sources import Source, open_source
from sagan.run.store import Store
from sagan.system.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
quiet = {"report": lambda sentence: None}


KINDS = ("wasp", "ant", "bee", "fly")


class Pictures(Source):
    """A source of random pictures, kept in nothing: image i is a function of i. Those in ``bad`` cannot be read; their
    classes are the ``kinds`` in turn."""

    def __init__(self, count=30, bad=(), identity="pictures:1", width=20, height=16, kinds=KINDS):
        self.kinds, self.no_classes = kinds, "" if kinds else "they are all of a kind"
        self.count, self.bad, self.identity = count, set(bad), identity
        self.width, self.height = width, height
        self.description = f"{count} pictures"
        self.reads = 0
        self.stop_at = None

    def __len__(self):
        return self.count

    def name(self, index):
        return f"picture {index}"

    def class_of(self, index):
        return self.kinds[index % len(self.kinds)] if self.kinds else None

    def read(self, index):
        self.reads += 1
        if index == self.stop_at:
            raise KeyboardInterrupt
        if index in self.bad:
            raise UserError(f"picture {index} cannot be read: it is bad")
        pixels = np.random.default_rng(index).integers(0, 256, (self.height, self.width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


class First(Source):
    """The first few images of another source."""

    def __init__(self, source, count):
        self.source, self.count = source, count
        self.description, self.identity = f"the first {count} of {source.description}", f"{source.identity}:{count}"

    def __len__(self):
        return self.count

    def name(self, index):
        return self.source.name(index)

    def read(self, index):
        return self.source.read(index)


@pytest.fixture
def chunks(monkeypatch):
    """Chunks of four images, so that thirty are enough for many of them."""
    monkeypatch.setattr(module, "CHUNK_IMAGES", 4)


def content(folder):
    """Every file of a store by name, to compare byte for byte."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# ---- pixels


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
    assert np.array_equal(np.asarray(module.cut_centre(image, 160)), np.asarray(expected))


def test_images_smaller_than_the_crop_are_refused_not_padded(tmp_path):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "set" / "small.png")
    Image.new("RGB", (30, 30), "red").save(tmp_path / "set" / "whole.png")
    store = prepare(open_source(tmp_path / "set"), Recipe(8, "24"), tmp_path / "store", **quiet)
    assert store.count == 1
    (skipped,) = store.skipped
    assert skipped.name == str(tmp_path / "set" / "small.png")
    assert skipped.reason == "it is 30x20, smaller than the 24x24 pixels to cut out"
    with pytest.raises(ValueError, match=r"no image of .* could be used \(centre 31 pixels\); the first: .*small\.png"):
        prepare(open_source(tmp_path / "set"), Recipe(8, "31"), tmp_path / "none", **quiet)
    assert not (tmp_path / "none").exists()


def test_enlarged_images_are_counted_and_said(tmp_path):
    said = []
    store = prepare(Pictures(3), Recipe(32), tmp_path / "store", report=said.append)
    assert store.meta.enlarged == 3
    assert any("3 images were smaller than 32x32" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size must be 1 pixel or more, got 0"),
        ({"size": 8, "crop": "circle"}, "crop must be square, squash or a number of pixels such as 160, got 'circle'"),
        ({"size": 8, "crop": "0"}, "got '0'"),
        ({"size": 8, "crop": "-5"}, "got '-5'"),
        ({"size": 8, "crop": "0160"}, "got '0160'"),
        ({"size": 8, "filter": "nearest"}, "filter must be one of bilinear, lanczos, bicubic, box, got 'nearest'"),
    ],
)
def test_recipes_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


# ---- the store that comes out


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_the_store_does_not_depend_on_the_number_of_workers(workers, chunks, tmp_path):
    one = prepare(Pictures(bad=[3, 29]), Recipe(8), tmp_path / "one", workers=1, **quiet)
    many = prepare(Pictures(bad=[3, 29]), Recipe(8), tmp_path / "many", workers=workers, **quiet)
    assert content(one.folder) == content(many.folder)


def test_meta_says_what_the_store_is(tmp_path):
    store = prepare(Pictures(10, bad=[4]), Recipe(8, "12", "lanczos"), tmp_path / "store", **quiet)
    assert set(content(store.folder)) == {"images.npy", "labels.npy", "meta.json"}
    expected = {
        "format": 1,
        "identity": "pictures:1",
        "source": "10 pictures",
        "source_count": 10,
        "count": 9,
        "size": 8,
        "channels": 3,
        "crop": "12",
        "filter": "lanczos",
        "pixels": "uint8 NHWC RGB",
        "classes": ["ant", "bee", "fly", "wasp"],
        "skipped": [{"name": "picture 4", "reason": "cannot be read: it is bad"}],
    }
    written = json.loads((store.folder / "meta.json").read_text())
    assert {key: written[key] for key in expected} == expected
    assert store.hash == hashlib.sha256(np.ascontiguousarray(store.images).tobytes()).hexdigest()


def test_progress_counts_every_image_and_skips_are_reported(chunks, tmp_path):
    progress, said = [], []
    prepare(
        Pictures(25, bad=range(12)),
        Recipe(8),
        tmp_path / "store",
        progress=lambda done, total: progress.append((done, total)),
        report=said.append,
    )
    assert progress == [(done, 25) for done in range(26)]
    assert said[0] == "skipped picture 0: cannot be read: it is bad"
    assert sum(sentence.startswith("skipped picture") for sentence in said) == module.SKIPS_REPORTED
    assert said[-1] == "skipped 12 images in all; meta.json names each"


def test_skips_go_to_the_log_when_nobody_asks_for_them(tmp_path, caplog):
    prepare(Pictures(3, bad=[1]), Recipe(8), tmp_path / "store")
    assert "skipped picture 1: cannot be read: it is bad" in caplog.text


def test_strict_refuses_the_first_bad_image(chunks, tmp_path):
    with pytest.raises(ValueError, match=r"picture 9 cannot be read: it is bad \(refused by --strict"):
        prepare(Pictures(bad=[9, 20]), Recipe(8), tmp_path / "store", strict=True, **quiet)
    assert not (tmp_path / "store").exists()
    store = prepare(Pictures(bad=[9, 20]), Recipe(8), tmp_path / "store", **quiet)  # goes on from there
    assert store.count == 28
    with pytest.raises(ValueError, match=r"picture 9 .* was prepared without --strict"):
        prepare(Pictures(bad=[9, 20]), Recipe(8), tmp_path / "store", strict=True)


def test_strict_refuses_what_an_interrupted_preparation_skipped(chunks, tmp_path):
    source = Pictures(bad=[1])
    source.stop_at = 20
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", workers=1, **quiet)
    source.stop_at, source.reads = None, 0
    with pytest.raises(ValueError, match="picture 1 "):
        prepare(source, Recipe(8), tmp_path / "store", strict=True, **quiet)
    assert source.reads == 0


def test_no_usable_image_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"no image of 3 pictures could be used .*picture 0: cannot be read"):
        prepare(Pictures(3, bad=range(3)), Recipe(8), tmp_path / "store", **quiet)
    assert not (tmp_path / "store").exists()


def test_the_number_of_workers_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        prepare(Pictures(3), Recipe(8), tmp_path / "store", workers=0)


def test_what_is_at_the_folder_already_is_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="not a prepared store"):
        prepare(Pictures(3), Recipe(8), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    assert prepare(Pictures(3), Recipe(8), tmp_path / "empty").count == 3
    with pytest.raises(ValueError, match=r"holds another store, 3 images of 8x8 .* unlike in identity"):
        prepare(Pictures(3, identity="pictures:2"), Recipe(8), tmp_path / "empty")
    with pytest.raises(ValueError, match="unlike in size, crop"):
        prepare(Pictures(3), Recipe(4, "squash"), tmp_path / "empty")


def test_a_store_is_found_again_by_source_and_recipe(tmp_path):
    source = Pictures(3)
    first = open_or_prepare(source, Recipe(8), tmp_path / "root")
    reads = source.reads
    again = open_or_prepare(source, Recipe(8), tmp_path / "root", progress=lambda done, total: pytest.fail("prepared"))
    assert source.reads == reads
    assert again.folder == first.folder == store_folder(tmp_path / "root", source, Recipe(8))
    folders = {
        store_folder(tmp_path, s, r)
        for s in (source, Pictures(3, identity="pictures:2"))
        for r in (Recipe(8), Recipe(4), Recipe(8, "12"), Recipe(8, filter="box"))
    }
    assert len(folders) == 8
    assert first.folder.name.startswith("pictures-8-")


def test_a_prepared_store_is_used_without_writing_beside_it(tmp_path, monkeypatch):
    open_or_prepare(Pictures(3), Recipe(8), tmp_path / "root")
    monkeypatch.setattr(module, "alone", lambda *_: pytest.fail("took a lock, which a read-only disk refuses"))
    assert open_or_prepare(Pictures(3), Recipe(8), tmp_path / "root").count == 3


# ---- classes

DAMAGED = ("ant/1.png", "dog/0.png", "dog/old/2.png", "elk/0.png")  # all that there is of elk
WHOLE = ("ant/0.png", "ant/2.png", "bat/deep/er/0.png", "cat/0.png", "cat/1.png", "dog/1.png", "dog/old/1.png")


def colour(number):
    """A colour for each image of WHOLE, so that a pixel tells the image and its class."""
    return 10 * number, 255 - number, 7


def menagerie(folder, kind, above="", backwards=False):
    """WHOLE and DAMAGED as a folder or a zip, below the folders ``above``, written in one order or the other."""
    files = dict.fromkeys(DAMAGED, b"not an image") | {"notes/read.txt": b"no class: there is no image here"}
    for number, name in enumerate(WHOLE):
        buffer = io.BytesIO()
        Image.new("RGB", (9, 9), colour(number)).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    files = {above + name: files[name] for name in sorted(files, reverse=backwards)}
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "zip":
        with zipfile.ZipFile(folder / "zoo.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return open_source(folder / "zoo.zip")
    for name, data in files.items():
        (folder / "zoo" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "zoo" / name).write_bytes(data)
    return open_source(folder / "zoo")


def pairs(store):
    """Which image has which class, read from pixels and labels alone."""
    numbers = [colour(number) for number in range(len(WHOLE))]
    places = [numbers.index(tuple(image[0, 0].tolist())) for image in store.images]
    return [(WHOLE[place], store.classes[label]) for place, label in zip(places, store.labels, strict=True)]


ANIMALS = [(name, name[:3]) for name in WHOLE]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_labels_are_the_folders_of_the_images_that_were_kept(kind, chunks, tmp_path):
    store = prepare(menagerie(tmp_path, kind), Recipe(8), tmp_path / "store", **quiet)
    assert [entry.name.endswith(name) for entry, name in zip(store.skipped, DAMAGED, strict=True)] == [True] * 4
    assert store.classes == ("ant", "bat", "cat", "dog")  # not elk, of which nothing is left
    assert pairs(store) == ANIMALS
    assert isinstance(store.labels, np.memmap)
    assert store.labels.dtype == np.int64
    assert np.array_equal(np.load(store.folder / "labels.npy"), store.labels)
    assert store.no_classes == ""


def test_folder_and_zip_and_the_order_of_writing_make_no_difference(tmp_path):
    stores = []
    for kind in ("folder", "zip"):
        for above, backwards in (("", False), ("", True), ("zoo/train/", True)):
            source = menagerie(tmp_path / str(len(stores)), kind, above, backwards)
            stores.append(prepare(source, Recipe(8), tmp_path / f"store{len(stores)}", **quiet))
    assert {(store.hash, store.classes, tuple(store.labels.tolist())) for store in stores} == {
        (stores[0].hash, ("ant", "bat", "cat", "dog"), (0, 0, 1, 2, 2, 3, 3))
    }


@pytest.mark.parametrize("bad", [[], [0], [29], [2, 11, 12, 13, 14, 15], range(1, 30), [i for i in range(30) if i % 4]])
def test_labels_stay_with_their_images_whatever_is_skipped(bad, chunks, tmp_path):
    source = Pictures(bad=bad)
    store = prepare(source, Recipe(8), tmp_path / "store", **quiet)
    kept = [i for i in range(30) if i not in set(bad)]
    assert [store.classes[label] for label in store.labels] == [KINDS[i % 4] for i in kept]
    assert store.classes == tuple(sorted({KINDS[i % 4] for i in kept}))


def test_the_classes_do_not_change_the_pixels_or_their_hash(tmp_path):
    with_classes = prepare(Pictures(bad=[3]), Recipe(8), tmp_path / "with", **quiet)
    without = prepare(Pictures(bad=[3], kinds=()), Recipe(8), tmp_path / "without", **quiet)
    assert set(content(without.folder)) == {"images.npy", "meta.json"}
    assert without.meta.classes is None
    assert (without.classes, without.labels) == ((), None)
    assert without.hash == with_classes.hash
    with pytest.raises(ValueError, match="^no classes are known of 30 pictures: they are all of a kind$"):
        without.needed_labels()
    assert with_classes.needed_labels() is with_classes.labels


def test_why_there_are_no_classes_is_said(tmp_path):
    for name in ("a/1.png", "b/2.png", "stray.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name)
    for _ in ("prepared", "opened"):
        store = prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "store")
        with pytest.raises(
            ValueError, match=r"of 3 PNG files under .*: stray\.png lies beside folders of images; move it"
        ):
            store.needed_labels()


def age(folder):
    """Makes of a store what an earlier version, which knew no classes, would have made."""
    (folder / "labels.npy").unlink()
    meta = json.loads((folder / "meta.json").read_text())
    del meta["classes"]
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return content(folder)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_store_without_labels_opens_and_gets_them_from_its_source_without_decoding(kind, tmp_path, monkeypatch):
    source = menagerie(tmp_path, kind)
    made = prepare(source, Recipe(8), tmp_path / "store", **quiet)
    before = age(made.folder)
    alone = Store.open(made.folder)
    assert (alone.classes, alone.labels, alone.hash) == ((), None, made.hash)
    with pytest.raises(ValueError, match="the store has no labels"):
        alone.needed_labels()
    monkeypatch.setattr(source, "read", lambda index: pytest.fail("decoded"))
    store = prepare(source, Recipe(8), tmp_path / "store")
    assert pairs(store) == ANIMALS
    assert (store.classes, store.hash) == (made.classes, made.hash)
    assert content(store.folder) == before  # which may lie on a read-only disk


def test_a_store_without_labels_whose_source_has_moved_tells_no_wrong_ones(tmp_path):
    made = prepare(menagerie(tmp_path, "folder"), Recipe(8), tmp_path / "store", **quiet)
    age(made.folder)
    (tmp_path / "else").mkdir()
    moved = (tmp_path / "zoo").rename(tmp_path / "else" / "zoo")
    store = prepare(open_source(moved), Recipe(8), tmp_path / "store")
    assert (store.classes, store.labels, store.hash) == ((), None, made.hash)
    with pytest.raises(
        ValueError, match=r"names of skipped images .* any more; delete the folder and prepare it again"
    ):
        store.needed_labels()


# ---- interruptions


def reference(tmp_path, **options):
    return content(prepare(Pictures(bad=[2, 11], **options), Recipe(8), tmp_path / "straight", **quiet).folder)


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4, 7, 8, 17, 29])
def test_an_interrupted_preparation_goes_on_and_ends_in_the_same_bytes(stop_at, chunks, tmp_path):
    source = Pictures(bad=[2, 11])
    source.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", workers=1, **quiet)
    assert not (tmp_path / "store").exists()
    assert (tmp_path / "store.partial").is_dir()
    source.stop_at, source.reads, said = None, 0, []
    prepare(source, Recipe(8), tmp_path / "store", report=said.append)
    assert content(tmp_path / "store") == reference(tmp_path)
    assert source.reads == 30 - stop_at // 4 * 4  # whole chunks are not read again
    assert any("going on with an interrupted preparation" in sentence for sentence in said) == (stop_at >= 4)
    assert not (tmp_path / "store.partial").exists()


def test_it_may_be_interrupted_again_and_again(chunks, tmp_path):
    source = Pictures(bad=[2, 11])
    for source.stop_at in (5, 9, 9, 21, 28):
        with pytest.raises(KeyboardInterrupt):
            prepare(source, Recipe(8), tmp_path / "store", **quiet)
    source.stop_at = None
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert content(tmp_path / "store") == reference(tmp_path)


def test_labels_are_right_after_an_interruption_and_a_move(chunks, tmp_path):
    menagerie(tmp_path, "folder")

    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_source(tmp_path / "zoo"), Recipe(8), tmp_path / "store", progress=stop, **quiet)
    (tmp_path / "else").mkdir()
    moved = (tmp_path / "zoo").rename(tmp_path / "else" / "zoo")
    said = []
    store = prepare(open_source(moved), Recipe(8), tmp_path / "store", report=said.append)
    assert said[0] == "going on with an interrupted preparation: 8 of 11 images are done"
    assert pairs(store) == ANIMALS


def test_a_partial_of_an_earlier_version_is_not_gone_on_from(chunks, tmp_path):
    source, journal = Pictures(bad=[2, 11]), tmp_path / "store.partial" / "journal.jsonl"
    source.stop_at = 20
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    first, *lines = map(json.loads, journal.read_text().splitlines())
    old = [first, *({key: value for key, value in line.items() if key != "unused"} for line in lines)]
    journal.write_text("".join(json.dumps(line) + "\n" for line in old))
    source.stop_at = None
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert content(tmp_path / "store") == reference(tmp_path)


def test_labels_of_a_partial_do_not_stay_for_another_source(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(Pictures(), Recipe(8), tmp_path / "store", **quiet)
    assert (tmp_path / "store.partial" / "labels.npy").exists()
    store = prepare(Pictures(identity="others:1", kinds=()), Recipe(8), tmp_path / "store", **quiet)
    assert set(content(store.folder)) == {"images.npy", "meta.json"}
    assert store.labels is None


@pytest.mark.parametrize("step", ["write_all", "rename", "fsync"])
@pytest.mark.parametrize("after", range(0, 20, 3))
def test_a_stop_at_any_write_loses_nothing(step, after, chunks, tmp_path, monkeypatch):
    """The power fails at the n-th write, flush or rename; a write may also have reached the disk by half."""
    owner, name = {"write_all": (module, "write_all"), "rename": (Path, "rename"), "fsync": (os, "fsync")}[step]
    real, calls = getattr(owner, name), []

    def failing(*arguments):
        calls.append(None)
        if len(calls) > after:
            if step == "write_all":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        try:
            prepare(Pictures(bad=[2, 11]), Recipe(8), tmp_path / "store", **quiet)
        except KeyboardInterrupt:
            assert not (tmp_path / "store").exists()
    prepare(Pictures(bad=[2, 11]), Recipe(8), tmp_path / "store", **quiet)
    assert content(tmp_path / "store") == reference(tmp_path)


def spoil_pixels(partial):
    data = bytearray((partial / "images.npy").read_bytes())
    data[128 + 5 * 192] ^= 1  # in the second chunk
    (partial / "images.npy").write_bytes(data)


def shorten_pixels(partial):
    data = (partial / "images.npy").read_bytes()
    (partial / "images.npy").write_bytes(data[: 128 + 5 * 192])


def tear_journal(partial):
    data = (partial / "journal.jsonl").read_bytes()
    (partial / "journal.jsonl").write_bytes(data[:-20])


def tear_last_byte(partial):
    data = (partial / "journal.jsonl").read_bytes()
    (partial / "journal.jsonl").write_bytes(data[:-1])


def add_pixels(partial):
    with (partial / "images.npy").open("ab") as file:
        file.write(b"half a chunk")


def remove_pixels(partial):
    (partial / "images.npy").unlink()


def blank_journal(partial):
    (partial / "journal.jsonl").write_bytes(b"\0" * 600)


@pytest.mark.parametrize(
    "damage", [spoil_pixels, shorten_pixels, tear_journal, tear_last_byte, add_pixels, remove_pixels, blank_journal]
)
def test_a_damaged_partial_is_trusted_only_as_far_as_it_is_whole(damage, chunks, tmp_path):
    source = Pictures(bad=[2, 11])
    source.stop_at = 25
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    damage(tmp_path / "store.partial")
    source.stop_at = 29  # a second time, so that what the repair leaves behind is gone on from too
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    source.stop_at, source.reads = None, 0
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert source.reads == 2
    assert content(tmp_path / "store") == reference(tmp_path)


@pytest.mark.parametrize(
    ("identity", "recipe"), [("pictures:2", Recipe(8)), ("pictures:1", Recipe(4)), ("pictures:1", Recipe(8, "12"))]
)
def test_a_partial_of_another_source_or_recipe_is_started_over(identity, recipe, chunks, tmp_path):
    source = Pictures()
    source.stop_at = 20
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(8), tmp_path / "store", **quiet)
    said, other = [], Pictures(identity=identity)
    prepare(other, recipe, tmp_path / "store", report=said.append)
    assert other.reads == 30
    assert "another source or recipe, or damaged: starting over" in said[0]
    assert content(tmp_path / "store") == content(prepare(other, recipe, tmp_path / "straight").folder)


def test_a_full_disk_is_said_and_the_work_is_kept(chunks, tmp_path, monkeypatch):
    real = module.write_all

    def full(file, data):
        if file.tell() > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, data)

    monkeypatch.setattr(module, "write_all", full)
    with pytest.raises(OSError, match=r"^the disk is full: .*store could not be finished; make room and run") as caught:
        prepare(Pictures(bad=[2, 11]), Recipe(8), tmp_path / "store", **quiet)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "store").exists()
    monkeypatch.setattr(module, "write_all", real)
    source = Pictures(bad=[2, 11])
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert source.reads < 30
    assert content(tmp_path / "store") == reference(tmp_path)


def test_too_little_room_is_said_at_the_start(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    prepare(Pictures(3), Recipe(8), tmp_path / "store", report=said.append)
    assert "but only 0 MB is free at" in said[0]


KILLED = """
import os, signal, sys
import sagan.data.prepare as module
from sagan.data.sources import open_source
module.CHUNK_IMAGES = 4
def kill(done, total):
    if done == 19:
        os.kill(os.getpid(), signal.SIGKILL)
module.prepare(open_source(sys.argv[1]), module.Recipe(8), sys.argv[2], progress=kill)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_leaves_work_to_go_on_with_and_no_lock(chunks, tmp_path):
    (tmp_path / "set").mkdir()
    pictures = Pictures()
    for i in range(30):
        pictures.read(i).save(tmp_path / "set" / f"{i:02}.png")
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "set"), str(tmp_path / "store")]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "store").exists()
    said = []
    prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "store", report=said.append)
    straight = prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "straight")
    assert said == ["going on with an interrupted preparation: 16 of 30 images are done"]
    assert content(tmp_path / "store") == content(straight.folder)


# ---- at once


def test_preparing_one_folder_at_once_does_the_work_once(chunks, tmp_path):
    source, said = Pictures(bad=[2, 11]), []
    ready = threading.Barrier(6)

    def work(_):
        ready.wait()
        return prepare(source, Recipe(8), tmp_path / "store", workers=2, report=said.append)

    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(work, range(6)))
    assert {store.hash for store in stores} == {stores[0].hash}
    assert source.reads == 30
    assert content(tmp_path / "store") == reference(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "straight"]


def test_who_waits_is_told_and_takes_over_when_the_first_gives_up(chunks, tmp_path):
    first, second = Pictures(bad=[2, 11]), Pictures(bad=[2, 11])
    first.stop_at = 20
    said, holding, told = [], threading.Event(), threading.Event()

    def hold(done, total):
        if done == 12:
            holding.set()
            assert told.wait(30)

    def report(sentence):
        said.append(sentence)
        told.set()

    def interrupted():
        with pytest.raises(KeyboardInterrupt):
            prepare(first, Recipe(8), tmp_path / "store", workers=1, progress=hold, **quiet)
        return True

    with ThreadPoolExecutor(2) as pool:
        gave_up = pool.submit(interrupted)
        assert holding.wait(30)
        prepare(second, Recipe(8), tmp_path / "store", report=report)
        assert gave_up.result()
    assert said[0] == f"another process is preparing {tmp_path / 'store'}: waiting until it is done"
    assert second.reads == 10
    assert content(tmp_path / "store") == reference(tmp_path)


# ---- real files


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
