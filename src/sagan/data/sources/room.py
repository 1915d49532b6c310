"""Memory for images that several threads decode at once: all of them together get no more than one may have."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Room:
    """So much of something that threads may hold together. What is larger waits until it is alone."""

    def __init__(self, size: int) -> None:
        self.size, self.held = size, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Waits until there is room for this amount beside what others hold, and holds it."""
        with self._changed:
            self._changed.wait_for(lambda: self.held == 0 or self.held + amount <= self.size)
            self.held += amount
        try:
            yield
        finally:
            with self._changed:
                self.held -= amount
                self._changed.notify_all()


class _Thread(threading.local):
    held: dict[Room, contextlib.AbstractContextManager[None]] | None = None  # for the image that it prepares


_thread = _Thread()


@contextlib.contextmanager
def one_image() -> Iterator[None]:
    """What `hold` takes inside is held until the end: one image is read, and used."""
    before, _thread.held = _thread.held, {}
    try:
        yield
    finally:
        held, _thread.held = _thread.held, before
        for taken in held.values():
            taken.__exit__(None, None, None)


def hold(room: Room, amount: int) -> None:
    """Holds room for the image that this thread is reading, once. Outside of `one_image`, where one is read at a time,
    there is nothing to share. A thread takes room for its file before room for its pixels, so that none waits for
    another that waits for it."""
    if _thread.held is not None and room not in _thread.held:
        taken = room.taken(amount)
        taken.__enter__()
        _thread.held[room] = taken
