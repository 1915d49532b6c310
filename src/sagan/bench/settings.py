"""What to measure, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from sagan.run.config import Config, Span, override

Result = dict[str, Any]  # JSON-ready; "notes" are sentences
Rows = list[list[str]]  # of a table; the first row holds its headings


@dataclass(frozen=True)
class BenchSettings:
    """The step and the attention to measure, and how thoroughly."""

    device: torch.device
    imsize: int = 64
    batch_size: int = 64
    span: Span = 3
    precision: Literal["fp32", "bf16"] = "fp32"
    extractor: str | None = None
    quick: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def config(self) -> Config:
        """The published run of this size."""
        names = "imsize", "batch_size", "span", "precision"
        return override(Config(), {name: getattr(self, name) for name in names})
