"""Detection of NaN and infinite numbers without waiting for the device that computes them."""

from __future__ import annotations

from torch import Tensor

from sagan.system.errors import UserError

CHUNK = 4096  # rows checked at a time, to bound the size of the mask


class FiniteCheck:
    """Counts rows that contain NaN or infinite numbers.

    Reading the count waits for the device. `add` therefore only counts rows on a GPU, and `verify` reads the count once
    for all of them; all other rows are verified by `add` itself.

    sentence: the error, with ``{bad}`` and ``{count}`` for the numbers of bad rows and of all rows.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.bad: Tensor | int = 0
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Adds rows (n, ...), any n. Raises UserError for rows that are not finite, unless they are on a GPU."""
        for some in rows.detach().split(CHUNK):
            self.bad = self.bad + (~some.isfinite()).flatten(1).any(1).sum()
        self.count += len(rows)
        if not rows.is_cuda:
            try:
                self.verify()
            finally:  # rows that were refused are not counted again
                self.bad = self.count = 0

    def verify(self) -> None:
        """Raises UserError unless all rows added since the last success are finite; after a failure, every time."""
        if bad := int(self.bad):
            raise UserError(self.sentence.format(bad=bad, count=self.count))
        self.bad = self.count = 0
