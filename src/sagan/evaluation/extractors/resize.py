"""Images to the size an extractor wants, by two exact definitions: another resize is another score.

Both stretch an image of another aspect ratio and keep grey levels as real numbers: no rounding, no clipping.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CUBIC = -0.5  # the free parameter of the cubic convolution kernel, as in Pillow


@dataclass(frozen=True)
class Resize:
    """One way to resize, the word for it in an extractor's name, and the words for it on a card."""

    name: str
    words: str
    apply: Callable[[Tensor, tuple[int, int]], Tensor]

    def phrase(self, size: tuple[int, int]) -> str:
        """For the card, such as "bilinear TF1 to 299"."""
        height, width = size
        return f"{self.words} to {height}" if height == width else f"{self.words} to {height}x{width}"


def resize_tf1(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear as TensorFlow 1 does it, with which the published FIDs were made.

    Output pixel i looks at input position ``i * in / out``: corners are not aligned, half pixels not counted, nothing
    is antialiased. In float32, in TensorFlow's order of operations (``compute_lerp`` in its resize_bilinear_op.cc).
    Takes (n, channels, height, width) of any real dtype; returns float32 (n, channels, *size).
    """
    images = images.float()
    left, right, across = _neighbours(images.shape[3], size[1], images.device)
    images = _blend(images[..., left], images[..., right], across)
    above, below, down = _neighbours(images.shape[2], size[0], images.device)
    return _blend(images[..., above, :], images[..., below, :], down[:, None])


def resize_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic with antialiasing, equal to Pillow's on an image of mode F, which is clean-fid's resize.

    The cubic convolution kernel (a = -0.5), widened by in / out where the image shrinks, cut at the border and
    normalised to sum 1. Like Pillow's, it goes below 0 and above 255 beside edges. Takes (n, channels, height, width)
    of any real dtype; returns float32 (n, channels, *size), within 1e-3 grey levels of Pillow's.
    """
    height, width = images.shape[2:]
    across, down = _weights(width, size[1], images.device), _weights(height, size[0], images.device)
    return down @ (images.float() @ across.T)


@functools.lru_cache(maxsize=16)  # otherwise every batch would copy them to its device and wait
@torch.inference_mode(False)
def _weights(length: int, new_length: int, device: torch.device) -> Tensor:
    return bicubic_weights(length, new_length).float().to(device)


def bicubic_weights(length: int, new_length: int) -> Tensor:
    """The weight of each old pixel in each new one along one axis: float64 (new_length, length)."""
    scale = length / new_length
    widened = max(scale, 1.0)
    centres = (torch.arange(new_length, dtype=torch.float64) + 0.5) * scale
    pixels = torch.arange(length, dtype=torch.float64) + 0.5
    weights = cubic_kernel((pixels - centres[:, None]) / widened)
    return weights / weights.sum(1, keepdim=True)


def cubic_kernel(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (IEEE ASSP 29, 1981): 1 at distance 0, 0 at 1 and from 2 on."""
    x = distance.abs()
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x**2 + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _neighbours(length: int, new_length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each new pixel along one axis: the old pixels on either side, and how far it lies from the first."""
    scale = torch.tensor(length / new_length, dtype=torch.float32, device=device)
    positions = torch.arange(new_length, dtype=torch.float32, device=device) * scale
    first = positions.long()
    return first, (first + 1).clamp(max=length - 1), positions - first


def _blend(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + (b - a) * share


TF1 = Resize("tf1", "bilinear TF1", resize_tf1)
CLEAN = Resize("clean", "bicubic antialiased", resize_bicubic)
