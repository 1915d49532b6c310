"""Open files that several threads and processes share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Handle = TypeVar("Handle")


class PerProcess(Generic[Handle]):
    """A handle opened at first use in each process: it survives fork and pickling, which an open file does not."""

    def __init__(self, opener: Callable[[], Handle]) -> None:
        self.opener = opener
        self.lock = threading.Lock()
        self.held: tuple[int, Handle] | None = None

    def get(self) -> Handle:
        held = self.held
        if held is None or held[0] != os.getpid():
            with self.lock:
                if self.held is None or self.held[0] != os.getpid():
                    self.held = (os.getpid(), self.opener())
                held = self.held
        return held[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self.opener,)
