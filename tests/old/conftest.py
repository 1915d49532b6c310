"""Folders that version 0.1.0 wrote, in a place of their own."""

import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parent / "written_by_0.1.tar.xz"


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The working folder, with everything that the archive holds."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path
