"""LMDBs: opened once a process, and refused when they would end it."""

import sys

import numpy as np
import pytest

from sagan.data.sources.open import open_source
from tests.data.sources.made import encoded, make_lmdb, make_source, picture


def test_one_lmdb_can_be_two_sources_at_once(tmp_path):
    first = make_source("lmdb", tmp_path)
    for second in (open_source(tmp_path / "set_lmdb"), open_source(tmp_path / "set_lmdb" / "data.mdb")):
        assert np.array_equal(np.asarray(first.read(1)), np.asarray(second.read(1)))


def test_lmdbs_that_cannot_be_read(tmp_path):
    folder = make_lmdb(tmp_path / "cut_lmdb", {b"%d" % i: encoded(picture(i, 50, 50)) for i in range(20)})
    data = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(data[: 5 * 4096])
    with pytest.raises(ValueError, match="truncated"):
        open_source(folder)
    (folder / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(ValueError, match="cannot be opened as an LMDB"):
        open_source(folder)
    with pytest.raises(ValueError, match="no entries"):
        open_source(make_lmdb(tmp_path / "empty_lmdb", {}))


def test_without_the_lmdb_package_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "data.mdb").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ValueError, match=r"pip install 'sagan\[data\]'"):
        open_source(tmp_path)
