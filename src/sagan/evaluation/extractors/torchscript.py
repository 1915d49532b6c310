"""A TorchScript file as an extractor, such as NVIDIA's copy of the Inception of 2015."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sagan.evaluation.extractors import NVIDIA_INCEPTION_SHA256, inception_network
from sagan.evaluation.extractors.interface import FeatureExtractor, Forward, Request
from sagan.evaluation.extractors.resize import TF1
from sagan.evaluation.extractors.weights import existing_file
from sagan.system.errors import UserError, is_out_of_memory
from sagan.system.files import file_sha256
from sagan.system.precision import full_precision

PROBES = ((64, 64), (224, 224), (299, 299))  # image sizes with which a file is tried


def load_torchscript(request: Request) -> FeatureExtractor:
    """A TorchScript file that takes uint8 (n, 3, height, width), resizes by itself and returns features (n, dim).

    Loading and calling it run the code in the file: it must be one that a person named and trusts.

    A file whose forward has an argument ``return_features``, as NVIDIA's Inception has, is called with it set to True.
    """
    path = existing_file(Path(request.argument), "torchscript:FILE")
    try:
        network = torch.jit.load(str(path), map_location=request.device).eval()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        first_line = str(error).splitlines()[0]
        raise UserError(f"{path} is not a TorchScript file, or is truncated ({first_line})") from error
    arguments = {argument.name for argument in network.forward.schema.arguments}
    options = {"return_features": True} if "return_features" in arguments else {}

    def forward(images: Tensor) -> tuple[Tensor, None]:
        return network(images, **options).flatten(1), None

    sha256 = file_sha256(path)
    nvidia = sha256 == NVIDIA_INCEPTION_SHA256
    return FeatureExtractor(
        name=f"torchscript-{sha256[:8]}",
        qualifier="" if nvidia else f"(TorchScript {path.stem}, {sha256[:8]})",
        is_fid=nvidia,
        dim=probe_dim(forward, path, request.device),
        weights_sha256=sha256,
        resize=f"{TF1.phrase(inception_network.SIZE)}, inside the file" if nvidia else "inside the file",
        has_logits=False,
        device=request.device,
        forward=forward,
    )


def probe_dim(forward: Forward, path: Path, device: torch.device) -> int:
    """The length of the file's feature vectors. Raises UserError where it takes no uint8 images of any size in
    ``PROBES``."""
    reason = ""
    for height, width in PROBES:
        images = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
        try:
            with torch.inference_mode(), full_precision(device):
                return forward(images)[0].shape[1]
        except Exception as error:  # whatever the code in the file raises
            if is_out_of_memory(error):
                raise
            reason = reason or (str(error).strip().splitlines() or [type(error).__name__])[-1]
    raise UserError(f"{path} must take uint8 images (n, 3, height, width) and return features (n, dim): {reason}")
