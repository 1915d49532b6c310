"""Which images the settings mean, and how they are cropped."""

import pytest
from PIL import Image

from sagan.data import Recipe, choose_recipe, choose_source, prepared_store
from sagan.data.sources.own import mark_as_ours
from sagan.run.config import DataConfig
from sagan.system.console import Console
from sagan.system.errors import UserError
from tests.data.sources.made import picture, put


def test_without_data_there_are_drawn_faces():
    for data in (None, "faces"):
        source = choose_source(DataConfig(data=data), 16)
        assert "drawn faces" in source.description
        assert source.read(0).size == (16, 16)


def test_data_sets_are_cropped_as_published(tmp_path):
    folder = tmp_path / "CelebA" / "img_align_celeba"
    folder.mkdir(parents=True)
    Image.new("RGB", (178, 218), "red").save(folder / "000001.jpg")
    data = DataConfig(dataset="celeb", image_path=str(tmp_path), prepared=str(tmp_path / "prepared"))
    assert prepared_store(data, 16, Console(quiet=True)).meta.crop == "160"


@pytest.mark.parametrize(
    ("settings", "crop"),
    [
        ({}, "square"),
        ({"data": "photos"}, "square"),
        ({"dataset": "celeb"}, "160"),
        ({"dataset": "lsun"}, "squash"),
        ({"dataset": "celeb", "crop": "square"}, "square"),
        ({"data": "photos", "crop": "squash"}, "squash"),
    ],
)
def test_the_published_crop_is_that_of_published_data_where_no_other_is_asked_for(settings, crop):
    assert choose_recipe(DataConfig(**settings, filter="box"), 32) == Recipe(32, crop, "box")


def test_samples_are_not_trained_on(tmp_path):
    mark_as_ours(tmp_path / "samples")
    put(tmp_path / "samples" / "1.png", picture(0))
    with pytest.raises(UserError, match=r"holds samples or figures of sagan, not images to train on.*remove \.sagan"):
        choose_source(DataConfig(data=str(tmp_path / "samples")), 8)
