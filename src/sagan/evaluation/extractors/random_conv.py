"""A small network of fixed random weights as an extractor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sagan.evaluation.extractors.interface import FeatureExtractor, Request, for_inference
from sagan.evaluation.extractors.weights import tensors_sha256


def load_random_conv(request: Request) -> FeatureExtractor:
    """A small network of fixed random weights, for tests and first tries: its distances say little about images."""
    with torch.device("meta"):  # where creating a layer draws no random numbers
        body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        network = nn.ModuleDict({"body": body, "head": nn.Linear(64, 10)}).to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        nn.init.normal_(parameter, std=math.sqrt(2 / fan_in), generator=draw)
    sha256 = tensors_sha256(network.state_dict())
    network = for_inference(network, request.device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        features = network["body"]((images.float() - 127.5) / 127.5).mean((2, 3))
        return features, network["head"](features)

    return FeatureExtractor(
        name="random-conv",
        qualifier="(random-conv)",
        dim=64,
        weights_sha256=sha256,
        resize="none",
        has_logits=True,
        device=request.device,
        forward=forward,
    )
