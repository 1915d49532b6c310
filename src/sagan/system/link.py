"""The connection of a process to the others of its world: torch's process groups, and whether the others live."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from sagan.system.console import Console
from sagan.system.errors import UserError, describe, is_out_of_memory
from sagan.system.sentences import name_settings, visible
from sagan.system.world import Lost, local_rank, tree_sum

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")

_NUMBERS = itertools.count()  # of the links that this process made, one after the other
_ARRIVAL = 300.0  # seconds in which all processes must have started
_PATIENT = 15.0  # of these, after which a person is told who is missing
_NEVER = timedelta(days=7)  # for torch's own timeout: whether the others are alive is watched here
_CARRIED = 4  # numbers that the beginning of a call carries
_BEAT = 1.0  # seconds between signs of life
_STALE = 4.0  # seconds without one, after which a process whose connection broke is taken for ended
_LAUNCHER = "the launcher that connects all processes"
_ENDED = "ended without a word: it was killed, or its machine has no memory left"


class Link:
    """The connection of process ``rank`` to the other ``size`` - 1: first they meet, then `connect`.

    A thread gives signs of life and looks for those of the others: the leading process for all, the others for its own.
    When one fails, or is silent for ``timeout`` seconds, it ends this process with status 2. One process says why: the
    leading one or, if that is the silent one, the first of the others. ``advice`` is printed after it. Signs of life
    go through a store that the launcher, or the leading process, keeps; a second thread ends this process where the
    store does not answer. Both count their own turns, not seconds, so a job may be suspended and go on.
    """

    def __init__(self, rank: int, size: int, timeout: float):
        self.rank, self.size, self.timeout = rank, size, timeout
        self.advice = ""
        name = f"sagan/{next(_NUMBERS)}"
        with _reaching():
            self._notes = _store(name)
            place = f"{name}/{_meet(self._notes, rank, size)}"
            self._store = _store(place)
            self._former = _read(self._notes, "note")
        self._nccl: dist.ProcessGroup | None = None
        self._over = threading.Event()  # the main thread leaves by itself
        self._left = threading.Event()  # it has left
        self._turns = 0  # of the first thread
        self._turned = time.monotonic()
        self._paused = 0.0, 0  # seconds that the first thread stood still for too long, and the turn after them
        self._thread = threading.Thread(target=self._watch, args=(_store(place),), daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch_the_store, daemon=True).start()

    def connect(self) -> None:
        """Opens the ways that `share`, `gather` and the others take."""
        with self._guarded():
            dist.init_process_group("gloo", store=self._store, rank=self.rank, world_size=self.size, timeout=_NEVER)
        cards, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        own = cards >= local and dist.is_nccl_available()
        if all(self.gather(own)):  # each process has a GPU of its own; else tensors go through the CPU
            self._nccl = dist.new_group(backend="nccl", timeout=_NEVER)

    # ---- what the processes tell each other

    def share(self, make: Callable[[], T], what: str = "") -> T:
        self._enter(f"share {what}")
        sent = io.BytesIO()
        if self.rank == 0:
            torch.save(make(), sent)
        held: list[Any] = [sent.getvalue()]
        with self._guarded():
            dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        made: T = torch.load(io.BytesIO(held[0]), map_location="cpu", weights_only=False)  # from a process like this
        return made

    def gather(self, value: T, what: str = "") -> list[T]:
        self._enter(f"gather {what}")
        return self._gather(value)

    def _gather(self, value: T) -> list[T]:
        held: list[Any] = [None] * self.size
        with self._guarded():
            dist.all_gather_object(held, value)
        return held

    def collect(self, value: T, what: str = "") -> list[T]:
        self._enter(f"collect {what}")
        held: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with self._guarded():
            dist.gather_object(value, held)
        return held or []

    def largest(self, numbers: Sequence[int]) -> list[int]:
        return [max(column) for column in zip(*self._enter("largest", numbers), strict=True)]

    def _enter(self, call: str, numbers: Sequence[int] = ()) -> list[list[int]]:
        """Begins a call: every one begins with the same exchange, so processes that are in different calls notice.
        Returns the numbers of each process, by rank. Raises UserError where they are in different calls."""
        assert len(numbers) <= _CARRIED
        sent = torch.tensor([zlib.crc32(call.encode()), *numbers, *[0] * (_CARRIED - len(numbers))])
        came = [torch.empty_like(sent) for _ in range(self.size)]
        with self._guarded():
            dist.all_gather(came, sent)
        rows: list[list[int]] = [row.tolist() for row in came]
        if any(row[0] != rows[0][0] for row in rows):
            first, *others = self._gather(call)
            rank, other = next((rank, other) for rank, other in enumerate(others, 1) if other != first)
            raise UserError(
                f"rank {rank} is at {other!r}, and rank 0 at {first!r}: all need the same command, files and settings"
            )
        return [row[1 : 1 + len(numbers)] for row in rows]

    def add_up(self, rows: Tensor, total: Tensor) -> None:
        """Each process adds its slice of the columns: 2 n (size - 1) / size numbers go out of each process and into it,
        as in a ring."""
        count, width = rows.shape
        piece = -(-width // self.size)
        group = self._nccl if rows.is_cuda else None
        sent = rows.new_zeros(count, self.size * piece)
        sent[:, :width] = rows
        sent = sent.view(count, self.size, piece).transpose(0, 1).contiguous()
        sent = sent if group is not None else sent.cpu()
        came = torch.empty_like(sent)
        with self._guarded():
            dist.all_to_all_single(came, sent, group=group)
            own = tree_sum(came.view(self.size * count, piece).unbind())
            pieces = [torch.empty_like(own) for _ in range(self.size)]
            dist.all_gather(pieces, own, group=group)
        total.copy_(torch.cat(pieces)[:width])

    def remember(self, note: str) -> None:
        self._notes.set("note", note)

    def recall(self) -> str:
        return self._former

    # ---- the end

    def close(self) -> None:
        """Leaves the others, after this process has done its part."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(RuntimeError):  # what keeps the store may be gone
            self._store.set(f"alive/{self.rank}", "done")
        dist.destroy_process_group()
        self._left.set()

    def fail(self, error: BaseException) -> None:
        """Tells the others why this process ends."""
        self._over.set()
        lost = isinstance(error, Lost)
        if isinstance(error, KeyboardInterrupt):
            sentence = f"rank {self.rank} was interrupted"
        else:
            sentence = describe(error) if lost or self.rank == 0 else f"rank {self.rank}: {describe(error)}"
        with contextlib.suppress(RuntimeError):
            if self.rank == 0:
                self._store.compare_set("speaks", "", "0")
            self._store.compare_set("failed", "", sentence)
        if lost and self.rank and self._speaks(self._store, sentence):
            self._say(sentence)
        self._left.set()

    # ---- whether the others live

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """A collective call in here raises `Lost`, with the reason, where the connection breaks."""
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise Lost(self._reason() or f"the connection between the processes broke ({error})") from error

    def _reason(self) -> str:
        """Why the connection broke: what another process said, or which has ended without a word."""
        until = time.monotonic() + _STALE
        try:
            before = self._signs(self._store)
            while time.monotonic() < until:
                if failure := _read(self._store, "failed"):
                    return failure
                time.sleep(0.2)
            now = self._signs(self._store)
        except RuntimeError:
            return self._own_pause() or f"{_keeper()} {_ENDED}"
        silent = [rank for rank in range(self.size) if now[rank] == before[rank] and rank != self.rank]
        if 0 in silent:  # the others may have ended because of it
            silent = [0]
        return self._own_pause() or (f"{_ranks(silent)} {_ENDED}" if silent else "")

    def _watch(self, store: Store) -> None:
        seen: dict[int, tuple[bytes, int]] = {}  # by rank: its last sign, and the turn it came in
        while not self._over.wait(_BEAT):
            self._turns += 1
            if self._is_long((pause := time.monotonic() - self._turned) / _BEAT):
                self._paused = pause, self._turns
            self._turned = time.monotonic()
            try:
                store.set(f"alive/{self.rank}", str(self._turns))
                failure = _read(store, "failed")
                signs = self._signs(store) if self.rank == 0 else [store.get("alive/0")]
            except RuntimeError:
                failure, signs = f"{_keeper()} {_ENDED}", []
            for rank, sign in enumerate(signs):
                if rank not in seen or seen[rank][0] != sign:
                    seen[rank] = sign, self._turns
                elif sign != b"done" and self._is_long(self._turns - seen[rank][1]) and rank != self.rank:
                    failure = failure or f"rank {rank} has not answered for {self.timeout:.0f} seconds"
            if failure:
                self._end(store, self._own_pause() or failure)

    def _watch_the_store(self) -> None:
        turns, silent = 0, 0
        while not self._left.wait(_BEAT):
            turns, silent = self._turns, silent + 1 if turns == self._turns else 0
            if self._is_long(silent - 4 * _STALE / _BEAT):  # `_end` takes its time
                if _speaks_for_machine(self.rank):
                    self._say(f"{_keeper()} has not answered for {self.timeout:.0f} seconds")
                os._exit(2)

    def _own_pause(self) -> str:
        """Why the others are gone, where it was this process that stood still, a moment ago, for longer than they wait;
        else ""."""
        pause, turn = self._paused
        if self._is_long(self._turns - turn):
            pause = 0.0
        pause = max(pause, time.monotonic() - self._turned)
        if not self._is_long(pause / _BEAT):
            return ""
        return f"rank {self.rank} stood still for {pause:.0f} seconds, longer than the others wait"

    def _is_long(self, turns: float) -> bool:
        return turns * _BEAT > self.timeout

    def _end(self, store: Store, failure: str) -> None:
        """Ends this process with the failure of another, unless its main thread does so by itself."""
        if self._over.wait(2 * _STALE):
            return
        with contextlib.suppress(RuntimeError):
            store.compare_set("failed", "", failure)
        if self._speaks(store, failure):
            self._say(failure)
        os._exit(2)

    def _say(self, failure: str) -> None:
        """Prints a failure, in a process that may not be the one that prints otherwise."""
        sentence = "; ".join(filter(None, [failure, self.advice]))
        print("error:", visible(name_settings(sentence)), file=sys.stderr, flush=True)

    def _speaks(self, store: Store, failure: str) -> bool:
        if failure.startswith(_LAUNCHER):
            return _speaks_for_machine(self.rank)
        if not failure.startswith("rank 0 "):
            return self.rank == 0
        try:
            return bool(store.compare_set("speaks", "", str(self.rank)).decode() == str(self.rank))
        except RuntimeError:  # the store went with process 0
            return _speaks_for_machine(self.rank)

    def _signs(self, store: Store) -> list[bytes]:
        signs: list[bytes] = store.multi_get([f"alive/{rank}" for rank in range(self.size)])
        return signs


def _ranks(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))


def _keeper() -> str:
    """What keeps the store."""
    return _LAUNCHER if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else "rank 0"


def _speaks_for_machine(rank: int) -> bool:
    """Whether this is the process of its machine that speaks where the store is gone, so that they cannot agree on
    one."""
    return local_rank() == 0 or (rank == 1 and _keeper() == "rank 0")


# ---- the store


def _store(place: str) -> Store:
    """A new connection to what all processes read and write, under a ``place`` in it, for one thread."""
    store, _, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=_ARRIVAL))))
    own: Store = dist.PrefixStore(place, store)  # type: ignore[attr-defined]
    return own


def _read(store: Store, name: str) -> str:
    """A value; "" where there is none."""
    return store.get(name).decode() if store.check([name]) else ""


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """Where a process meets the others: raises UserError where they, or the store, cannot be reached or are gone."""
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the other processes cannot be reached: {str(error).splitlines()[0]}") from error


def _meet(store: Store, rank: int, size: int) -> str:
    """Waits until all processes are there; returns a place in the store that is new to all of them.

    torchrun may keep what the processes before these wrote, so process 0 makes a new place, and answers the processes
    that it sees there. Raises UserError, naming the missing ones, if they do not come.
    """
    own, seen, begun = uuid.uuid4().hex, "", time.monotonic()
    said = False
    if rank == 0:
        store.set("place", own)
    missing = [0]
    while (waited := time.monotonic() - begun) < _ARRIVAL:
        if rank == 0 and waited > _PATIENT and missing != [0] and not said:
            Console().say(f"waiting for {_ranks(missing)} of {size} to start, at most {_ARRIVAL:.0f} seconds")
            said = True
        if found := _read(store, "place"):
            signs = [f"{found}/alive/{each}" for each in range(size)]
            if found != seen:
                store.set(signs[rank], own)
                seen = found
            if rank == 0:
                missing = [each for each, sign in enumerate(signs) if not store.check([sign])]
                if not missing:
                    store.set(f"{found}/there", b" ".join(store.multi_get(signs)).decode())
            if own in _read(store, f"{found}/there").split():
                return found
        time.sleep(0.05)
    raise UserError(f"{_ranks(missing)} of {size} did not start within {_ARRIVAL:.0f} seconds")
