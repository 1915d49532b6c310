"""The device a program computes on, and bringing numbers there without waiting."""

from __future__ import annotations

import torch
from torch import Tensor

from sagan.system.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device meant by ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; UserError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"  # mps by its name only: it has never been tried
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are computed there without instructions for them, slower than in float32: on an
    x86 processor without AVX-512."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on ``device``. To a GPU it goes through pinned memory, so that the program need not wait for what
    the GPU still has to do: it may run ahead by several steps."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
