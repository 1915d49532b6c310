"""Whether something looks at the single operations of a computation, so that they must be plain ones."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch: Any = torch._C._functorch  # torch has no public name for these
_jit: Any = torch.jit


def is_transformed() -> bool:
    """Whether a transform of torch.func, forward-mode differentiation or torch.jit.trace is active."""
    if torch.compiler.is_compiling():
        return False
    if _functorch.peek_interpreter_stack() is not None:
        return True
    return bool(forward_ad._current_level >= 0 or _jit.is_tracing())


def is_batch_of_gradients(grad: Tensor) -> bool:
    """Whether a backward pass is given many gradients at once, as with ``is_grads_batched=True``."""
    return bool(_functorch.is_legacy_batchedtensor(grad) or _functorch.peek_interpreter_stack() is not None)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast is off inside. The meta device has none."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def channels_last(images: Tensor) -> Tensor:
    """Images (batch, channels, h, w) in the memory format that convolutions are fastest in."""
    return images if is_transformed() else images.contiguous(memory_format=torch.channels_last)
