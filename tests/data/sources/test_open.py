"""A path that is no source is answered with what to do."""

import errno
import os
import zipfile

import pytest

from sagan.data.sources.names import PACKED
from sagan.data.sources.open import OPENERS, open_source
from sagan.system.errors import UserError
from tests.data.sources.made import picture, put


def test_a_missing_path_suggests_the_nearest_name(tmp_path):
    (tmp_path / "CelebA" / "img").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"did you mean .*CelebA\?"):
        open_source(tmp_path / "celeb" / "img")
    with pytest.raises(ValueError, match="has no 'zzz'"):
        open_source(tmp_path / "zzz")


def test_files_that_are_no_source(tmp_path):
    put(tmp_path / "one.png", picture(0))
    with pytest.raises(ValueError, match="one image: give the folder"):
        open_source(tmp_path / "one.png")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="not a folder of images, a zip"):
        open_source(tmp_path / "notes.txt")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="not a complete zip"):
        open_source(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "lsun.zip", "w") as archive:
        archive.writestr("church_outdoor_train_lmdb/data.mdb", b"x")
    with pytest.raises(ValueError, match=r"holds an LMDB .*: unpack it"):
        open_source(tmp_path / "lsun.zip")


def test_every_packed_file_has_its_opener():
    assert set(OPENERS) == set(PACKED)


@pytest.mark.parametrize("ending", sorted(OPENERS))
def test_pipes_and_devices_are_not_waited_for(ending, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes in folders")
    os.mkfifo(tmp_path / f"set{ending}")
    (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
    for name in ("set", "zero"):
        with pytest.raises(UserError, match="is a pipe or a device, not a file"):
            open_source(tmp_path / f"{name}{ending}")


@pytest.mark.parametrize(("name", "opener"), [("a.zip", "zipfile.ZipFile"), ("a.npy", "numpy.load")])
def test_a_file_that_cannot_be_opened_is_named(name, opener, tmp_path, monkeypatch):
    def failing(*arguments, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / name).touch()
    monkeypatch.setattr(opener, failing)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as found:
        open_source(tmp_path / name)
    assert found.value.filename == str(tmp_path / name)
