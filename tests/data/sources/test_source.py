"""Every kind of place gives the same images, from any thread and process, and names what is damaged."""

import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sagan.data import Source, open_source
from tests.data.sources.made import KINDS, classes, encoded, make_lmdb, make_source, picture


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_images_in_order(kind, tmp_path):
    source = make_source(kind, tmp_path)
    assert isinstance(source, Source)
    assert len(source) == 4
    for i in range(4):
        assert source.read(i).mode == "RGB"
        assert np.array_equal(np.asarray(source.read(i)), np.asarray(picture(i)))
    assert len({source.name(i) for i in range(4)}) == 4
    assert source.identity.startswith("set")
    assert source.description.startswith("4 ")


@pytest.mark.parametrize("kind", KINDS)
def test_reading_is_safe_from_many_threads_and_survives_pickling(kind, tmp_path):
    source = make_source(kind, tmp_path)
    for reader in (source, pickle.loads(pickle.dumps(source))):
        with ThreadPoolExecutor(8) as pool:
            images = list(pool.map(lambda k, reader=reader: np.asarray(reader.read(k % 4)), range(200)))
        assert all(np.array_equal(image, np.asarray(picture(k % 4))) for k, image in enumerate(images))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_reads_from_the_same_source(kind, tmp_path):
    source = make_source(kind, tmp_path)
    source.read(0)
    child = os.fork()
    if not child:
        same = all(np.array_equal(np.asarray(source.read(i)), np.asarray(picture(i))) for i in range(4))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("kind", ["lmdb", "npy"])
def test_databases_and_arrays_have_no_classes(kind, tmp_path):
    source = make_source(kind, tmp_path)
    assert classes(source) == [None] * 4
    assert source.no_classes == "neither folders nor labels tell them apart"


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("kind", ["folder", "zip", "lmdb"])
def test_a_damaged_image_is_named(kind, damage, tmp_path):
    whole = encoded(picture(0, 64, 64), "JPEG")
    data = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no image at all"}[damage]
    if kind == "folder":
        (tmp_path / "bad.jpg").write_bytes(data)
        source = open_source(tmp_path)
    elif kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr("bad.jpg", data)
        source = open_source(tmp_path / "set.zip")
    else:
        source = open_source(make_lmdb(tmp_path / "set", {b"bad.jpg": data}))
    with pytest.raises(ValueError, match=r"bad\.jpg cannot be read: \w+") as caught:
        source.read(0)
    assert "object at 0x" not in str(caught.value)  # the reason is stored, so it must be the same each time
