"""Any network of the timm package as an extractor."""

from __future__ import annotations

import torch
from torch import Tensor

from sagan.evaluation.extractors.interface import (
    FeatureExtractor,
    Request,
    for_inference,
    required_module,
)
from sagan.evaluation.extractors.resize import CLEAN
from sagan.evaluation.extractors.weights import existing_file, load_weights, read_weights, tensors_sha256
from sagan.system.errors import UserError
from sagan.system.files import file_sha256
from sagan.system.precision import full_precision


def load_timm(request: Request) -> FeatureExtractor:
    """A network of the timm package, with its pretrained weights or those in a file.

    The features are the input of its classifier. The whole image is resized to the network's own size, bicubic and
    antialiased, and normalised by the network's own mean and standard deviation. The file is read here and not by timm,
    whose older versions run code in it.
    """
    timm, data = (required_module(name, "pip install timm") for name in ("timm", "timm.data"))
    weights = existing_file(request.weights, "weights") if request.weights else None
    try:
        network = timm.create_model(request.argument, pretrained=weights is None, checkpoint_path="")
    except Exception as error:  # an unknown name, a failed download
        raise UserError(f"timm could not make {request.argument!r}: {error}") from error
    if weights:
        load_weights(network, read_weights(weights), str(weights))
    sha256 = file_sha256(weights) if weights else tensors_sha256(network.state_dict())
    settings = data.resolve_model_data_config(network)
    network = for_inference(network, request.device)
    height, width = settings["input_size"][1:]
    mean, deviation = (255 * torch.tensor(settings[key]).view(3, 1, 1).to(request.device) for key in ("mean", "std"))

    def forward(images: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = network.forward_features((CLEAN.apply(images, (height, width)) - mean) / deviation)
        logits = network.forward_head(maps) if network.num_classes else None
        return network.forward_head(maps, pre_logits=True).flatten(1), logits

    with torch.inference_mode(), full_precision(request.device):
        probe = forward(torch.zeros(1, 3, height, width, dtype=torch.uint8, device=request.device))[0]
    return FeatureExtractor(
        name=f"timm-{request.argument}-{sha256[:8]}",
        qualifier=f"(timm {request.argument})",
        dim=probe.shape[1],
        weights_sha256=sha256,
        resize=CLEAN.phrase((height, width)),
        has_logits=bool(network.num_classes),
        device=request.device,
        forward=forward,
    )
