"""A tiny run: 40 images of 16x16, networks of a few thousand weights, a step of a few milliseconds."""

import dataclasses

import numpy as np
import pytest
import torch

from sagan.data import Recipe, open_or_prepare, open_source
from sagan.run.config import Config, GameConfig, ModelConfig, RunConfig, override
from sagan.run.folder import Run
from sagan.system.console import Console
from sagan.training.loop import Session, train

TINY = Config(
    model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8, span=1, g_attention=(8,)),
    game=GameConfig(batch_size=8, ema_halflife=200),
    run=RunConfig(
        total_step=8, log_step=2, sample_step=4, checkpoint_every=3, snapshot_every=4, sample_count=8, device="cpu"
    ),
)


@dataclasses.dataclass
class Workshop:
    """A folder with a store of images in it, where tiny runs are trained."""

    folder: object
    store: object

    def run(self, name="run", **changes):
        """A new run of the tiny config with changes, and that config; or the run of that name and its new config."""
        folder = self.folder / name
        config = override(TINY, changes)
        return (Run.open(folder) if folder.exists() else Run.create(folder, config)), config

    def train(self, name="run", **changes):
        run, config = self.run(name, **changes)
        return run, train(self.session(config), run, Console(quiet=True))

    def session(self, config):
        """The config, on the CPU, with the store's images."""
        return Session(config, torch.device("cpu"), self.store)


def make_store(folder, count=40, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
    np.save(folder / f"images{seed}.npy", images)
    return open_or_prepare(open_source(folder / f"images{seed}.npy"), Recipe(16), folder / "prepared")


@pytest.fixture
def few_z(monkeypatch):
    """Batch norm is measured over 64 z instead of 1,024, which would take most of a tiny run's time."""
    monkeypatch.setattr("sagan.core.game.average._BATCHES", 1)


@pytest.fixture
def workshop(tmp_path, few_z):
    return Workshop(tmp_path, make_store(tmp_path))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A workshop for all tests of a file, and the runs that were trained in it, by name and changes."""
    folder = tmp_path_factory.mktemp("shelf")
    return Workshop(folder, make_store(folder)), {}


@pytest.fixture
def straight(shelf, few_z):
    """A function that trains the tiny config with changes straight through and returns the run, which the other tests
    of the file get too. A test that patches the training gives its run a ``name`` of its own."""
    workshop, runs = shelf

    def trained(name="straight", **changes):
        key = name, *sorted(changes.items())
        if key not in runs:
            runs[key], _ = workshop.train(f"{name}{len(runs)}", **changes)
        return runs[key]

    return trained
