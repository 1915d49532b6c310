"""LMDBs: opened once a process, and refused when they would end it."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from sagan.data.sources.open import open_source
from sagan.system.errors import UserError
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
    with pytest.raises(ValueError, match=r"pip install 'sagan-attention\[data\]'"):
        open_source(tmp_path)


FLIPS = """
import subprocess
import sys
from pathlib import Path
import numpy as np
from sagan.data.sources.open import open_source
from sagan.system.errors import UserError
path = Path(sys.argv[1])
whole, rng = path.read_bytes(), np.random.default_rng(0)
refused = 0
for _ in range(int(sys.argv[2])):
    data = bytearray(whole)
    for place in rng.integers(0, len(data), 8):
        data[place] = rng.integers(0, 256)
    path.unlink()
    path.write_bytes(data)
    try:
        source = open_source(path.parent)
    except UserError as error:
        refused += 1
        continue
    for index in range(len(source)):
        try:
            source.read(index)
        except UserError:
            refused += 1
    del source
print(refused)
"""


def test_flipped_bytes_never_end_the_process(tmp_path):
    folder = make_lmdb(tmp_path / "set_lmdb", {b"key%04d" % i: b"x" * 30 for i in range(300)})
    run = subprocess.run(
        [sys.executable, "-c", FLIPS, folder / "data.mdb", "8"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 0


@pytest.fixture
def large(tmp_path):
    return make_lmdb(tmp_path / "set_lmdb", {b"%02d" % i: encoded(picture(i, 50, 50)) for i in range(20)})


@pytest.mark.parametrize("change", ["gone", "shorter", "files"])
def test_what_cannot_be_reached_is_not_a_damaged_image(change, large, monkeypatch):
    import lmdb

    source = open_source(large)
    if change == "gone":
        (large / "data.mdb").rename(large / "away")
    elif change == "shorter":
        source.read(19)
        os.truncate(large / "data.mdb", 3 * 4096)
    else:

        def failing(*arguments, **options):
            raise lmdb.Error(f"{large}: {os.strerror(errno.EMFILE)}")

        monkeypatch.setattr(lmdb, "open", failing)
    with pytest.raises(OSError, match=r"No such file|became shorter|Too many open files"):
        source.read(19)


@pytest.mark.parametrize(
    ("done", "kind", "sentence"),
    [
        ((1, b"lmdb.Error: x: " + os.strerror(errno.EMFILE).encode()), OSError, "Too many open files"),
        ((-signal.SIGKILL, b""), OSError, "ended by signal 9"),
        ((-signal.SIGSEGV, b""), UserError, "it is damaged"),
        ((1, b"lmdb.CorruptedError: x: MDB_CORRUPTED"), UserError, "it is damaged"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), OSError, "cannot start.*set_lmdb"),
    ],
)
def test_trouble_of_the_machine_is_not_damage(done, kind, sentence, large, monkeypatch):
    def run(command, **options):
        if isinstance(done, OSError):
            raise done
        return subprocess.CompletedProcess(command, done[0], b"", done[1])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(kind, match=sentence):
        open_source(large)


def test_python_files_in_the_present_folder_are_not_run(large, monkeypatch):
    for name in ("json.py", "lmdb.py"):
        (large.parent / name).write_text("raise SystemExit('run')")
    monkeypatch.chdir(large.parent)
    assert len(open_source(large)) == 20
