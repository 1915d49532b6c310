"""Conditional batch norm: a scale and a shift for each class (Dumoulin et al., arXiv 1610.07629)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm over the whole batch, whatever its classes, then the scale and the shift of each image's class.

    The statistics are those of a plain `torch.nn.BatchNorm2d` inside, ``norm``: all classes share them, and code that
    measures or freezes batch norm's statistics finds it there. Scales start at 1, shifts at 0. With ``num_classes`` 0
    it is plain batch norm, with one scale and one shift. The paper's code updates the running statistics with momentum
    0.001; here it is torch's 0.1, as samples are drawn with statistics that are measured separately.
    """

    def __init__(self, channels: int, num_classes: int = 0):
        super().__init__()
        self.num_classes = num_classes
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(channels, affine=num_classes == 0, dtype=torch.float32)
        if num_classes:
            self.weight = nn.Parameter(torch.ones(num_classes, channels, dtype=torch.float32))
            self.bias = nn.Parameter(torch.zeros(num_classes, channels, dtype=torch.float32))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (batch, channels, height, width) and labels int64 (batch,), or None if unconditional, to x's shape."""
        normed: Tensor = self.norm(x)
        if not self.num_classes:
            return normed
        assert labels is not None
        weight, bias = (
            F.embedding(labels, table).to(normed.dtype)[:, :, None, None] for table in (self.weight, self.bias)
        )
        return torch.addcmul(bias, normed, weight)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}"
