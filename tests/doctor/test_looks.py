"""The pass over images: once for each content, whatever becomes of what was kept."""

import numpy as np
import pytest
from PIL import Image

from sagan.data import open_source
from sagan.doctor.looks import look_at
from tests.doctor.made import Held, picture, sound


@pytest.fixture
def folder(tmp_path):
    for number, image in enumerate(sound(9)):
        image.save(tmp_path / f"{number}.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "0.png").read_bytes()[:99])
    return tmp_path


def same(one, other):
    arrays = zip((one.figures, one.mean, one.spread), (other.figures, other.mean, other.spread), strict=True)
    return (
        one.refused == other.refused and one.laid == other.laid and all(a.tobytes() == b.tobytes() for a, b in arrays)
    )


def test_images_are_read_once(tmp_path):
    source = Held([*sound(6), "torn"])
    first = look_at(source, tmp_path)
    assert source.reads == 7
    assert same(first, look_at(source, tmp_path))
    assert source.reads == 7


def test_what_is_kept_is_of_these_images_alone(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    first = look_at(open_source(folder), root)
    assert [each.text for each in first.refused]
    assert first.name(first.refused[0].number) == "torn.png"
    picture(77, 30, 20).save(folder / "3.png")
    second = look_at(open_source(folder), root)
    assert second.figures["width"].tolist()[3] == 30
    assert first.figures["width"].tolist()[3] == 48


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"{}\n" + data, lambda data: data + b"x", len])
def test_what_is_damaged_is_measured_again(tmp_path, damage):
    source = Held([*sound(3), "torn"])
    first = look_at(source, tmp_path)
    (kept,) = (tmp_path / "looks").iterdir()
    changed = damage(kept.read_bytes())
    kept.write_bytes(changed if isinstance(changed, bytes) else b"")
    assert same(first, look_at(source, tmp_path))
    assert source.reads == 8


def test_where_nothing_can_be_kept_images_are_measured_all_the_same(tmp_path):
    (tmp_path / "file").write_text("")
    source = Held(sound(3))
    assert same(look_at(source, tmp_path / "file"), look_at(source, tmp_path / "file"))


def test_what_is_kept_is_no_image_and_left_out_of_images(folder):
    look_at(open_source(folder), folder / "prepared")
    assert len(open_source(folder)) == 10
    assert "other file" not in open_source(folder).description


def test_an_image_that_cannot_be_reached_is_no_damage(tmp_path):
    class Gone(Held):
        def read(self, index):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="output") as caught:
        look_at(Gone(sound(3)), tmp_path)
    assert caught.value.filename == "000.png"
    assert not (tmp_path / "looks").exists()


def test_laying_counts_each_image_once(tmp_path):
    looks = look_at(Held([picture(0)] * 5 + [picture(1), Image.new("RGB", (200, 200))]), tmp_path)
    assert looks.laid == (3, 1, 1, 1, 1)
    assert np.isfinite(looks.mean).all()
    assert np.isfinite(looks.spread).all()
