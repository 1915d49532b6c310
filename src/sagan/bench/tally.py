"""Counting what torch does while it does it: operations, bytes held, bytes saved for the backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Tally(TorchDispatchMode):
    """Counts inside ``with Tally() as tally``; works on real tensors and on fake ones, which hold no memory.

    ``operations``: of matrix products and convolutions, forward and backward, two for a multiply and add, by torch's
    own formulas. ``held`` and ``peak``: bytes in the storages of the tensors made inside, now and at most. What a
    kernel takes and gives back while it works is not a tensor and is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: int = 0
        self.held: int = 0
        self.peak: int = 0
        self._storages: dict[int, tuple[weakref.ref[Any], int]] = {}

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that were there before."""
        for tensor in tensors:
            self._see(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.operations += count(*args, **(kwargs or {}), out_val=out)
        self.hold(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._storages:
            self._storages[key] = weakref.ref(storage, partial(self._forget, key)), 0
        reference, counted = self._storages[key]
        if storage.nbytes() != counted:  # new, or resized
            self._storages[key] = reference, storage.nbytes()
            self.held += storage.nbytes() - counted
            self.peak = max(self.peak, self.held)

    def _forget(self, key: int, reference: weakref.ref[Any]) -> None:
        self.held -= self._storages.pop(key)[1]


class Saved(torch.autograd.graph.saved_tensors_hooks):
    """Counts, in ``bytes``, what is saved for backward passes inside; one storage once, ``without`` some tensors."""

    def __init__(self, without: Iterable[Tensor]) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self.bytes = 0
        self._without = {id(tensor.untyped_storage()) for tensor in without}
        self._alive: dict[int, weakref.ref[Any]] = {}

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._without and key not in self._alive:
            self._alive[key] = weakref.ref(storage, lambda _: self._alive.pop(key))
            self.bytes += storage.nbytes()
        return tensor


def peak_memory(action: Callable[[], object], device: torch.device, held: Iterable[Tensor] = ()) -> int:
    """The most bytes that tensors take while the action runs, those ``held`` before among them.

    On CUDA the allocator says it, everything on the device included; elsewhere `Tally` counts, which slows the action.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        torch.cuda.synchronize(device)
        allocated: int = torch.cuda.max_memory_allocated(device)
        return allocated
    tally = Tally()
    with tally:
        tally.hold(held)
        action()
    return tally.peak
