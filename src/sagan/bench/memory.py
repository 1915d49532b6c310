"""The bytes that tensors hold and that autograd saves, counted while torch runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HeldBytes(TorchDispatchMode):
    """Counts bytes inside ``with HeldBytes() as held``; works on real tensors and on fake ones, which take no memory.

    ``now`` and ``peak``: bytes in the storages of the tensors made inside, at present and at most. The workspaces of
    kernels are not tensors and are not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._storages: dict[int, tuple[weakref.ref[Any], int]] = {}

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that were made before."""
        for tensor in tensors:
            self._see(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._storages:
            self._storages[key] = weakref.ref(storage, partial(self._forget, key)), 0
        reference, counted = self._storages[key]
        if storage.nbytes() != counted:  # new, or resized
            self._storages[key] = reference, storage.nbytes()
            self.now += storage.nbytes() - counted
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, reference: weakref.ref[Any]) -> None:
        self.now -= self._storages.pop(key)[1]


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts in ``total`` the bytes saved for backward passes inside: each storage once, those of ``without`` not."""

    def __init__(self, without: Iterable[Tensor]) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.total = 0
        self._without = {id(tensor.untyped_storage()) for tensor in without}
        self._alive: dict[int, weakref.ref[Any]] = {}

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._without and key not in self._alive:
            self._alive[key] = weakref.ref(storage, lambda _: self._alive.pop(key))
            self.total += storage.nbytes()
        return tensor


def peak_memory(action: Callable[[], object], device: torch.device, existing: Iterable[Tensor] = ()) -> int:
    """The most bytes that tensors hold while the action runs, including the ``existing`` ones.

    On CUDA the allocator reports it, for the whole device; elsewhere `HeldBytes` counts, which slows the action.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        torch.cuda.synchronize(device)
        allocated: int = torch.cuda.max_memory_allocated(device)
        return allocated
    held = HeldBytes()
    with held:
        held.add(existing)
        action()
    return held.peak
