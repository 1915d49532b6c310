"""Noticing numbers that are NaN or infinite without stopping the device that made them."""

from __future__ import annotations

from torch import Tensor

from sagan.system.errors import UserError

CHUNK = 4096  # rows looked at together, so that no mask as large as all of them is made


class FiniteCheck:
    """Counts rows that hold a NaN or an infinite number.

    To look at the count is to wait for the device. So on a GPU only `look` does that, once for all that was added;
    elsewhere, where nothing runs ahead, every `add` does.

    sentence: the error, in which ``{bad}`` and ``{count}`` stand for the bad rows and for all that were looked at.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.bad: Tensor | int = 0
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Adds rows (n, ...), any n. UserError where they are not on a GPU and not all finite."""
        for some in rows.detach().split(CHUNK):
            self.bad = self.bad + (~some.isfinite()).flatten(1).any(1).sum()
        self.count += len(rows)
        if not rows.is_cuda:
            try:
                self.look()
            finally:  # the rows refused here go no further
                self.bad = self.count = 0

    def look(self) -> None:
        """UserError unless all rows since the last look were finite; once they were not, at every look."""
        if bad := int(self.bad):
            raise UserError(self.sentence.format(bad=bad, count=self.count))
        self.bad = self.count = 0
