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


@pytest.mark.parametrize(
    "names", [["cat/1.png", "cat//1.png", "./cat/1.png", "cat\\1.png"], ["../cat/1.png", "/cat/1.png"]]
)
def test_a_member_is_read_once_however_its_name_is_spelt(names, tmp_path):
    source = tree("zip", tmp_path, *names, "dog/1.png")
    assert [source.name_within(i) for i in range(len(source))] == ["cat/1.png", "dog/1.png"]
    assert classes(source) == ["cat", "dog"]


def test_zips_of_equal_names_sizes_and_checksums_are_told_apart(tmp_path):
    def other_bytes_of_one_checksum(path):
        data = path.read_bytes().replace(b"one", b"two")  # stored, so that the directory still says the CRC of "one"
        path.write_bytes(data)

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tree("zip", tmp_path / folder, "1.png")
        with zipfile.ZipFile(tmp_path / folder / "set.zip", "a") as archive:
            archive.writestr(zipfile.ZipInfo("2.png"), b"one")
    other_bytes_of_one_checksum(tmp_path / "b" / "set.zip")
    one, other = open_source(tmp_path / "a" / "set.zip"), open_source(tmp_path / "b" / "set.zip")
    assert one.former == other.former
    assert one.identity != other.identity


def test_a_zip_that_is_replaced_while_it_is_open_has_no_identity(tmp_path):
    source = tree("zip", tmp_path, "1.png")
    (tmp_path / "set.zip").rename(tmp_path / "old.zip")
    tree("zip", tmp_path, "2.png")
    with pytest.raises(OSError, match="changed while it was read"):
        source.identify()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_an_error_of_the_system_is_not_a_damaged_member(code, tmp_path, monkeypatch):
    source = tree("zip", tmp_path, "1.png")

    def failing(self, member):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(zipfile.ZipFile, "read", failing)
    with pytest.raises(OSError, match=os.strerror(code)):
        source.read(0)


def test_what_this_program_wrote_into_a_zipped_folder_is_left_out_and_said(tmp_path):
    run = ["run/config.json", "run/records.jsonl", "run/samples/1_fake.png", "out/.sagan", "out/1.png"]
    source = tree("zip", tmp_path, "cat/1.png", *run, "cat/@eaDir/1.png")
    assert [source.name_within(i) for i in range(len(source))] == ["cat/1.png"]
    for what in ("under run: a run of sagan", "under out: samples or figures of sagan", "@eaDir: made by the system"):
        assert what in source.description
    with pytest.raises(UserError, match="holds a run of sagan, not images to train on"):
        tree("zip", tmp_path, *run[:3])
    assert tree("zip", tmp_path, "s/.sagan", "s/1.png").ours == "samples or figures"  # which may be scored


def test_a_zip_without_images_says_what_is_left_out(tmp_path):
    with pytest.raises(UserError, match="found 1 other member, and left out 1 under @eaDir: made by the system"):
        tree("zip", tmp_path, "@eaDir/1.png", "read.txt")
