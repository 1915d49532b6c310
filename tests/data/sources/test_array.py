"""Arrays: channels, and what is refused."""

import numpy as np
import pytest

from sagan.data.sources.open import open_source


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_one_three_and_four_channels(channels, tmp_path):
    array = np.full((2, 4, 4, channels), 90, dtype=np.uint8)
    array[1, ..., -1] = 255 if channels != 4 else 0
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    assert source.read(0).getpixel((0, 0)) == {1: (90, 90, 90), 3: (90, 90, 90), 4: (197, 197, 197)}[channels]
    assert source.read(1).getpixel((0, 0)) == {1: (255,) * 3, 3: (90, 90, 255), 4: (255,) * 3}[channels]


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
