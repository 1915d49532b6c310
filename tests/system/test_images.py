import numpy as np
import pytest
import torch
from PIL import Image

from sagan.system.images import grid, save_png, to_uint8


def test_grey_levels_survive_the_way_to_the_network_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels)


def test_what_is_beyond_the_range_is_clipped():
    assert to_uint8(torch.tensor([-1.5, 1.5, -1.0, 1.0, 0.0])).tolist() == [0, 255, 0, 255, 128]


def test_grid_has_the_published_layout():
    images = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8)
    picture = grid(images)
    assert picture.shape == (530, 530, 3)
    assert np.array_equal(picture[2:66, 2:66], images[0].permute(1, 2, 0))
    assert np.array_equal(picture[68 : 68 + 64, 2 + 66 : 66 + 66], images[9].permute(1, 2, 0))
    assert not picture[:2].any()
    assert not picture[:, 66:68].any()
    assert grid(images[:4]).shape == (68, 266, 3)


def test_the_last_row_may_be_short():
    picture = grid(torch.full((9, 3, 4, 4), 255, dtype=torch.uint8))
    assert picture.shape == (2 * 6 + 2, 8 * 6 + 2, 3)
    assert picture[8:, :6].any()
    assert not picture[8:, 6:].any()


def test_a_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.png"
    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    save_png(picture, path)
    assert np.array_equal(np.asarray(Image.open(path)), picture)

    def full(self, file, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_png(picture * 0, path)
    monkeypatch.undo()
    assert np.array_equal(np.asarray(Image.open(path)), picture)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
