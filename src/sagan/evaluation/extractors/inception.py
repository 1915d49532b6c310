"""The Inception of 2015: only with its published weights is a Fréchet distance called FID."""

from __future__ import annotations

import torch
from torch import Tensor

from sagan.evaluation.extractors.inception_network import FEATURES, SIZE, FidInception
from sagan.evaluation.extractors.interface import FeatureExtractor, Request, for_inference
from sagan.evaluation.extractors.resize import CLEAN, Resize
from sagan.evaluation.extractors.weights import (
    INCEPTION,
    download_weights,
    existing_file,
    find_weights,
    load_weights,
    published_sha256,
    read_weights,
)


def load_inception(request: Request, resize: Resize) -> FeatureExtractor:
    """The Inception of 2015 with the weights of the request, else with a local copy of the published ones, else with
    these downloaded. With other weights its scores are not called FID."""
    if request.weights is not None:
        path = existing_file(request.weights, "weights")
    else:
        path = find_weights(INCEPTION) or download_weights(INCEPTION)
    sha256 = published_sha256(path, INCEPTION)
    with torch.device("meta"):
        network = FidInception()
    load_weights(network, read_weights(path), str(path))
    network = for_inference(network, request.device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        x = resize.apply(images, SIZE).contiguous(memory_format=torch.channels_last)
        features, logits = network(x)
        return features, logits

    published = sha256 == INCEPTION.sha256
    qualifiers = [] if published else [f"(Inception-v3 with weights {sha256[:8]})"]
    qualifiers += ["(clean resize)"] if resize is CLEAN else []
    return FeatureExtractor(
        name=f"inception-{'2015' if published else sha256[:8]}-{resize.name}",
        qualifier=" ".join(qualifiers),
        is_fid=published,
        dim=FEATURES,
        weights_sha256=sha256,
        resize=resize.phrase(SIZE),
        has_logits=True,
        device=request.device,
        forward=forward,
    )


def missing_inception() -> str:
    """What to do where there is no local copy of the weights; empty where there is one."""
    return "" if find_weights(INCEPTION) else INCEPTION.remedy
