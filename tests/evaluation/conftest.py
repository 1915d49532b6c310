"""A reference of drawn faces, a run with one snapshot, and the small extractor of the tests."""

import pytest
import torch

from sagan.data import Recipe, open_or_prepare
from sagan.data.faces import FacesSource
from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.image_sets import store_images
from sagan.evaluation.reference import open_reference
from sagan.run.build import build_generator
from sagan.run.config import Config, ModelConfig, override
from sagan.run.folder import Run
from sagan.run.weights import Snapshot, save_snapshot
from sagan.system.console import Console

CONFIG = Config(model=ModelConfig(imsize=16, z_dim=4, g_conv_dim=8, d_conv_dim=8))


def silent(done, total):
    pass


def noise(count, size=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw)


@pytest.fixture(scope="session")
def extractor():
    return load_extractor("random-conv")


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    return store_images(open_or_prepare(FacesSource(120, 16), Recipe(16), tmp_path_factory.mktemp("prepared")))


@pytest.fixture(scope="session")
def reference(faces, extractor, tmp_path_factory):
    return open_reference(faces, extractor, tmp_path_factory.mktemp("cache"), Console(quiet=True))


def make_run(folder):
    """A run with two snapshots."""
    config = override(CONFIG, {"run_dir": str(folder)})
    run = Run.create(folder, config)
    for step in (10, 20):
        save_snapshot(run.snapshot_file(step), Snapshot(build_generator(config.model, seed=step), config, step))
    return run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def switches():
    backends = torch.backends
    operations = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return [
        *(operation.fp32_precision for operation in operations),
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
        torch.is_autocast_enabled("cpu"),
    ]


@pytest.fixture(name="hasty")
def make_hasty(monkeypatch):
    """Every switch set for speed, as a training may leave them."""
    backends = torch.backends
    monkeypatch.setattr(backends.cudnn, "benchmark", True)
    monkeypatch.setattr(backends.cudnn, "deterministic", False)
    fast = {backends.cuda.matmul: "tf32", backends.cudnn.conv: "tf32"}
    fast |= {backends.mkldnn.matmul: "bf16", backends.mkldnn.conv: "bf16"}
    before = {operation: operation.fp32_precision for operation in fast}
    for operation, precision in fast.items():
        operation.fp32_precision = precision
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield switches()
    for operation, precision in before.items():
        operation.fp32_precision = precision
