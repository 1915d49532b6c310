"""What this machine can do at most: matrix products, and moving memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sagan.bench.settings import BenchSettings


@dataclass(frozen=True)
class Ceiling:
    """Something the machine does with nothing in its way, and how much of it one call is."""

    action: Callable[[], object]
    amount: int
    """Operations of a product, two for a multiply and add; bytes read and written of a copy."""


def matmul(settings: BenchSettings) -> Ceiling:
    """A product of two large square matrices in the precision of the step."""
    size = 8192 if settings.on_gpu else 1024 if settings.quick else 2048
    a, b = (torch.randn(size, size, device=settings.device).to(settings.dtype) for _ in range(2))
    out = torch.empty_like(a)
    return Ceiling(lambda: torch.mm(a, b, out=out), 2 * size**3)


def copy(settings: BenchSettings) -> Ceiling:
    """A copy of more memory than any cache holds."""
    size = 2**30 if settings.on_gpu else 2**27 if settings.quick else 2**28  # bytes
    source = torch.zeros(size, dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    return Ceiling(lambda: target.copy_(source), 2 * size)
