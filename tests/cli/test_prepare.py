"""`sagan prepare`."""

from sagan.cli import main


def test_prepare_says_what_it_made(home, capsys):
    assert main(["prepare", "photos.npy", "--imsize", "16", "--crop", "squash"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("24 images of 16x16 from 24 RGB images of 20x16")
    assert "prepared in prepared/photos-16-" in out
    assert main(["prepare", "--data", "photos.npy", "--imsize", "16", "--crop", "squash"]) == 0
    assert len(list((home / "prepared").glob("photos-*"))) == 1


def test_prepare_asks_for_images(home, capsys):
    assert main(["prepare", "--imsize", "16"]) == 2
    assert "`sagan prepare faces`" in capsys.readouterr().err
