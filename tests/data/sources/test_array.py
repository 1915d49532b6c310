"""Arrays: channels, and what is refused."""

import os

import numpy as np
import pytest

from sagan.data.sources.open import open_source
from sagan.system.errors import UserError


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_one_three_and_four_channels(channels, tmp_path):
    array = np.full((2, 4, 4, channels), 90, dtype=np.uint8)
    array[1, ..., -1] = 255 if channels != 4 else 0
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    assert source.read(0).getpixel((0, 0)) == {1: 90, 3: (90, 90, 90), 4: (90, 90, 90, 90)}[channels]
    assert source.read(1).getpixel((0, 0)) == {1: 255, 3: (90, 90, 255), 4: (90, 90, 90, 0)}[channels]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), r"transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint8), r"shape \(8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"shape \(0, 8, 8, 3\)"),
        (np.zeros((2, 8, 8, 2), np.uint8), "1, 3 or 4 channels"),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / "a.npy")


def test_an_array_file_cut_short_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8, 3), np.uint8))
    data = (tmp_path / "a.npy").read_bytes()
    for length in (0, 20, len(data) - 1):
        (tmp_path / "a.npy").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"not a complete \.npy"):
            open_source(tmp_path / "a.npy")


def lying(shape: str) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(200)


@pytest.mark.parametrize(
    "shape",
    ["(2, 4, 4, 9223372036854775808)", "(9223372036854775808, 4, 4, 3)", "(-1, 4, 4, 3)",
     "(2, -4, -4, 3)", "(2, 4)" * 9,
     "(2.5, 4, 4, 3)", "(None, 4, 4, 3)", "5", "'text'", "()", "(4294967296, 4294967296, 4294967296, 3)",
     "(4294967296, 2147483648, 2, 1)", "-" * 9900 + "1", "(" + "1," * 20_000 + ")"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_header_that_lies_is_refused(shape, tmp_path):
    (tmp_path / "a.npy").write_bytes(lying(shape))
    with pytest.raises(UserError, match=r"a\.npy"):
        open_source(tmp_path / "a.npy")


def test_what_only_has_the_name_of_an_array_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8, 3), np.uint8))
    (tmp_path / "a.npz").rename(path)
    with pytest.raises(UserError, match=r"zip of arrays \(\.npz\)"):
        open_source(path)
    np.save(path, np.array([{}, []], dtype=object))
    with pytest.raises(UserError, match="not a complete .npy array"):
        open_source(path)


def test_arrays_of_one_size_and_time_are_told_apart(tmp_path):
    found = set()
    for value in (1, 2, 2):
        path = tmp_path / str(len(found)) / "set.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.full((2, 8, 8, 3), value, np.uint8))
        os.utime(path, (0, 0))
        found.add(open_source(path).identity)
    assert len(found) == 2


def test_a_file_that_becomes_shorter_is_an_error_and_not_the_end(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((40, 64, 64, 3), np.uint8))
    source = open_source(tmp_path / "a.npy")
    source.read(39)
    os.truncate(tmp_path / "a.npy", 10_000)
    with pytest.raises(OSError, match="became shorter"):
        source.read(39)


def test_arrays_stored_by_column_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", np.asfortranarray(images))
    source = open_source(tmp_path / "a.npy")
    assert all(np.array_equal(np.asarray(source.read(i)), images[i]) for i in range(3))


def test_an_array_stored_by_column_that_becomes_shorter_is_an_error_and_not_the_end(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((40, 64, 64, 3), np.uint8)))
    source = open_source(tmp_path / "a.npy")
    source.read(39)
    os.truncate(tmp_path / "a.npy", 10_000)
    with pytest.raises(OSError, match="became shorter"):
        source.read(39)


def test_numpy_says_nothing_of_its_own_and_not_much(tmp_path, recwarn):
    for shape in ("(4611686018427387904, 4, 4, 3)", "[" * 4900 + "1" + "]" * 4900):
        (tmp_path / "a.npy").write_bytes(lying(shape))
        with pytest.raises(UserError) as refused:
            open_source(tmp_path / "a.npy")
        assert len(str(refused.value)) < 500 + len(str(tmp_path))
    (tmp_path / "a.npy").write_bytes(lying("(1L, 4, 4, 3)"))  # as Python 2 wrote it
    assert len(open_source(tmp_path / "a.npy")) == 1
    assert not recwarn.list


def test_images_beyond_those_that_the_header_counts_are_said(tmp_path):
    (tmp_path / "a.npy").write_bytes(lying("(2, 4, 4, 3)") + bytes(96))
    source = open_source(tmp_path / "a.npy")
    assert (len(source), "has 200 bytes after the 2 images" in source.remarks[0]) == (2, True)
