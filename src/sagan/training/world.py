"""Which of the processes that train a run together this one is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sagan.system.errors import UserError


@dataclass(frozen=True)
class World:
    """Process ``rank`` of the ``size`` processes that train one run.

    Batches, z and every random number are drawn for the whole batch, from (seed, purpose, step), and each process takes
    its `part` of them: what is drawn does not depend on the number of processes.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise UserError(f"rank must be at least 0 and less than size, got rank {self.rank} of {self.size}")

    def part(self, batch_size: int) -> slice:
        """This process's part of a whole batch. Raises UserError if the batch cannot be divided evenly."""
        if batch_size % self.size:
            raise UserError(
                f"batch_size must be a multiple of the number of processes, got {batch_size} for {self.size}"
            )
        own = batch_size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def reduce(self, network: nn.Module, measured: dict[str, Tensor]) -> None:
        """Replaces the gradient of a network's parameters, and what was measured, by those of the whole batch.

        Both are means over this process's part of the batch, so this is the mean over the processes.
        """
        assert self.size == 1, "gradients are not yet reduced over several processes"


SINGLE_PROCESS = World()
