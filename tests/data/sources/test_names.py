"""The classes of images follow from their names, in a folder as in a zip."""

import re

import pytest

from sagan.data.sources.names import doubtful_classes, natural, short_name
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


def test_a_short_name_needs_no_quotes_in_a_shell(tmp_path):
    for name in ("my photos", "it's; here", "a\tb", "caf\udce9 o", "$HOME"):
        made = short_name(tmp_path / name)
        assert not set(made) & set(" ;'\t$\udce9"), made


def test_names_are_sorted_as_people_do():
    assert sorted(["10", "9", "b2", "a10", "a9", "010", "", "2"], key=natural) == [
        "", "2", "9", "010", "10", "a9", "a10", "b2"
    ]  # fmt: skip
    assert len({str(natural(name)) for name in ("1", "01", "001")}) == 3
    natural("9" * 10_000)  # more digits than Python makes a number of


@pytest.mark.parametrize("name", ["a" * 250, "ü" * 120, "\U0001d518" * 60, "日" * 80])
def test_a_long_name_is_cut_to_what_a_folder_may_be_called(name, tmp_path):
    assert len(f"{short_name(tmp_path / name)}-1024-0123456789.partial.lock".encode()) < 200


@pytest.mark.parametrize(
    "names",
    ["train2017 val2017", "train_images test_images", "trainA trainB testA testB", "train eval", "Train Test other",
     "train valid unlabeled", "training-set dev_set"],
)  # fmt: skip
def test_folders_that_look_like_a_split_are_doubted(names):
    assert "look like the parts of one data set" in doubtful_classes(names.split())


@pytest.mark.parametrize("names", ["train bus car", "cat dog", "testudo trainer", "train"])
def test_other_names_are_classes(names):
    assert doubtful_classes(names.split()) == ""


def test_images_are_in_natural_order_in_folders_and_zips_alike(tmp_path):
    names = [f"{kind}/{number}.png" for kind in ("2", "10") for number in (1, 9, 10, 100)]
    for kind in ("folder", "zip"):
        source = tree(kind, tmp_path, *reversed(names))
        assert [source.name_within(index) for index in range(len(source))] == names
