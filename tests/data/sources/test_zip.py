"""Zips: damaged members, and a real one."""

import errno
import json
import os
import zipfile

import numpy as np
import pytest

from sagan.data.sources.open import open_source
from sagan.system.errors import UserError
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


def test_a_zip_that_becomes_shorter_is_not_full_of_damaged_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i in range(6):
            archive.writestr(f"{i}.png", encoded(picture(i, 40, 40)))
    source = open_source(tmp_path / "set.zip")
    source.read(0)
    os.truncate(tmp_path / "set.zip", 1500)
    with pytest.raises(OSError, match="changed while it was read"):
        source.read(5)


def test_a_member_that_unpacks_to_too_much_is_refused_before_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.data.sources.zip.MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(10**6))
    with pytest.raises(UserError, match=r"bomb\.png cannot be read: it unpacks to 1,000,000 bytes, more than 1,000"):
        open_source(tmp_path / "set.zip").read(0)


@pytest.mark.parametrize("change", ["version", "name"])
def test_a_directory_that_zipfile_does_not_understand_is_a_sentence(change, tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.png", encoded(picture(0)))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    if change == "version":
        data[at + 6] = 99
    else:
        start = data.rindex("é".encode())
        data[start : start + 2] = b"\xff\xff"
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a complete zip file"):
        open_source(path)
