"""Tables of labels, and folders that only keep many files apart."""

import pytest

from sagan.data import open_source
from sagan.data.sources.classes import is_chunked
from sagan.system.errors import UserError
from tests.data.sources.made import classes, tree

KINDS = ["folder", "zip"]
IMAGES = ("a/1.png", "a/2.png", "b/3.png")
TABLES = {
    "of a label": "file,label\na/1.png,cat\na/2.png,big dog\nb/3.png,cat\n",
    "with a mark, semicolons and spaces": (
        "\ufefffilename; class\r\na\\1.png; cat\r\n./a/2.png;big dog\r\n\r\nb/3.png;cat"
    ),
    "in any order, with others": 'image\tlabel\nb/3.png\tcat\nz.png\tcow\na/2.png\t"big dog"\na/1.png\tcat\n',
    "of a column a label": "file,cat,big dog,cow\na/1.png,1,0,0\na/2.png,0,1,0\nb/3.png,1,0,0\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_says_the_classes(table, kind, tmp_path):
    source = tree(kind, tmp_path, *IMAGES, contents={"labels.csv": TABLES[table]})
    assert classes(source) == ["cat", "big dog", "cat"]
    assert (source.no_classes, source.remarks) == ("", ())
    before = source.identity
    changed = TABLES[table].replace("cat", "cow")
    if table != "of a column a label":
        assert tree(kind, tmp_path, *IMAGES, contents={"labels.csv": changed}).identity != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_lies_in_any_folder_that_holds_all_images(kind, tmp_path):
    tables = {"set/Labels.CSV": TABLES["of a label"]}
    source = tree(kind, tmp_path, *(f"set/{name}" for name in IMAGES), contents=tables)
    assert classes(source) == ["cat", "big dog", "cat"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_another_kind_is_said_to_be_unread(kind, tmp_path):
    for text in ("id,breed\n1,cat\n", "", "label\n"):
        source = tree(kind, tmp_path, *IMAGES, contents={"labels.csv": text})
        assert classes(source) == ["a", "a", "b"]
        assert "labels.csv is not read: its first line must be file,label" in source.remarks[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na/1.png,cat\n", r"has no label for a/2\.png and 1 more"),
        ("file,label\na/1.png,\n", r"has no label for 'a/1\.png'"),
        ("file,label\na/1.png\n", r"has 1 cells for 'a/1\.png', and 2 in its first line"),
        ("file,cat,dog\na/1.png,1,1\n", "one 1 in the line of each image"),
        ("file,cat,dog\na/1.png,0,0\n", "images of several labels have no class"),
        ("file,cat,dog\na/1.png,1,x\n", "one 1 in the line of each image"),
        ("file,cat,cat\na/1.png,1,0\n", "names a label twice"),
        ("file,label\na/1.png," + "x" * 132_000, "line 2 of .* cannot be read"),
        ('file,label\n"' + "x\n" * 60_000, "cannot be read|cells for"),
        ("file,label\na/1.png," + "x" * 256, "a label of 256 characters"),
        ("file,label\n\udcff,x", "is not text in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_taken_is_refused(text, sentence, kind, tmp_path):
    with pytest.raises(UserError, match=sentence):
        tree(kind, tmp_path, *IMAGES, contents={"labels.csv": text.encode(errors="surrogateescape")})


def test_a_table_that_is_too_large_is_not_read(tmp_path):
    tree("folder", tmp_path, *IMAGES)
    with (tmp_path / "set" / "labels.csv").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(UserError, match=r"labels\.csv has 2,147,483,648 bytes, more than"):
        open_source(tmp_path / "set")


@pytest.mark.parametrize(
    ("names", "chunked"),
    [
        (["00000/img00000000.png", "00012/img00012345.png"], True),
        (["00000/00999.png", "01000/01000.png", "69000/69123.png"], True),
        (["00000/1.png", "00001/2.png"], False),
        (["00000/img00000000.png", "cats/img00012345.png"], False),
        (["00010/img00012345.png", "00012/img00012345.png"], False),
        (["00000/deep/00001.png", "01000/01000.png"], False),
    ],
)
def test_folders_that_number_the_images_are_no_classes(names, chunked, tmp_path):
    assert is_chunked(names, 0) == chunked
    source = tree("folder", tmp_path, *names)
    assert (source.class_of(0) is None) == chunked
    assert ("numbered parts" in source.no_classes) == chunked
