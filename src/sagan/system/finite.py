"""Detecting NaN and infinite numbers without waiting for the device that computes them."""

from __future__ import annotations

from torch import Tensor

from sagan.system.errors import UserError

CHUNK = 4096  # rows checked at a time, which bounds the size of the mask


class FiniteCheck:
    """Counts rows that hold a NaN or an infinite number.

    Reading the count waits for the device. So rows on a GPU are only counted by `add`, and `verify` reads the count
    once for all of them; other rows, which are computed at once, are verified by every `add`.

    sentence: the error, in which ``{bad}`` and ``{count}`` stand for the bad rows and for all that were added.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.bad: Tensor | int = 0
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Adds rows (n, ...), any n. Raises UserError where they are not on a GPU and not all finite."""
        for some in rows.detach().split(CHUNK):
            self.bad = self.bad + (~some.isfinite()).flatten(1).any(1).sum()
        self.count += len(rows)
        if not rows.is_cuda:
            try:
                self.verify()
            finally:  # rows that were refused here are not counted again
                self.bad = self.count = 0

    def verify(self) -> None:
        """Raises UserError unless all rows added since the last success were finite; after a failure, every time."""
        if bad := int(self.bad):
            raise UserError(self.sentence.format(bad=bad, count=self.count))
        self.bad = self.count = 0
