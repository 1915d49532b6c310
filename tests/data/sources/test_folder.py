"""Folders: what is read, what is left out and said, and when the identity changes."""

import os
from pathlib import Path

import pytest

from sagan.data.sources.open import open_source
from tests.data.sources.made import picture, put


def test_a_folder_is_read_at_any_depth_in_any_case_and_what_is_left_out_is_said(tmp_path):
    root = tmp_path / "CelebA"
    for name in ("z.JPG", "a/b/c.jpeg", "a/1.Png"):
        put(root / name, picture(0), "JPEG" if "j" in name.lower() else "PNG")
    put(root / ".hidden.png", picture(1))
    put(root / "__MACOSX" / "z.png", picture(1))
    put(root / ".cache" / "z.png", picture(1))
    put(root / "img" / "transformed_images_2" / "copy.png", picture(1))
    (root / "list.csv").write_text("1,2")
    source = open_source(root)
    assert [Path(source.name(i)).relative_to(root).as_posix() for i in range(len(source))] == [
        "a/1.Png",
        "a/b/c.jpeg",
        "z.JPG",
    ]
    assert "1 other file ignored" in source.description
    assert "transformed_images_2" in source.description
    copies = open_source(root / "img" / "transformed_images_2")  # named itself, it is read
    assert len(copies) == 1


def test_the_description_names_the_format_when_there_is_one(tmp_path):
    for i in range(3):
        put(tmp_path / "faces" / f"{i}.jpg", picture(i), "JPEG")
    assert open_source(tmp_path / "faces").description == f"3 JPEG files under {tmp_path / 'faces'}"


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path):
    put(tmp_path / "real" / "1.png", picture(1))
    (tmp_path / "set").mkdir()
    try:
        (tmp_path / "set" / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        (tmp_path / "real" / "circle").symlink_to(tmp_path / "set", target_is_directory=True)
        (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "nothing")
    except OSError:
        pytest.skip("this system does not let us make links")
    source = open_source(tmp_path / "set")
    assert [Path(source.name(i)).name for i in range(len(source))] == ["gone.png", "1.png"]
    with pytest.raises(OSError, match=r"gone\.png"):
        source.read(0)


@pytest.mark.parametrize("change", ["add", "remove", "rewrite", "rename"])
def test_the_identity_changes_when_the_images_do_and_not_when_the_folder_moves(change, tmp_path):
    for i in range(3):
        put(tmp_path / "set" / f"{i}.png", picture(i))
    before = open_source(tmp_path / "set").identity
    (tmp_path / "elsewhere").mkdir()
    root = (tmp_path / "set").rename(tmp_path / "elsewhere" / "set")
    (root / "notes.txt").write_text("no image")
    assert open_source(root).identity == before
    if change == "add":
        put(root / "3.png", picture(3))
    elif change == "remove":
        (root / "0.png").unlink()
    elif change == "rename":
        (root / "0.png").rename(root / "00.png")
    else:
        state = (root / "0.png").stat()
        put(root / "0.png", picture(9))
        os.utime(root / "0.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    assert open_source(root).identity != before


def test_folders_without_images_say_what_was_looked_for_and_found(tmp_path):
    with pytest.raises(ValueError, match=r"no images found under .*: looked for \.jpg.*found no files at all"):
        open_source(tmp_path)
    for name in ("a.txt", "b.csv", "c.mp4"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match="found 3 other files"):
        open_source(tmp_path)
    put(tmp_path / "transformed_images" / "1.png", picture(1))
    with pytest.raises(ValueError, match=r"left out .*transformed_images .name that folder itself"):
        open_source(tmp_path)
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"to read .*photos\.zip, name it itself"):
        open_source(tmp_path)
