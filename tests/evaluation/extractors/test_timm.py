import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sagan.evaluation.extractors.resize import resize_bicubic
from sagan.evaluation.extractors.table import load_extractor
from sagan.system.files import file_sha256
from tests.evaluation.conftest import noise


class FakeTimmNet(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, 4, 1)
        self.classifier = nn.Linear(4, num_classes)

    def forward_features(self, x):
        assert x.shape[2:] == (20, 24)
        return self.stem(x)

    def forward_head(self, x, pre_logits=False):
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.classifier(pooled)


@pytest.fixture(name="timm")
def make_timm(monkeypatch):
    """A stand-in for the timm package: the same calls, one small network."""
    settings = {"input_size": (3, 20, 24), "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)}
    calls = []

    def create_model(name, *, pretrained, checkpoint_path):
        if name != "small":
            raise RuntimeError(f"Unknown model ({name})")
        calls.append((pretrained, checkpoint_path))
        torch.manual_seed(3)
        return FakeTimmNet()

    data = types.SimpleNamespace(resolve_model_data_config=lambda network: settings)
    package = types.SimpleNamespace(create_model=create_model, data=data, calls=calls)
    monkeypatch.setitem(sys.modules, "timm", package)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    return package


def test_timm_features_are_what_the_classifier_sees(timm):
    extractor = load_extractor("timm:small")
    images = noise(3, size=30)
    network = timm.create_model("small", pretrained=True, checkpoint_path="")
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        expected = network.stem((resize_bicubic(images, (20, 24)) / 255 - mean) / deviation).mean((2, 3))
        expected_logits = network.classifier(expected)
    features, logits = extractor.with_logits(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
    assert timm.calls[0] == (True, "")
    assert (extractor.dim, extractor.resize) == (4, "bicubic antialiased to 20x24")
    assert extractor.name == f"timm-small-{extractor.weights_sha256[:8]}"
    assert (extractor.is_fid, extractor.qualifier) == (False, "(timm small)")


@pytest.mark.parametrize("within", [None, "state_dict", "model", "state_dict_ema"])
def test_timm_takes_a_weights_file(timm, tmp_path, within):
    weights = {f"module.{name}": tensor + 1 for name, tensor in FakeTimmNet().state_dict().items()}
    path = tmp_path / "w.pth"
    torch.save(weights if within is None else {within: weights, "epoch": 3}, path)
    extractor = load_extractor("timm:small", weights=path)
    assert extractor.weights_sha256 == file_sha256(path)
    assert timm.calls == [(False, "")], "timm itself, which may run what is in the file, does not read it"
    safe = tmp_path / "w.safetensors"
    save_file({name.removeprefix("module."): tensor for name, tensor in weights.items()}, safe)
    assert torch.equal(load_extractor("timm:small", weights=safe)(noise(3, size=30)), extractor(noise(3, size=30)))


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_a_weights_file_runs_no_code(timm, tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"state_dict": {"a": Trap(tmp_path / "sprung")}}, path)
    with pytest.raises(ValueError, match="is not a weights file"):
        load_extractor("timm:small", weights=path)
    assert not (tmp_path / "sprung").exists()


def test_a_network_timm_does_not_know(timm):
    with pytest.raises(ValueError, match="timm could not make 'large': Unknown model"):
        load_extractor("timm:large")
