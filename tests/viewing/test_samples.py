import numpy as np
import pytest
import torch
from PIL import Image

from sagan.run.build import build_generator
from sagan.run.config import ModelConfig
from sagan.viewing.samples import write_samples


@pytest.fixture(scope="module")
def generator():
    """A small generator whose batch norm has seen something, so that its images differ."""
    generator = build_generator(ModelConfig(imsize=16, z_dim=4, g_conv_dim=8))
    with torch.no_grad():
        for seed in range(20):
            generator(torch.randn(16, 4, generator=torch.Generator().manual_seed(seed)))
    return generator.eval().requires_grad_(False)


def images(folder):
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))}


def test_images_are_numbered_without_gaps(generator, tmp_path):
    seen = []
    write_samples(
        generator, tmp_path / "out", 11, batch_size=4, progress=lambda done, total: seen.append((done, total))
    )
    assert list(images(tmp_path / "out")) == [f"{number:06d}.png" for number in range(11)]
    assert images(tmp_path / "out")["000000.png"].shape == (16, 16, 3)
    assert seen[-1] == (11, 11)


def test_names_can_be_chosen(generator, tmp_path):
    write_samples(generator, tmp_path / "out", 3, batch_size=2, name=lambda number: f"{number + 1}_fake.png")
    assert list(images(tmp_path / "out")) == ["1_fake.png", "2_fake.png", "3_fake.png"]


def test_an_image_depends_on_its_seed_and_number_alone(generator, tmp_path):
    for name, count, size in (("one", 9, 1), ("many", 9, 64), ("few", 5, 3)):
        write_samples(generator, tmp_path / name, count, seed=3, batch_size=size)
    one, many, few = (images(tmp_path / name) for name in ("one", "many", "few"))
    for name, image in one.items():
        assert abs(image - many[name]).max() <= 1
    for name, image in few.items():
        assert abs(image - many[name]).max() <= 1
    assert abs(one["000000.png"] - one["000001.png"]).max() > 1


def test_another_seed_gives_other_images(generator, tmp_path):
    for seed in (0, 1):
        write_samples(generator, tmp_path / str(seed), 1, seed=seed)
    assert abs(images(tmp_path / "0")["000000.png"] - images(tmp_path / "1")["000000.png"]).max() > 1


def test_what_is_there_is_not_mixed_with_or_written_over(generator, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old.png").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is not empty"):
        write_samples(generator, tmp_path / "full", 1)
    with pytest.raises(ValueError, match="is a file"):
        write_samples(generator, tmp_path / "file", 1)
    write_samples(generator, tmp_path / "empty", 1)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["old.png"]


@pytest.mark.parametrize(("count", "size", "said"), [(0, 1, "num must be 1"), (1, 0, "batch_size must be 1")])
def test_nothing_is_made_for_no_images(generator, tmp_path, count, size, said):
    with pytest.raises(ValueError, match=said):
        write_samples(generator, tmp_path / "out", count, batch_size=size)
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_written_is_an_error(generator, tmp_path, monkeypatch):
    def full(picture, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sagan.viewing.samples.save_png", full)
    with pytest.raises(OSError, match="No space"):
        write_samples(generator, tmp_path / "out", 3)
