"""What a feature extractor is: images to the vectors that Fréchet distance, KID and the other metrics compare."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sagan.system.devices import send
from sagan.system.errors import UserError
from sagan.system.precision import full_precision

Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureExtractor:
    """Gives the features of uint8 images.

    Every extractor resizes images by its own exact definition and computes in full float32, in batches of its own size,
    whatever precision the caller has switched on.
    """

    name: str
    """On every card; other weights or another resize is another name."""
    qualifier: str
    """Ends the label of every score, such as "(EfficientNet-Lite0)"; empty for the FID of papers."""
    is_fid: bool = False
    """Whether a Fréchet distance on these features is called FID: on the Inception of 2015 with its published weights,
    and on nothing else."""
    dim: int
    """Numbers in one feature vector."""
    weights_sha256: str | None
    """Of the weights' file, or of the tensors where they have no file."""
    resize: str
    """For the card, such as "bilinear TF1 to 299"."""
    has_logits: bool
    """Whether the network classifies, as the inception score needs."""
    device: torch.device
    """Where features are computed and returned."""
    forward: Forward
    """Takes a uint8 batch on ``device`` and gives its features and logits."""
    batch_size: int = 32
    """Images in one pass through the network, whatever the number given."""

    def __call__(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) uint8 on any device to (n, dim) float32 on ``device``."""
        return self.with_logits(images)[0]

    def with_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features and, from the same pass, the logits (n, classes) float32 if the network has them."""
        check_images(images)
        with torch.inference_mode(), full_precision(self.device):
            parts = [self.forward(self._fetch(batch)) for batch in images.split(self.batch_size)]
        features = torch.cat([part.float() for part, _ in parts])  # outside inference mode: callers may change it
        logits = [part.float() for _, part in parts if part is not None]
        return features, torch.cat(logits) if logits else None

    def _fetch(self, batch: Tensor) -> Tensor:
        return send(batch, self.device) if batch.device.type == "cpu" else batch.to(self.device)


def check_images(images: Tensor) -> None:
    """Raises UserError unless these are one or more colour images, (n, 3, height, width) uint8."""
    shape = tuple(images.shape)
    if images.ndim != 4:
        raise UserError(f"images must have 4 dimensions (n, 3, height, width), got shape {shape}")
    if shape[1] == 1:
        raise UserError(f"images must have 3 channels, got grey images of shape {shape}: repeat the channel 3 times")
    if shape[1] != 3:
        raise UserError(f"images must have 3 channels (n, 3, height, width), got shape {shape}")
    if 0 in shape:
        raise UserError(f"images must be one or more, of one or more pixels, got shape {shape}")
    if images.dtype != torch.uint8:
        raise UserError(
            f"images must be uint8, 0 to 255, got {images.dtype}: round them first, as saving a picture does, for real"
            " and generated images alike"
        )


# ---- for the functions that load one


@dataclass(frozen=True)
class Request:
    """What was asked for: the text after the colon of the name, a weights file, a device."""

    argument: str
    weights: Path | None
    device: torch.device


def required_module(name: str, remedy: str) -> ModuleType:
    """The imported module. Raises UserError, with the remedy, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"this extractor needs the package {name.split('.')[0]}: {remedy}") from error


def for_inference(network: Any, device: torch.device) -> Any:
    """The network in eval mode, without gradients, on ``device``; channels last, the fastest layout on a CPU."""
    return network.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
