"""Switches of the process: full precision for measurements, whatever training sets, and torch's default dtype."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from sagan.system.shared import WhileAny


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Plain float32 inside this context: no TF32, no bfloat16 kernels, no autocast, no kernels chosen by their speed.

    The switches affect every thread of the process. They are restored when the last thread leaves the context.
    """
    with _SWITCHES, torch.autocast(device.type, enabled=False):
        yield


@contextlib.contextmanager
def _switches() -> Iterator[None]:
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    operations = [backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    rounding = [(each, each.fp32_precision) for each in operations if each.fp32_precision not in ("ieee", "none")]
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    try:
        for operation, _ in rounding:
            operation.fp32_precision = "ieee"
        cudnn.benchmark, cudnn.deterministic = False, True
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        for operation, precision in rounding:
            operation.fp32_precision = precision


_SWITCHES = WhileAny(_switches)


@contextlib.contextmanager
def _float32_default() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


plain_default_dtype = WhileAny(_float32_default)
"""Inside this context torch's default dtype is float32, whatever it was set to."""
