"""Batch norm in eval mode is a scale and a shift of each channel: a convolution before it can do them as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sagan.core.layers.conditional_batch_norm import ConditionalBatchNorm2d


@torch.no_grad()
def fold_batch_norm(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.Module) -> nn.Module:
    """Puts the batch norm that follows a convolution into its weight and bias, for good; returns what is left to do
    after it: nothing or, for conditional batch norm, the scale and the shift of each class."""
    plain = norm.norm if isinstance(norm, ConditionalBatchNorm2d) else norm
    if not isinstance(plain, nn.BatchNorm2d):
        return norm  # it is folded already
    scale, shift = _as_scale_and_shift(plain)
    rows = 1 if isinstance(convolution, nn.ConvTranspose2d) else 0
    shape = [1] * convolution.weight.ndim
    shape[rows] = -1
    weight = convolution.weight.double() * scale.reshape(shape)
    bias = torch.zeros_like(shift) if convolution.bias is None else convolution.bias.double() * scale
    convolution.weight = nn.Parameter(weight.float(), requires_grad=False)
    convolution.bias = nn.Parameter((bias + shift).float(), requires_grad=False)
    if not isinstance(norm, ConditionalBatchNorm2d):
        return nn.Identity()
    norm.norm = nn.Identity()
    return norm


def _as_scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What batch norm in eval mode multiplies each channel by, and adds then; float64."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -mean.double() * scale
    return scale, shift + norm.bias.double() if norm.affine else shift
