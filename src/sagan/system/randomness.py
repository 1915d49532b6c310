"""The one rule for seeds: every random number is a function of (seed, purpose, step).

No stream is carried from one step to the next, so there is no random state to save: a run resumed at step 1000 draws at
step 1001 the same numbers as a run that never stopped. They are drawn on the CPU, whatever device the run uses.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, purpose: str, step: int = 0) -> int:
    """The 63-bit seed of one stream: a hash, so that successive steps and similar purposes are unrelated."""
    key = f"{seed}/{purpose}/0/{step}".encode()  # the 0 was once a rank; it keeps the bits of older runs
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A new CPU generator for one purpose at one step, such as ``generator(0, "z", step=12)``."""
    return torch.Generator("cpu").manual_seed(derived_seed(seed, purpose, step))


def latents(seed: int, purpose: str, count: int, dim: int, *, step: int = 0) -> torch.Tensor:
    """``count`` standard normal latent vectors z, shape (count, dim), float32, on the CPU."""
    return normal((count, dim), generator(seed, purpose, step))


# Every draw gives its dtype and device, so that torch's defaults do not affect it.


def normal(shape: tuple[int, ...], draw: torch.Generator) -> torch.Tensor:
    """Standard normal numbers, float32, on the CPU."""
    return torch.randn(shape, generator=draw, dtype=torch.float32, device="cpu")


def uniform(shape: tuple[int, ...], draw: torch.Generator) -> torch.Tensor:
    """Uniform numbers from 0 to 1, float32, on the CPU."""
    return torch.rand(shape, generator=draw, dtype=torch.float32, device="cpu")


def integers(below: int, count: int, draw: torch.Generator) -> torch.Tensor:
    """Numbers from 0 to ``below`` - 1, int64 (count,), on the CPU."""
    return torch.randint(below, (count,), generator=draw, dtype=torch.int64, device="cpu")


def order(count: int, draw: torch.Generator) -> torch.Tensor:
    """The numbers 0 to count - 1 in random order, int64, on the CPU."""
    return torch.randperm(count, generator=draw, dtype=torch.int64, device="cpu")
