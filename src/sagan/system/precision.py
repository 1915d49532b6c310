"""Switches of the process: full precision for measurements, whatever training sets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from sagan.system.shared import WhileAny


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Plain float32 inside this context: no TF32, no bfloat16 kernels, no autocast, no kernels chosen by their speed.

    The switches affect every thread of the process. They are restored when the last thread leaves the context,
    except one that was set to another value inside.
    """
    with _SWITCHES, torch.autocast(device.type, enabled=False):
        yield


@contextlib.contextmanager
def _switches() -> Iterator[None]:
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    operations = [backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    rounding = [each for each in operations if each.fp32_precision not in ("ieee", "none")]
    wanted: list[tuple[Any, str, str | bool]] = [(each, "fp32_precision", "ieee") for each in rounding]
    wanted += [(cudnn, "benchmark", False), (cudnn, "deterministic", True)]
    former = [getattr(where, name) for where, name, _ in wanted]
    try:
        for where, name, value in wanted:
            setattr(where, name, value)
        yield
    finally:
        for (where, name, value), before in zip(wanted, former, strict=True):
            if getattr(where, name) == value:  # what was set inside to something else stays
                setattr(where, name, before)


_SWITCHES = WhileAny(_switches)
