"""Preparation: the same store from any number of workers, nothing skipped in silence, the work done once."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import sagan.data.partial
import sagan.data.prepare as module
from sagan.data.prepare import open_or_prepare, prepare, store_folder
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
from sagan.data.sources.stored import StoreSource
from sagan.evaluation.image_sets import open_images
from sagan.run.store import Store
from sagan.system.console import Console
from sagan.system.errors import UserError
from sagan.system.files import file_sha256
from tests.data.made import ANIMALS, DAMAGED, KINDS, Pictures, content, menagerie, pairs, quiet, reference
from tests.data.sources.made import encoded, picture, put


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_the_store_does_not_depend_on_the_number_of_workers(workers, chunks, tmp_path):
    one = prepare(Pictures(bad=[3, 29]), Recipe(8), tmp_path / "one", workers=1, **quiet)
    many = prepare(Pictures(bad=[3, 29]), Recipe(8), tmp_path / "many", workers=workers, **quiet)
    assert content(one.folder) == content(many.folder)


def test_meta_says_what_the_store_is(tmp_path):
    store = prepare(Pictures(10, bad=[4]), Recipe(8, "12", "lanczos"), tmp_path / "store", **quiet)
    assert set(content(store.folder)) == {"images.npy", "labels.npy", "meta.json", "names.json"}
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
        warn=said.append,
    )
    assert progress == [(done, 25) for done in range(26)]
    assert said[0] == "skipped picture 0: cannot be read: it is bad"
    assert sum(sentence.startswith("skipped picture") for sentence in said) == module.SKIPS_REPORTED
    assert said[-1] == "skipped 12 images in all; meta.json names each"


def test_skips_go_to_the_log_when_nobody_asks_for_them(tmp_path, caplog):
    prepare(Pictures(3, bad=[1]), Recipe(8), tmp_path / "store")
    assert "skipped picture 1: cannot be read: it is bad" in caplog.text


def test_strict_refuses_the_first_bad_image(chunks, tmp_path):
    with pytest.raises(ValueError, match=r"picture 9 cannot be read: it is bad \(refused by strict=true"):
        prepare(Pictures(bad=[9, 20]), Recipe(8), tmp_path / "store", strict=True, **quiet)
    assert not (tmp_path / "store").exists()
    store = prepare(Pictures(bad=[9, 20]), Recipe(8), tmp_path / "store", **quiet)  # resumes from there
    assert store.count == 28
    with pytest.raises(ValueError, match=r"picture 9 .* was prepared without strict"):
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


def test_what_is_at_the_folder_already_is_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="not a prepared store"):
        prepare(Pictures(3), Recipe(8), tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    assert prepare(Pictures(3), Recipe(8), tmp_path / "empty").count == 3
    with pytest.raises(ValueError, match=r"holds another store, 3 images of 8x8 .* differs in identity"):
        prepare(Pictures(3, identity="pictures:2"), Recipe(8), tmp_path / "empty")
    with pytest.raises(ValueError, match="differs in size, crop"):
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
    monkeypatch.setattr(module, "exclusive_lock", lambda *_: pytest.fail("took a lock, which a read-only disk refuses"))
    assert open_or_prepare(Pictures(3), Recipe(8), tmp_path / "root").count == 3


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
    assert set(content(without.folder)) == {"images.npy", "meta.json", "names.json"}
    assert without.meta.classes is None
    assert (without.classes, without.labels) == ((), None)
    assert without.hash == with_classes.hash
    with pytest.raises(ValueError, match="^the classes of 30 pictures are unknown: they are all of a kind$"):
        without.needed_labels()
    assert with_classes.needed_labels() is with_classes.labels


def test_why_there_are_no_classes_is_said(tmp_path):
    for name in ("a/1.png", "b/2.png", "stray.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name)
    for _ in ("prepared", "opened"):
        store = prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "store")
        with pytest.raises(
            ValueError, match=r"of 3 PNG files under .*: stray\.png is beside folders of images; move it"
        ):
            store.needed_labels()


def age(folder, place=""):
    """Makes of a store what an earlier version, which knew no classes, would have made of images at this place."""
    (folder / "labels.npy").unlink()
    meta = json.loads((folder / "meta.json").read_text())
    del meta["classes"], meta["remarks"]
    for entry in meta["skipped"]:
        entry["name"] = place + entry["name"]
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
    age(made.folder, f"{tmp_path / 'zoo'}/")
    (tmp_path / "else").mkdir()
    moved = (tmp_path / "zoo").rename(tmp_path / "else" / "zoo")
    store = prepare(open_source(moved), Recipe(8), tmp_path / "store")
    assert (store.classes, store.labels, store.hash) == ((), None, made.hash)
    with pytest.raises(
        ValueError,
        match=r"names of skipped images .* are no longer those of the source; delete the folder and prepare it again",
    ):
        store.needed_labels()


def test_a_full_disk_is_said_and_the_work_is_kept(chunks, tmp_path, monkeypatch):
    real = sagan.data.partial.write_all

    def full(file, data):
        if file.tell() > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, data)

    monkeypatch.setattr(sagan.data.partial, "write_all", full)
    with pytest.raises(OSError, match=r"^the disk is full: .*store could not be finished; make room and run") as caught:
        prepare(Pictures(bad=[2, 11]), Recipe(8), tmp_path / "store", **quiet)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "store").exists()
    monkeypatch.setattr(sagan.data.partial, "write_all", real)
    source = Pictures(bad=[2, 11])
    prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert source.reads < 30
    assert content(tmp_path / "store") == reference(tmp_path)


def test_too_little_room_is_said_at_the_start(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    prepare(Pictures(3), Recipe(8), tmp_path / "store", warn=said.append)
    assert "but only 0 MB is free at" in said[0]


KILLED = """
import os, pathlib, signal, sys
import sagan.data.partial
from sagan.data.prepare import prepare
from sagan.data.recipe import Recipe
from sagan.data.sources.open import open_source
sagan.data.partial.CHUNK_IMAGES = 4
def kill(done, total):
    if done == 19:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(open_source(sys.argv[1]), Recipe(8), pathlib.Path(sys.argv[2]), progress=kill)
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
    prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "store", warn=said.append)
    straight = prepare(open_source(tmp_path / "set"), Recipe(8), tmp_path / "straight")
    assert said == ["resuming an interrupted preparation: 16 of 30 images done"]
    assert content(tmp_path / "store") == content(straight.folder)


def test_the_journal_that_a_process_left_when_it_was_killed_at_its_very_end_is_removed(tmp_path):
    store = prepare(Pictures(), Recipe(8), tmp_path / "store", **quiet)
    whole = content(store.folder)
    (store.folder / "journal.jsonl").touch()
    prepare(Pictures(), Recipe(8), tmp_path / "store", **quiet)
    assert content(store.folder) == whole


def test_preparing_one_folder_at_once_does_the_work_once(chunks, tmp_path):
    source, said = Pictures(bad=[2, 11]), []
    ready = threading.Barrier(6)

    def work(_):
        ready.wait()
        return prepare(source, Recipe(8), tmp_path / "store", workers=2, warn=said.append)

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

    def warn(sentence):
        said.append(sentence)
        told.set()

    def interrupted():
        with pytest.raises(KeyboardInterrupt):
            prepare(first, Recipe(8), tmp_path / "store", workers=1, progress=hold, **quiet)
        return True

    with ThreadPoolExecutor(2) as pool:
        gave_up = pool.submit(interrupted)
        assert holding.wait(30)
        prepare(second, Recipe(8), tmp_path / "store", warn=warn)
        assert gave_up.result()
    assert said[0] == f"another process is preparing {tmp_path / 'store'}: waiting until it is done"
    assert second.reads == 10
    assert content(tmp_path / "store") == reference(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENOENT])
def test_an_image_that_cannot_be_reached_stops_and_the_same_call_goes_on(number, chunks, tmp_path):
    class Dropped(Pictures):
        dropped = True

        def read(self, index):
            if self.dropped and index >= 12:
                raise OSError(number, os.strerror(number), self.name(index))
            return super().read(index)

    source = Dropped(30, bad=[4])
    with pytest.raises(OSError, match="picture") as caught:
        prepare(source, Recipe(8), tmp_path / "store", workers=2, **quiet)
    assert caught.value.errno == number
    assert not (tmp_path / "store").exists()
    source.dropped, source.reads, said = False, 0, []
    store = prepare(source, Recipe(8), tmp_path / "store", workers=2, warn=said.append)
    assert store.count == 29
    assert [skip.name for skip in store.skipped] == ["picture 4"]
    assert source.reads < 30
    assert "resuming an interrupted preparation" in said[0]


def test_what_is_noticed_is_said_once_for_all_images(tmp_path):
    for i in range(3):
        put(tmp_path / "set" / f"{i}.png", Image.new("RGBA", (4, 4), (i, 0, 0, 0)))
    put(tmp_path / "set" / "3.png", Image.new("RGB", (4, 4)))
    said = []
    prepare(open_source(tmp_path / "set"), Recipe(4), tmp_path / "store", warn=said.append)
    first = tmp_path / "set" / "0.png"
    assert said == [f"3 images: transparent everywhere, so all that remains is white; the first: {first}"]


def test_images_are_read_once_to_be_known_again(tmp_path, monkeypatch):
    for i in range(3):
        put(tmp_path / "set" / f"{i}.png", Image.new("RGB", (4, 4), (i, 0, 0)))
    reads = []
    monkeypatch.setattr("sagan.data.sources.contents.file_sha256", lambda path: reads.append(path) or file_sha256(path))

    def opened():
        reads.clear()
        return open_or_prepare(open_source(tmp_path / "set"), Recipe(4), tmp_path / "prepared", **quiet)

    first = opened()
    assert len(reads) == 3
    assert opened().folder == first.folder
    assert reads == []
    for known in (tmp_path / "prepared" / "identities").iterdir():
        known.write_bytes(b"\xff nonsense")
    assert opened().folder == first.folder
    assert len(reads) == 3
    state = (tmp_path / "set" / "0.png").stat()
    put(tmp_path / "set" / "0.png", Image.new("RGB", (4, 4), (9, 0, 0)))
    os.utime(tmp_path / "set" / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert opened().folder != first.folder


def test_new_stores_number_their_classes_in_natural_order(tmp_path):
    store = prepare(Pictures(30, kinds=("10", "9", "b", "1")), Recipe(8), tmp_path / "store", **quiet)
    assert store.classes == ("1", "9", "10", "b")
    assert store.labels[:4].tolist() == [2, 1, 3, 0]


def labelled(folder, labels):
    """A StyleGAN data set of six pictures in two chunks; ``labels`` None: without the file."""
    for i in range(6):
        put(folder / f"0000{i // 3}" / f"{i}.png", picture(i))
    (folder / "dataset.json").unlink(missing_ok=True)
    if labels is not None:
        names = [[f"0000{i // 3}/{i}.png", label] for i, label in enumerate(labels)]
        (folder / "dataset.json").write_text(json.dumps({"labels": names or None}))
    return open_source(folder)


def test_other_labels_of_the_same_images_are_seen(tmp_path):
    folders = []
    for labels, classes in (([0, 1] * 3, 2), ([0, 1, 2] * 2, 3), ([], 0), (None, 2), ([0, 1] * 3, 2)):
        store = open_or_prepare(labelled(tmp_path / "set", labels), Recipe(4), tmp_path / "prepared", **quiet)
        assert len(store.classes) == classes
        assert (store.labels is None) == (not classes)
        folders.append(store.folder)
    assert len(set(folders)) == 3  # that without labels is decoded once, and has classes or none


def zipped(path, pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for i in pictures:
            archive.writestr(zipfile.ZipInfo(f"{i}.png"), encoded(picture(i, 30, 30)))
    return path


def test_a_repaired_zip_is_read_again(tmp_path):
    path = zipped(tmp_path / "set.zip", range(4))
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    assert open_or_prepare(open_source(path), Recipe(4), tmp_path / "prepared", **quiet).count == 3
    path.write_bytes(whole)
    assert open_or_prepare(open_source(path), Recipe(4), tmp_path / "prepared", **quiet).count == 4


def test_the_store_of_a_zip_by_an_earlier_version_still_serves_unless_it_skipped_images(tmp_path, monkeypatch):
    source = open_source(zipped(tmp_path / "set.zip", range(3)))
    (source.identity,) = source.former
    old = open_or_prepare(source, Recipe(4), tmp_path / "prepared", **quiet)
    again = open_or_prepare(open_source(tmp_path / "set.zip"), Recipe(4), tmp_path / "prepared", **quiet)
    assert (again.folder, again.hash) == (old.folder, old.hash)
    meta = json.loads((old.folder / "meta.json").read_text()) | {"skipped": [{"name": "x", "reason": "torn"}]}
    (old.folder / "meta.json").write_text(json.dumps(meta))
    again = open_or_prepare(open_source(tmp_path / "set.zip"), Recipe(4), tmp_path / "prepared", **quiet)
    assert (again.folder != old.folder, again.hash) == (True, old.hash)


def test_pixels_that_are_not_those_that_were_prepared_are_noticed(tmp_path, monkeypatch):
    source = Pictures(6)
    store = open_or_prepare(source, Recipe(8), tmp_path / "prepared", **quiet)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "verify", lambda self, progress: pytest.fail("read again"))
        assert open_or_prepare(source, Recipe(8), tmp_path / "prepared", **quiet).hash == store.hash
    shutil.copytree(store.folder, tmp_path / "copy")
    assert open_source(tmp_path / "copy").identity.endswith(StoreSource(store.folder).stated.partition(":")[2])
    for folder, opening in (
        (store.folder, lambda: open_or_prepare(source, Recipe(8), tmp_path / "prepared", **quiet)),
        (tmp_path / "copy", lambda: open_source(tmp_path / "copy").identity),
        (tmp_path / "copy", lambda: open_or_prepare(open_source(tmp_path / "copy"), Recipe(4), tmp_path, **quiet)),
        (tmp_path / "copy", lambda: open_images(tmp_path / "copy", tmp_path / "cache", Console())),
    ):
        data = bytearray((folder / "images.npy").read_bytes())
        data[400:500] = bytes(100)
        (folder / "images.npy").write_bytes(data)
        with pytest.raises(UserError, match=r"images\.npy is damaged \(its pixels are not those that were prepared\)"):
            opening()


def test_what_was_noticed_is_counted_over_interruptions_and_said_again(chunks, tmp_path):
    for i in range(9):
        put(tmp_path / "set" / f"{i}.png", Image.new("RGBA", (4, 4), (i, 0, 0, 0)))
    source, reads, said = open_source(tmp_path / "set"), [], []
    real = source.read

    def stopping(index):
        if index == 6 and not reads:
            reads.append(index)
            raise KeyboardInterrupt
        return real(index)

    source.read = stopping
    with pytest.raises(KeyboardInterrupt):
        prepare(source, Recipe(4), tmp_path / "store", workers=1, warn=said.append)
    for _ in range(2):
        said.clear()
        prepare(source, Recipe(4), tmp_path / "store", warn=said.append)
        assert said[-1].startswith("9 images: transparent everywhere")
    assert list(StoreSource(tmp_path / "store").remarks) == [
        "9 images: transparent everywhere, so all that remains is white; the first: 0.png"
    ]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_store_names_no_folder_of_the_machine(kind, tmp_path):
    source = menagerie(tmp_path / "home" / "my photos", kind)
    store = prepare(source, Recipe(8), tmp_path / "store", **quiet)
    assert str(tmp_path) in store.describe()  # to the person who prepares it
    assert store.skipped[0].name == source.name(1)
    text = (store.folder / "meta.json").read_text()
    assert str(tmp_path) not in text
    assert "my photos" not in text
    assert "dog/old/2.png" in text


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("known", [True, False])
def test_a_store_in_the_order_of_an_earlier_version_still_serves(kind, known, tmp_path, monkeypatch):
    """Which had 10 before 9, and perhaps the identity of these files in its folder of identities."""
    numbers = (9, 10, 11)
    for number in numbers:
        put(tmp_path / "set" / f"{number}.png", picture(number, 30, 30))
    path = zipped(tmp_path / "set.zip", numbers) if kind == "zip" else tmp_path / "set"
    root = tmp_path / "prepared"
    with monkeypatch.context() as patch:
        patch.setattr("sagan.data.sources.arrange.natural", str)
        old = open_or_prepare(open_source(path), Recipe(4), root, **quiet)
    if not known:
        shutil.rmtree(root / "identities")
    again = open_or_prepare(open_source(path), Recipe(4), root, **quiet)
    assert (again.folder, again.names()) == (old.folder, ["10.png", "11.png", "9.png"])
    shutil.rmtree(old.folder)
    new = open_or_prepare(open_source(path), Recipe(4), root, **quiet)
    assert (new.folder != old.folder, new.names()) == (True, ["9.png", "10.png", "11.png"])
