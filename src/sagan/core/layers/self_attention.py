"""The attention layer of a GAN: every pixel of a feature map attends to the others through 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sagan.core.attention import Pattern, attend, attention_weights
from sagan.core.attention.inputs import check_pattern
from sagan.core.layers.spectral_norm import SpectralLinear
from sagan.system.errors import UserError


class SelfAttention2d(nn.Module):
    """``gamma * attention(x) + x`` over the pixels of a feature map (Zhang et al., arXiv 1805.08318, section 3).

    Queries and keys have ``channels // qk_ratio`` channels (at least 1), values ``channels``; all three are 1x1
    convolutions with bias, written as one matrix product over pixels. ``gamma`` is a learned scalar that starts at 0,
    so that a fresh layer is the identity. The scores are not scaled, as in the paper. With a pooled pattern keys and
    values are max-pooled, as the paper's own code does.

    Args:
        channels: of the feature map.
        pattern: which keys a query may see, on a map of exactly ``pattern.height`` x ``pattern.width``.
        qk_ratio: by how much queries and keys are narrower than the map.

    Attributes:
        attend: computes the attention of q, k, v and the pattern; another function may be set.
    """

    attend: Callable[[Tensor, Tensor, Tensor, Pattern], Tensor] = staticmethod(attend)

    def __init__(self, channels: int, pattern: Pattern, *, qk_ratio: int = 8):
        super().__init__()
        check_pattern(pattern)
        narrow = max(1, channels // qk_ratio)
        self.pattern = pattern
        self.query = nn.Linear(channels, narrow, dtype=torch.float32)
        self.key = nn.Linear(channels, narrow, dtype=torch.float32)
        self.value = nn.Linear(channels, channels, dtype=torch.float32)
        self.gamma = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, channels, height, width) to the same shape."""
        q, k, v = self.project(x)
        out = self.attended_channels(self.attend(q, k, v, self.pattern))  # (batch, 1, pixels, channels)
        return x + self.gamma * _as_map(out, x.shape[-2:])

    @property
    def dims(self) -> tuple[int, int]:
        """The dim of queries and keys, and that of values."""
        return self.query.out_features, self.value.out_features

    def weights(self, x: Tensor) -> Tensor:
        """The attention weights for a map x, (batch, pixels, keys): dense, so for inspection, not for training."""
        q, k, _ = self.project(x)
        return attention_weights(q, k, self.pattern).squeeze(1)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a map x, each (batch, 1, pixels or pooled pixels, dim)."""
        size = (self.pattern.height, self.pattern.width)
        if tuple(x.shape[-2:]) != size:
            raise UserError(f"this attention layer is for maps of {size}, got {tuple(x.shape[-2:])}")
        layers = (self.query, self.key, self.value)
        weight, bias = self._projection()  # one product, so that the map is read once
        pixels = x.flatten(2).transpose(1, 2)  # (batch, pixels, channels); free when x is channels_last
        q, k, v = F.linear(pixels, weight, bias).split([layer.out_features for layer in layers], dim=-1)
        pool = self.pattern.pool
        if pool > 1:
            k, v = (F.max_pool2d(_as_map(t, size), pool).flatten(2).transpose(1, 2) for t in (k, v))
        return q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)

    def _projection(self) -> tuple[Tensor, Tensor | None]:
        """The weights of query, key and value, stacked, and their biases."""
        layers = (self.query, self.key, self.value)
        return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])

    def attended_channels(self, attended: Tensor) -> Tensor:
        """The output of attention, (batch, 1, pixels, value channels), mapped to the channels of the map."""
        return attended

    def extra_repr(self) -> str:
        return f"{self.pattern.height}x{self.pattern.width}, {self.pattern.label}"


class SpectralSelfAttention2d(SelfAttention2d):
    """The attention layer of the paper's own code: ``gamma * output(attention(x)) + x``.

    Queries and keys have ``channels // qk_ratio`` channels, values ``channels // value_ratio``, and a fourth 1x1
    convolution maps them back to ``channels``. All four are spectrally normalised and have no bias. That code also
    max-pools keys and values 2x2: give it a pattern with ``pool=2``. The paper's text differs: values of C/8 channels,
    and no pooling (section 3).
    """

    query: SpectralLinear
    key: SpectralLinear
    value: SpectralLinear

    def __init__(self, channels: int, pattern: Pattern, *, qk_ratio: int = 8, value_ratio: int = 2):
        nn.Module.__init__(self)
        check_pattern(pattern)
        narrow, middle = max(1, channels // qk_ratio), max(1, channels // value_ratio)
        self.pattern = pattern
        self.query = SpectralLinear(channels, narrow, bias=False)
        self.key = SpectralLinear(channels, narrow, bias=False)
        self.value = SpectralLinear(channels, middle, bias=False)
        self.output = SpectralLinear(middle, channels, bias=False)
        self.gamma = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def _projection(self) -> tuple[Tensor, Tensor | None]:
        return torch.cat([layer.normalized_weight() for layer in (self.query, self.key, self.value)]), None

    def attended_channels(self, attended: Tensor) -> Tensor:
        out: Tensor = self.output(attended)
        return out


def attention_layers(
    channels: Mapping[int, int],
    patterns: Mapping[int, Pattern] | None,
    layer: Callable[[int, Pattern], SelfAttention2d] = SelfAttention2d,
) -> nn.ModuleDict:
    """A network's attention layers by the size of their map; ``channels`` are those of its maps, also by size.

    Raises UserError for a map that the network does not have.
    """
    patterns = patterns or {}
    for size, pattern in patterns.items():
        if size not in channels:
            where = f"{pattern.height}x{pattern.width}"
            raise UserError(f"there is no {where} map to attend on; this network has {sorted(channels)}")
    return nn.ModuleDict({str(size): layer(channels[size], pattern) for size, pattern in patterns.items()})


def _as_map(pixels: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Pixels (batch, [1,] height * width, channels) as a channels_last map (batch, channels, height, width)."""
    return pixels.reshape(pixels.shape[0], *size, pixels.shape[-1]).permute(0, 3, 1, 2)
