import numpy as np
import pytest
import torch
from PIL import Image

from sagan.system.images import as_rgb, captioned, from_uint8, grid, save_png, to_uint8


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


def test_grey_and_colours_come_back_exactly():
    for channels in (1, 3):
        pixels = torch.arange(256, dtype=torch.uint8).repeat(channels).view(1, channels, 16, 16)
        assert torch.equal(to_uint8(from_uint8(pixels)), pixels)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_colours_are_premultiplied_for_a_network_and_straight_in_files(layout):
    """Every colour at every alpha comes back, but where nothing is seen of it."""
    colour, alpha = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    pixels = torch.stack([colour, colour.flip(0), colour // 2, alpha]).to(torch.uint8)[None]
    images = from_uint8(pixels.contiguous(memory_format=layout))
    assert images.is_contiguous(memory_format=layout)
    unit = (images.double() + 1) / 2
    expected = pixels.double() / 255
    torch.testing.assert_close(unit[:, :3], expected[:, :3] * expected[:, 3:], atol=1e-6, rtol=0)
    torch.testing.assert_close(unit[:, 3:], expected[:, 3:], atol=1e-6, rtol=0)
    back = to_uint8(images)
    assert torch.equal(back[:, 3:], pixels[:, 3:])
    seen = pixels[:, 3:] > 0
    assert torch.equal(back[:, :3] * seen, pixels[:, :3] * seen)
    assert not (back[:, :3] * ~seen).any()
    assert torch.equal(to_uint8(images[0]), back[0])


def test_colours_brighter_than_their_alpha_are_clipped():
    images = torch.tensor([1.0, 0.0, -1.0, 0.0])[None, :, None, None]
    assert to_uint8(images).flatten().tolist() == [255, 254, 0, 128]
    assert to_uint8(torch.tensor([1.0, 1.0, 1.0, -3.0])[:, None, None]).flatten().tolist() == [0, 0, 0, 0]


def test_what_is_transparent_lies_on_a_checkerboard_in_a_grid():
    clear = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    clear[:, :, 4, 4] = torch.tensor([10, 20, 30, 255])
    picture = grid(clear, padding=0)
    assert picture.shape == (16, 16, 3)
    assert picture[0, 0].tolist() == [255] * 3
    assert picture[0, 8].tolist() == picture[8, 0].tolist() == [192] * 3
    assert picture[4, 4].tolist() == [10, 20, 30]
    assert as_rgb(clear).shape == (1, 3, 16, 16)


def test_grey_images_make_grey_pictures(tmp_path):
    pixels = torch.randint(0, 256, (3, 1, 5, 4), dtype=torch.uint8)
    save_png(grid(pixels, columns=2, padding=0), tmp_path / "grid.png")
    save_png(pixels[1].permute(1, 2, 0).numpy(), tmp_path / "one.png")
    with Image.open(tmp_path / "grid.png") as whole, Image.open(tmp_path / "one.png") as one:
        assert (whole.mode, whole.size, one.mode) == ("L", (8, 10), "L")
        assert np.array_equal(np.asarray(one), pixels[1, 0])
        assert np.array_equal(np.asarray(whole)[:5, 4:], pixels[1, 0])
    assert torch.equal(as_rgb(pixels)[:, 2], pixels[:, 0])
    assert captioned(grid(pixels), "a").shape[2] == 1
