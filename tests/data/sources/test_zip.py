"""Zips: damaged members, and a real one."""

import zipfile

import pytest

from sagan.data.sources.open import open_source
from tests.data.sources.made import SHARED, encoded, picture


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
