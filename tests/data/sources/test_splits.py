"""Folders for training and testing are splits; one of them is taken, and the others are said."""

import numpy as np
import pytest

from sagan.data import open_source
from sagan.data.sources.splits import split_of_file
from sagan.system.errors import UserError
from tests.data.sources.made import classes, picture, tree

NAMES = ("train/cat/10.png", "train/cat/9.png", "train/dog/1.png", "Val/dog/3.png", "test/cat/1.png")


def names(source):
    return [source.name_within(index) for index in range(len(source))]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("above", ["", "set/images/"])
def test_of_splits_train_is_taken_and_the_others_are_said(kind, above, tmp_path):
    source = tree(kind, tmp_path, *(above + name for name in NAMES))
    assert names(source) == [f"{above}train/{name}" for name in ("cat/9.png", "cat/10.png", "dog/1.png")]
    assert classes(source) == ["cat", "cat", "dog"]
    assert len(source.remarks) == 1
    assert "the split train (3 images) is taken; there is also valid (1 image), test (1 image)" in source.remarks[0]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_split_is_chosen_by_any_of_its_names(kind, tmp_path):
    path = tree(kind, tmp_path, *NAMES).place
    for split in ("valid", "val", "validation"):
        source = open_source(path, split=split)
        assert (names(source), source.remarks) == (["Val/dog/3.png"], ())
    whole = open_source(path, split="all")
    assert classes(whole) == ["dog", "cat", "cat", "cat", "dog"]
    assert len({open_source(path, split=split).identity for split in ("train", "val", "test", "all")}) == 4
    assert open_source(path).identity == open_source(path, split="train").identity
    assert len({open_source(path, split=split).signature for split in ("train", "val", "test", "all")}) == 4


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("folders", "asked", "sentence"),
    [
        ("train test", "valid", r"has no split valid: it has train \(1 image\), test \(1 image\); or give split all"),
        ("cat dog", "train", "is not divided into splits such as train and test: leave out split train"),
        ("train cat", "train", "is not divided into splits"),
    ],
)
def test_a_split_that_is_not_there_is_refused(kind, folders, asked, sentence, tmp_path):
    path = tree(kind, tmp_path, *(f"{name}/1.png" for name in folders.split())).place
    with pytest.raises(UserError, match=sentence):
        open_source(path, split=asked)


@pytest.mark.parametrize("folders", [["train"], ["train", "cat"], ["training", "train"], ["cat", "test"]])
def test_what_is_named_like_one_split_is_none(folders, tmp_path):
    source = tree("folder", tmp_path, *(f"{name}/1.png" for name in folders))
    assert len(source) == len(folders)
    assert source.remarks == () or "look like the parts" in source.remarks[0]


def test_without_a_split_to_train_on_all_are_taken(tmp_path):
    source = tree("folder", tmp_path, "val/cat/1.png", "test/dog/1.png")
    assert (classes(source), source.remarks) == (["dog", "cat"], ())


def test_an_array_has_no_splits_and_a_store_says_so(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([np.asarray(picture(0))] * 2))
    with pytest.raises(UserError, match=r"a\.npy is not divided into splits"):
        open_source(tmp_path / "a.npy", split="test")
    assert len(open_source(tmp_path / "a.npy", split="all")) == 2


@pytest.mark.parametrize(
    ("name", "split"),
    [("train-00000-of-00008.parquet", "train"), ("Validation_01.tar", "valid"), ("testudo.tar", ""),
     ("test.tar", "test"), ("valley-1.tar", ""), ("0001-train.tar", "")],
)  # fmt: skip
def test_the_split_of_a_shard_is_the_word_that_its_name_begins_with(name, split):
    assert split_of_file(name) == split
