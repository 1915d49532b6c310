"""The classes of images follow from their names, in a folder as in a zip."""

import re

import pytest

from tests.data.sources.made import classes, tree


@pytest.mark.parametrize("above", ["", "set/", "train/images/"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_class_of_an_image_is_the_first_folder_that_not_all_images_share(kind, above, tmp_path):
    names = ["dog/1.png", "cat/old/2.png", "cat/old/cat/3.png", "a b/é.png", "cat/1.png", "a/.b/no.png"]
    source = tree(kind, tmp_path, *(above + name for name in names), "notes.txt", "__MACOSX/x/1.png", "none/read.txt")
    assert classes(source) == ["a b", "cat", "cat", "cat", "dog"]
    assert source.no_classes == ""


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["1.png", "2.png"], "its images are in one folder, not in a folder for each class"),
        (["cat/old/1.png", "cat/old/2.png"], "its images are in one folder"),
        (["a/b/only.png"], "its images are in one folder"),
        (
            ["cat/1.png", "dog/2.png", "zz.png"],
            r"^zz\.png is beside folders of images; move it into the folder of its",
        ),
        (["x/0.png", "x/cat/1.png", "x/dog/2.png"], r"^x/0\.png is beside folders of images"),
        (["x/0.png", "x/cat/1.png"], r"^x/0\.png is beside"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_that_no_folder_tells_apart_have_no_classes(kind, names, why, tmp_path):
    source = tree(kind, tmp_path, *names)
    assert classes(source) == [None] * len(names)
    assert re.search(why, source.no_classes)
