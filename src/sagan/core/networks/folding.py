"""Networks for use alone: what training needs is computed into the weights once."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from sagan.core.layers.residual import UpBlock
from sagan.core.layers.spectral_norm import spectral_layers
from sagan.core.networks.dcgan import Stage

N = TypeVar("N", bound=nn.Module)


def folded(network: N) -> N:
    """A copy of a generator or discriminator in eval mode, whose weights hold the spectral norms and each batch norm
    that follows a convolution. It computes the same up to rounding, and cannot be trained."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for layer in spectral_layers(network):
        layer.fold()
    for module in network.modules():
        if isinstance(module, (UpBlock, Stage)):
            module.fold()
    return network
