"""Parquet: which columns are taken, what is refused, and that row groups come and go."""

import random
import sys

import numpy as np
import pytest

from sagan.data import open_source
from sagan.system.errors import UserError
from tests.data.sources.made import classes, encoded, make_parquet, picture

PNG = encoded(picture(0))


def test_without_the_pyarrow_package_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs the pyarrow package: pip install 'sagan-attention\[parquet\]'"):
        open_source(tmp_path / "a.parquet")


def test_rows_are_read_in_any_order_and_few_row_groups_stay(tmp_path):
    pictures = [picture(number) for number in range(20)]
    source = open_source(make_parquet(tmp_path / "a.parquet", [encoded(each) for each in pictures]))
    numbers = list(range(20))
    random.Random(0).shuffle(numbers)
    for number in numbers:
        assert np.array_equal(np.asarray(source.read(number)), np.asarray(pictures[number]))
        assert len(source.shards[0].opened.get().groups) <= 2


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([1, 0, 1], ["cat", "big dog"], ["big dog", "cat", "big dog"]),
        ([10, 2, 10], [], ["10", "2", "10"]),
        (["b", "a", "b"], [], ["b", "a", "b"]),
        ([True, False, True], [], ["1", "0", "1"]),
    ],
)
def test_labels_are_numbers_texts_and_names(labels, names, expected, tmp_path):
    assert classes(open_source(make_parquet(tmp_path / "a.parquet", [PNG] * 3, labels, names))) == expected


@pytest.mark.parametrize(
    ("labels", "names", "why"),
    [
        (None, [], "has no column of labels"),
        ([1, None, 0], ["a", "b"], "has no label for some images"),
        ([-1, -1, -1], ["a", "b"], "has no label for some images"),
        ([[0, 1], [1], []], [], "not a class for each image"),
        ([0.5, 1.0, 2.0], [], "not a class for each image"),
    ],
)
def test_images_without_classes(labels, names, why, tmp_path):
    source = open_source(make_parquet(tmp_path / "a.parquet", [PNG] * 3, labels, names))
    assert classes(source) == [None] * 3
    assert why in source.no_classes


@pytest.mark.parametrize(
    ("images", "labels", "names", "sentence"),
    [
        ([], [], [], "no images found|no column of images"),
        ([1, 2], None, [], "has no column of images: looked for image"),
        ([PNG, PNG], [0, 7], ["cat"], "has the label 7, and names for 1 classes"),
        ([PNG, PNG], ["a", "x" * 300], [], "a label of 300 characters"),
        ([PNG, None], None, [], "row 1 cannot be read: the row holds no image"),
        ([PNG, b"no image"], None, [], "row 1 cannot be read: it holds no image"),
        ([{"bytes": PNG, "path": None}, {"bytes": None, "path": "/a.png"}], None, [], r"only a path \('/a.png'\)"),
    ],
)
def test_what_is_refused(images, labels, names, sentence, tmp_path):
    path = make_parquet(tmp_path / "a.parquet", images, labels, names)
    with pytest.raises(UserError, match=sentence):
        open_source(path).read(1)


def test_a_row_group_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sagan.data.sources.parquet._LARGEST_GROUP", 1000)
    path = make_parquet(tmp_path / "a.parquet", [encoded(picture(number)) for number in range(9)])
    with pytest.raises(UserError, match="write it with a smaller row_group_size"):
        open_source(path)


def test_files_that_changed_by_chance(tmp_path):
    path = make_parquet(tmp_path / "a.parquet", [encoded(picture(number)) for number in range(6)], [0, 1, 2] * 2)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            data[chance.choice([chance.randrange(len(data)), len(data) - 1 - chance.randrange(600)])] = (
                chance.randrange(256)
            )
        path.write_bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)
        try:
            source = open_source(path)
            for index in range(min(len(source), 10)):
                source.read(index)
        except UserError:
            continue


def test_a_file_that_is_not_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    for data in (b"", b"PAR1", b"PAR1" * 10, b"x" * 1000):
        (tmp_path / "a.parquet").write_bytes(data)
        with pytest.raises(UserError, match="cannot be read as parquet"):
            open_source(tmp_path / "a.parquet")
