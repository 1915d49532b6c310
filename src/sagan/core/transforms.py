"""Who looks at a computation: whether its operations must be plain ones, and whether its numbers may be looked at."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_torch: Any = torch._C  # torch has no public name for these
_functorch: Any = torch._C._functorch
_RECORDERS = tuple(getattr(_torch._TorchDispatchModeKey, name) for name in ("FAKE", "PROXY", "FUNCTIONAL"))
_PLAIN: Any = Tensor.__torch_dispatch__


def is_transformed(grad: Tensor | None = None) -> bool:
    """Whether something needs a rule for every operation, as only torch's own have: a transform of torch.func,
    forward-mode differentiation, torch.jit.trace, or ``grad`` being a batch of gradients."""
    if torch.compiler.is_compiling():
        return False
    if _functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0 or _torch._is_tracing():
        return True
    return grad is not None and bool(_functorch.is_legacy_batchedtensor(grad))


def may_read(x: Tensor) -> bool:
    """Whether code may look at the numbers of a tensor, and keep what it makes of them: not while operations are
    recorded, compiled or transformed, and not if x is fake or on the meta device, without numbers."""
    if torch.compiler.is_compiling() or x.is_meta or is_transformed(x):
        return False
    if type(x).__torch_dispatch__ is not _PLAIN:  # a subclass that answers operations itself, as fake tensors do
        return False
    if torch._ops._len_torch_dispatch_stack_pre_dispatch():
        return False
    recorded = _torch._len_torch_dispatch_stack() and any(map(_torch._get_dispatch_mode, _RECORDERS))
    return not recorded


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Autocast is off inside. The meta device has none."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def channels_last(images: Tensor) -> Tensor:
    """Images (batch, channels, h, w) in the memory format that convolutions are fastest in."""
    return images if is_transformed() else images.contiguous(memory_format=torch.channels_last)
