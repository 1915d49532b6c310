"""Zips: damaged members, and a real one."""

import errno
import json
import os
import zipfile

import numpy as np
import pytest

from sagan.data.sources.open import open_source
from tests.data.sources.made import SHARED, classes, encoded, picture, tree


def test_a_damaged_zip_member_is_named(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.png", encoded(picture(0, 40, 40)))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.png cannot be read"):
        open_source(path).read(0)


@pytest.mark.skipif(not (SHARED / "celeba64.zip").is_file(), reason="no zip of faces beside the repository")
def test_a_zip_of_faces():
    source = open_source(SHARED / "celeba64.zip")
    assert len(source) == 15723
    assert source.read(len(source) - 1).size == (64, 64)


def test_backslashes_in_a_zip_are_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i, kind in enumerate(("cat", "dog", "cat")):
            member = zipfile.ZipInfo("x")
            member.filename = f"set\\{kind}\\{i}.png"
            archive.writestr(member, encoded(picture(i)))
    assert classes(open_source(tmp_path / "set.zip")) == ["cat", "cat", "dog"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_the_later_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i in (0, 1):
            archive.writestr("x.png", encoded(picture(i)))
    source = open_source(tmp_path / "set.zip")
    assert len(source) == 1
    assert np.array_equal(np.asarray(source.read(0)), np.asarray(picture(1)))


def test_the_labels_of_a_stylegan_zip_are_its_classes(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"0000{i // 2}/{i}.png", encoded(picture(i)))
        archive.writestr("dataset.json", json.dumps({"labels": [[f"0000{i // 2}/{i}.png", i % 2] for i in range(3)]}))
    assert classes(open_source(tmp_path / "set.zip")) == ["0", "1", "0"]


def test_a_zip_that_cannot_be_reached_is_not_a_damaged_image(tmp_path, monkeypatch):
    source = tree("zip", tmp_path, "1.png")

    def stale(self, member):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(zipfile.ZipFile, "read", stale)
    with pytest.raises(OSError, match="[Ss]tale"):
        source.read(0)
