"""A person's folder with images, and one with a run of four steps."""

import shutil

import numpy as np
import pytest

import sagan.data.choice
from sagan.cli import main
from sagan.run.folder import Run
from tests.cli.made import tiny


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A person's folder with 24 images in it."""
    monkeypatch.chdir(tmp_path)
    np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (24, 20, 16, 3)).astype(np.uint8))
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with images and a run of four steps with span 1, at ``runs/photos-16px-span1``."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.save("photos.npy", np.random.default_rng(0).integers(0, 256, (24, 20, 16, 3)).astype(np.uint8))
        assert main(tiny(data="photos.npy", span=1, total_step=4)) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the trained run to do with as one likes, in a person's folder."""
    monkeypatch.chdir(tmp_path)
    return Run(shutil.copytree(trained / "runs", tmp_path / "runs") / "photos-16px-span1")


@pytest.fixture
def configs(monkeypatch):
    """The configs that `sagan train` would train, instead of training them."""
    seen = []
    monkeypatch.setattr("sagan.training.start.start_run", lambda config, *others: seen.append(config) or 0)
    return seen


@pytest.fixture
def few_faces(tmp_path, monkeypatch):
    """An empty folder, in which drawn faces are 60."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sagan.data.choice, "FACES", 60)
