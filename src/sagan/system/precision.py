"""One way of rounding: what is measured must not depend on the switches that a training run turned on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Plain float32 in here: no TF32, no bfloat16 kernels, no autocast, no choice of kernels by their speed.

    The switches belong to the process, so another thread that computes meanwhile has them too; they are put back.
    """
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    operations = [backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    rounding = [(each, each.fp32_precision) for each in operations if each.fp32_precision not in ("ieee", "none")]
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    try:
        for operation, _ in rounding:
            operation.fp32_precision = "ieee"
        cudnn.benchmark, cudnn.deterministic = False, True
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        for operation, precision in rounding:
            operation.fp32_precision = precision
