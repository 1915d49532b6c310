"""What changes in a library, told to the pages that are open: one look every two seconds, and none without a page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from sagan.gallery.library import Found, Library
from sagan.system.files import is_held

BETWEEN = 2.0  # seconds
_ALIVE = 15.0  # seconds after which a silent connection says that it is there

State = dict[str, tuple[object, ...]]


class Watch:
    """The changes of a library, as server-sent events."""

    def __init__(self, library: Library):
        self.library = library
        self._listeners: set[asyncio.Queue[list[str] | None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def events(self) -> AsyncIterator[bytes]:
        """An event with the names of runs for each look at which some have changed, come or gone."""
        changes: asyncio.Queue[list[str] | None] = asyncio.Queue()
        self._listeners.add(changes)
        if self._task is None:
            self._task = asyncio.ensure_future(self._watch())
        try:
            yield b"retry: 2000\n\n"
            while True:
                try:
                    names = await asyncio.wait_for(changes.get(), _ALIVE)
                    if names is None:
                        return
                    yield f"data: {json.dumps(names)}\n\n".encode()
                except TimeoutError:
                    yield b": here\n\n"
        finally:
            self._listeners.discard(changes)

    def close(self) -> None:
        """Ends the streams of events."""
        for listener in self._listeners:
            listener.put_nowait(None)

    async def _watch(self) -> None:
        try:
            await self._watch_while_heard()
        finally:
            self._task = None

    async def _watch_while_heard(self) -> None:
        before = await run_in_threadpool(self._look)
        while self._listeners:
            await asyncio.sleep(BETWEEN)
            now = await run_in_threadpool(self._look)
            names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            before = now
            if names:
                for listener in self._listeners:
                    listener.put_nowait(names)

    def _look(self) -> State:
        return {name: _signs(found) for name, found in self.library.find().items()}


def _signs(found: Found) -> tuple[object, ...]:
    """What changes whenever a page of the run would."""
    signs: list[object] = []
    for name in ("config.json", "records.jsonl", "samples", "snapshots", "plan.json"):
        try:
            state = (found.folder / name).stat()
            signs.append((state.st_size, state.st_mtime_ns))
        except OSError:
            signs.append(None)
    return *signs, is_held(found.folder / "running.lock")
