"""A reference of drawn faces, a run with one snapshot, and the small extractor of the tests."""

import pytest

from sagan.config import Config, ModelConfig, override, to_dict
from sagan.data import Recipe, open_or_prepare
from sagan.data.faces import FacesSource
from sagan.evaluation.evaluate import reference_statistics, store_images
from sagan.evaluation.features import load_extractor
from sagan.models.build import build_generator
from sagan.runs import Run
from sagan.training.loop import save_generator

CONFIG = Config(model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8))


def silent(done, total):
    pass


@pytest.fixture(scope="session")
def extractor():
    return load_extractor("random-conv")


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    return store_images(open_or_prepare(FacesSource(120, 16), Recipe(16), tmp_path_factory.mktemp("prepared")))


@pytest.fixture(scope="session")
def reference(faces, extractor, tmp_path_factory):
    return reference_statistics(faces, extractor, tmp_path_factory.mktemp("cache"), silent)


@pytest.fixture
def run(tmp_path):
    config = override(CONFIG, {"run_dir": str(tmp_path / "run")})
    run = Run.create(tmp_path / "run", to_dict(config))
    for step in (10, 20):
        save_generator(run.snapshot_file(step), build_generator(config.model, seed=step).eval(), config, step, None)
    return run
