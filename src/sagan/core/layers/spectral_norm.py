"""Spectral norm: a layer's weight divided by its largest singular value (Miyato et al., arXiv 1802.05957).

The estimate of the singular vectors, ``u`` and ``v``, is kept in two buffers. Only `power_iterate` updates it, which a
training step calls once, before it uses the network; a forward pass reads it and changes nothing. So a forward pass is
a function of its input and the state dict, in training as in evaluation, and the gradient of ``sigma = u^T W v`` is
that of the very estimate that the forward pass used.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagan.core.transforms import without_autocast

NormAxis = Literal["output", "input"]

_STARTING_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """What the normalised layers below share; mixed in before a torch layer that has a ``weight``."""

    weight: Any  # torch's layers declare it, with different types
    u: Tensor
    v: Tensor
    row_dim: int  # the dimension of the weight that becomes the rows of the matrix
    folded = False  # whether the weight is normalised for good

    def _start_spectral_norm(self, row_dim: int) -> None:
        self.row_dim = row_dim
        rows, columns = self.weight_matrix().shape
        u, v = torch.randn(rows, dtype=torch.float32), torch.randn(columns, dtype=torch.float32)
        if not u.is_meta:
            u, v = F.normalize(u, dim=0), F.normalize(v, dim=0)
        self.register_buffer("u", u)
        self.register_buffer("v", v)
        self.restart()

    def restart(self) -> None:
        """Runs enough power iterations for a new weight, as after another initialisation."""
        if not self.weight.is_meta:  # a tensor without data has no norm
            self.power_iterate(_STARTING_ITERATIONS)

    def weight_matrix(self) -> Tensor:
        """The weight as the matrix whose singular value is estimated, (rows, everything else)."""
        matrix: Tensor = self.weight.transpose(0, self.row_dim).flatten(1)
        return matrix

    @torch.no_grad()
    def power_iterate(self, iterations: int = 1) -> None:
        """Moves ``u`` and ``v`` towards the leading singular vectors of the current weight."""
        matrix = self.weight_matrix()
        for _ in range(iterations):
            torch.mv(matrix.T, self.u, out=self.v)
            self.v.div_(self.v.norm().clamp_min_(1e-12))
            torch.mv(matrix, self.v, out=self.u)
            self.u.div_(self.u.norm().clamp_min_(1e-12))

    def sigma(self) -> Tensor:
        """The estimated largest singular value, a scalar; differentiable in the weight, constant in ``u`` and ``v``."""
        return torch.dot(self.u, torch.mv(self.weight_matrix(), self.v))

    def normalized_weight(self) -> Tensor:
        """The weight the layer applies, ``weight / sigma``; in the weight's own precision even under autocast."""
        if self.folded:
            own: Tensor = self.weight
            return own
        with without_autocast(self.weight.device):
            weight: Tensor = self.weight / self.sigma()
        return weight

    @torch.no_grad()
    def fold(self) -> None:
        """Makes the weight that the layer applies its weight, for good: it is a plain layer then, without ``u`` and
        ``v``, and no longer for training."""
        if not self.folded:
            self.weight = nn.Parameter(self.normalized_weight(), requires_grad=False)
            self.folded = True
            del self.u, self.v


class SpectralConv2d(SpectralNorm, nn.Conv2d):
    """`torch.nn.Conv2d` with its weight spectrally normalised; ``u`` has one entry per output channel."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0):
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, dtype=torch.float32)
        self._start_spectral_norm(row_dim=0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, self.normalized_weight(), self.bias)
        return out


class SpectralConvTranspose2d(SpectralNorm, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` with its weight spectrally normalised.

    ``norm_axis="output"`` takes the output channels as the rows of the matrix, as torch's own spectral norm and the
    paper's code do; ``"input"`` takes the input channels, as the published program does (its checkpoints need it).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int = 0,
        norm_axis: NormAxis = "output",
    ):
        nn.ConvTranspose2d.__init__(self, in_channels, out_channels, kernel_size, stride, padding, dtype=torch.float32)
        self._start_spectral_norm(row_dim=1 if norm_axis == "output" else 0)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no output_size: the padding decides it
        return F.conv_transpose2d(x, self.normalized_weight(), self.bias, self.stride, self.padding)  # type: ignore[arg-type]


class SpectralLinear(SpectralNorm, nn.Linear):
    """`torch.nn.Linear` with its weight spectrally normalised; ``u`` has one entry per output feature."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True):
        nn.Linear.__init__(self, in_features, out_features, bias, dtype=torch.float32)
        self._start_spectral_norm(row_dim=0)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalized_weight(), self.bias)


class SpectralEmbedding(SpectralNorm, nn.Embedding):
    """`torch.nn.Embedding` with its table spectrally normalised as one matrix; ``u`` has one entry per class."""

    def __init__(self, num_embeddings: int, embedding_dim: int):
        nn.Embedding.__init__(self, num_embeddings, embedding_dim, dtype=torch.float32)
        self._start_spectral_norm(row_dim=0)

    def forward(self, labels: Tensor) -> Tensor:
        return F.embedding(labels, self.normalized_weight())


def spectral_layers(network: nn.Module) -> list[SpectralNorm]:
    """The spectrally normalised layers of a network."""
    return [module for module in network.modules() if isinstance(module, SpectralNorm)]


def power_iterate(network: nn.Module, iterations: int = 1) -> None:
    """One power iteration (or several) in every spectrally normalised layer of a network."""
    for layer in spectral_layers(network):
        layer.power_iterate(iterations)
