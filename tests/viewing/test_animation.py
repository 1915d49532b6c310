import numpy as np
import pytest
from PIL import Image

from sagan.system.errors import UserError
from sagan.viewing.animation import check_animation, enlarged, write_animation


def frames(count=5, height=33, width=48):
    for number in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, : 8 * (number + 1)] = (40 * number + 40, 80, 160)
        yield frame


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_has_its_frames_and_the_same_bytes_again(tmp_path, suffix):
    for name in ("one", "two"):
        assert write_animation(tmp_path / f"{name}{suffix}", frames(), 10) == 5
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    with Image.open(tmp_path / f"one{suffix}") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (5, (48, 33), 0)
        film.seek(3)
        film.load()
        assert film.info["duration"] == 100
        seen = np.asarray(film.convert("RGB")).astype(int)
    expected = list(frames())[3].astype(int)
    assert abs(seen - expected).mean() < 6


def test_an_mp4_has_its_frames_and_the_same_bytes_again(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    for name in ("one", "two"):
        assert write_animation(tmp_path / f"{name}.mp4", frames(), 10) == 5
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    reader = ffmpeg.read_frames(str(tmp_path / "one.mp4"))
    about = next(reader)
    assert (about["size"], about["fps"]) == ((48, 34), 10)
    assert len(list(reader)) == 5


@pytest.mark.parametrize(
    ("name", "rate", "sentence"),
    [
        ("a.avi", 10, "must end in .webp, .gif, .mp4"),
        ("a.gif", 0, "fps must be from 1 to 50"),
        ("x.gif", 9, "is there"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, name, rate, sentence):
    (tmp_path / "x.gif").touch()
    with pytest.raises(UserError, match=sentence):
        check_animation(tmp_path / name, rate)


def test_an_ffmpeg_that_is_not_there_is_a_sentence_with_the_remedy(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"IMAGEIO_FFMPEG_EXE names, is no program: unset it, .* write \.webp or \.gif"):
        check_animation(tmp_path / "a.mp4", 10)


def test_pictures_are_enlarged_in_whole_pixels():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarged(picture, 5)
    assert large.shape == (6, 6, 3)
    assert (large[::3, ::3] == picture).all()


@pytest.mark.parametrize(
    ("name", "rate"), [("a.gif", 24), ("a.gif", 30), ("a.gif", 50), ("a.webp", 24), ("a.webp", 60)]
)
def test_a_film_is_as_long_as_its_rate_says(tmp_path, name, rate):
    frames = [np.full((8, 8, 3), 5 * number, np.uint8) for number in range(48)]
    write_animation(tmp_path / name, frames, rate)
    with Image.open(tmp_path / name) as film:
        length = 0
        for number in range(film.n_frames):
            film.seek(number)
            film.load()
            length += film.info["duration"]
    assert length == pytest.approx(48_000 / rate, abs=24)


def test_an_mp4_that_cannot_be_made_is_not_there(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    with pytest.raises(UserError, match="a frame of 256x20,000 pixels is too large"):
        write_animation(tmp_path / "a.mp4", [np.zeros((20_000, 256, 3), np.uint8)], 24)
    assert not list(tmp_path.iterdir())
