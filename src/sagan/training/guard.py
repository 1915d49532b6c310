"""Noticing that a run has gone wrong, before anything of it is written over what was right."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn


class Diverged(ValueError):
    """A loss or a weight is no longer a number; the message says where the last good state is."""


class FiniteWatch:
    """Notices a loss or a weight that is not a number, at the latest before anything is written.

    The losses of every step are kept on their device until they are looked at, so that watching does not stop a GPU.

    Args:
        networks: what must stay finite, by name: parameters and buffers.
        checkpoint: where the last good state is, for the message.
        saved: its step; 0 when there is none. The loop moves it when it saves.
    """

    def __init__(self, networks: dict[str, nn.Module], checkpoint: Path, saved: int):
        self.networks, self.checkpoint, self.saved = networks, checkpoint, saved
        self.unseen: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, step: int, measured: dict[str, Tensor]) -> None:
        """Keeps a step's losses for the next `check`."""
        self.unseen.append((step, measured))

    def check(self) -> None:
        """Raises `Diverged`, naming the first step and value that went wrong, unless all is finite.

        Looks only when there was a step since it last looked.
        """
        if not self.unseen:
            return
        for step, measured in self.unseen:
            for name, value in measured.items():
                if not math.isfinite(value):
                    raise self._diverged(f"{name} is {float(value)} at step {step:,}")
        for name, network in self.networks.items():
            if not all_finite(network):
                raise self._diverged(f"the {name}'s weights are no longer numbers after step {self.unseen[-1][0]:,}")
        self.unseen.clear()

    def _diverged(self, what: str) -> Diverged:
        kept = (
            f"the last good state, step {self.saved:,}, is in {self.checkpoint}" if self.saved else "nothing was saved"
        )
        return Diverged(
            f"{what}: training has diverged and was stopped; {kept if self.saved else 'nothing was saved yet'}. "
            "The usual cure is a new run with lower learning rates (--g_lr, --d_lr)"
        )


def all_finite(network: nn.Module) -> bool:
    """Whether every parameter and floating-point buffer of a network is finite; waits for its device once."""
    tensors = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
    largest = torch.stack(torch._foreach_norm(tensors, ord=math.inf))  # NaN and infinity come through
    return bool(largest.isfinite().all())
