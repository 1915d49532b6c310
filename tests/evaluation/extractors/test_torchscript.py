"""TorchScript is deprecated in torch, and still how NVIDIA's copy of the Inception comes."""

import pytest
import torch
from torch import nn

from sagan.evaluation.extractors import torchscript
from sagan.evaluation.extractors.table import load_extractor
from sagan.system.files import file_sha256
from tests.evaluation.conftest import noise

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class LikeNvidia(nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        sums = img.float().mean(dim=[2, 3])
        if return_features:
            return torch.cat([sums, sums], 1)[:, :, None, None]
        return torch.softmax(sums, 1)


class Plain(nn.Module):
    def forward(self, img: torch.Tensor) -> torch.Tensor:
        return img.float().mean(dim=[2, 3]) * 2


class OnlyBatchesOf224(nn.Module):
    def forward(self, img: torch.Tensor) -> torch.Tensor:
        assert img.shape[2] == 224, "224 only"
        return img.float().mean(dim=[2, 3])


def save_script(module, path):
    torch.jit.save(torch.jit.script(module), str(path))
    return path


def test_a_torchscript_file_is_asked_for_features(tmp_path):
    path = save_script(LikeNvidia(), tmp_path / "net.pt")
    extractor = load_extractor(f"torchscript:{path}")
    images = noise(3)
    means = images.float().mean((2, 3))
    torch.testing.assert_close(extractor(images), torch.cat([means, means], 1))
    assert (extractor.dim, extractor.has_logits, extractor.with_logits(images)[1]) == (6, False, None)
    assert extractor.weights_sha256 == file_sha256(path)
    assert extractor.name == f"torchscript-{file_sha256(path)[:8]}"
    assert (extractor.is_fid, extractor.qualifier) == (False, f"(TorchScript net, {file_sha256(path)[:8]})")


def test_a_torchscript_file_without_that_word_is_called_plainly(tmp_path):
    scripted = load_extractor(f"torchscript:{save_script(Plain(), tmp_path / 'plain.pt')}")
    torch.testing.assert_close(scripted(noise(3)), noise(3).float().mean((2, 3)) * 2)
    torch.jit.save(torch.jit.trace(Plain(), noise(1)), str(tmp_path / "traced.pt"))
    traced = load_extractor(f"torchscript:{tmp_path / 'traced.pt'}")
    torch.testing.assert_close(traced(noise(3)), scripted(noise(3)))


def test_a_torchscript_file_may_want_a_size_of_its_own(tmp_path):
    extractor = load_extractor(f"torchscript:{save_script(OnlyBatchesOf224(), tmp_path / 'net.pt')}")
    assert extractor.dim == 3


def test_nvidias_inception_is_the_inception_of_2015(tmp_path, monkeypatch):
    path = save_script(LikeNvidia(), tmp_path / "inception-2015-12-05.pt")
    monkeypatch.setattr(torchscript, "NVIDIA_INCEPTION_SHA256", file_sha256(path))
    extractor = load_extractor(f"torchscript:{path}")
    assert (extractor.is_fid, extractor.qualifier) == (True, "")
    assert extractor.resize == "bilinear TF1 to 299, inside the file"


def test_a_file_that_is_no_torchscript(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is not a TorchScript file") as caught:
        load_extractor(f"torchscript:{path}")
    assert "\n" not in str(caught.value)


def test_a_torchscript_file_that_takes_no_uint8_images(tmp_path):
    path = save_script(nn.Conv2d(3, 4, 3), tmp_path / "net.pt")
    with pytest.raises(ValueError, match="must take uint8 images .n, 3, height, width. and return features") as caught:
        load_extractor(f"torchscript:{path}")
    assert "\n" not in str(caught.value)
