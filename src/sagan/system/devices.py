"""The device that a program computes on, and sending tensors there without waiting."""

from __future__ import annotations

import torch
from torch import Tensor

from sagan.system.errors import UserError
from sagan.system.world import announced, local_rank


def choose_device(name: str) -> torch.device:
    """The device named ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; of several processes on one machine, each
    gets a GPU of its own, as far as there are enough. Raises UserError if it is not available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"  # never mps, which is untested
    several = announced()[1] > 1
    if several and name.startswith("cuda:"):
        raise UserError(f"`device` must be cuda for several processes, which then have a GPU each, got {name}")
    try:
        device = torch.device(name)
        if several and device.type == "cuda" and (found := torch.cuda.device_count()):
            torch.cuda.set_device(local_rank() % found)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name} cannot be used here: {str(error).splitlines()[0]}") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"`device` must be auto, cpu, cuda, cuda:1 (or another number) or mps, got {name!r}")
    return device


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether the device has no instructions for bfloat16, so that it is slower than float32: an x86 processor without
    AVX-512."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on ``device``. It goes to a GPU through pinned memory, so that the program does not wait for the GPU
    and may run several steps ahead."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
