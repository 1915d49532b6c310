"""The connection of a process to the others of its world: torch's process groups, and whether the others live."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from sagan.system.errors import UserError, describe
from sagan.system.world import Lost, tree_sum

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

T = TypeVar("T")

_NUMBERS = itertools.count()  # of the links that this process made, one after the other
_ARRIVAL = 300.0  # seconds in which all processes must have started
_NEVER = timedelta(days=7)  # for torch's own timeout: whether the others are alive is watched here
_BEAT = 1.0  # seconds between signs of life
_STALE = 4.0  # seconds without one, after which a process whose connection broke is taken for ended
_ENDED = "ended without a word: it was killed, or its machine has no memory left"


class Link:
    """The connection of process ``rank`` to the other ``size`` - 1.

    A thread gives signs of life and looks for those of the others: the leading process for all, the others for its own.
    When one fails, or is silent for ``timeout`` seconds, it ends this process with status 2. One process says why: the
    leading one or, if that is the silent one, the first of the others. ``advice`` is printed after it.
    """

    def __init__(self, rank: int, size: int, timeout: float):
        self.rank, self.size, self.timeout = rank, size, timeout
        self.advice = ""
        self._over = threading.Event()
        self._attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        number = next(_NUMBERS)
        self._place = f"sagan/{number}/{self._attempt}"  # torchrun may keep what the processes before these wrote
        self._store = _meet(self._place, rank, size)
        self._notes = _store(f"sagan/{number}/notes")
        with self._guarded():
            dist.init_process_group("gloo", store=self._store, rank=rank, world_size=size, timeout=_NEVER)
        self._nccl = self._open_nccl()
        self._thread = threading.Thread(target=self._watch, args=(_store(self._place),), daemon=True)
        self._thread.start()

    def _open_nccl(self) -> dist.ProcessGroup | None:
        """The group for tensors on GPUs, if each process has a GPU of its own; else they go through the CPU."""
        cards, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        if cards:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", self.rank)) % cards)
        own = cards >= local and dist.is_nccl_available()
        return dist.new_group(backend="nccl", timeout=_NEVER) if all(self.gather(own)) else None

    # ---- what the processes tell each other

    def share(self, make: Callable[[], T]) -> T:
        sent = io.BytesIO()
        if self.rank == 0:
            torch.save(make(), sent)
        held: list[Any] = [sent.getvalue()]
        with self._guarded():
            dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        made: T = torch.load(io.BytesIO(held[0]), map_location="cpu", weights_only=False)  # from a process like this
        return made

    def gather(self, value: T) -> list[T]:
        held: list[Any] = [None] * self.size
        with self._guarded():
            dist.all_gather_object(held, value)
        return held

    def largest(self, numbers: Sequence[int]) -> list[int]:
        values = torch.tensor(numbers)
        with self._guarded():
            dist.all_reduce(values, dist.ReduceOp.MAX)
        largest: list[int] = values.tolist()
        return largest

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
        return self._notes.get("note").decode() if self._attempt != "0" and self._notes.check(["note"]) else ""

    # ---- the end

    def close(self) -> None:
        """Leaves the others, after this process has done its part."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(RuntimeError):  # the process that keeps the store may be gone
            self._store.set(f"alive/{self.rank}", "done")
        dist.destroy_process_group()

    def fail(self, error: BaseException) -> None:
        """Tells the others why this process ends."""
        self._over.set()
        lost, sentence = isinstance(error, Lost), describe(error)
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(
                "failed", "", sentence if self.rank == 0 or lost else f"rank {self.rank}: {sentence}"
            )
        if lost and self.rank and self._speaks(self._store, sentence):
            self._say(sentence)

    # ---- whether the others live

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """A collective call in here raises `Lost`, with the reason, where the connection breaks."""
        try:
            yield
        except RuntimeError as error:
            raise Lost(self._reason() or f"the connection between the processes broke ({error})") from error

    def _reason(self) -> str:
        """Why the connection broke: what another process said, or which has ended without a word."""
        until = time.monotonic() + _STALE
        try:
            before = self._signs(self._store)
            while time.monotonic() < until:
                if failure := self._failure(self._store):
                    return failure
                time.sleep(0.2)
            now = self._signs(self._store)
        except RuntimeError:
            return f"rank 0 {_ENDED}"
        silent = [rank for rank in range(self.size) if now[rank] == before[rank] and rank != self.rank]
        return f"{_ranks(silent)} {_ENDED}" if silent else ""

    def _watch(self, store: Store) -> None:
        seen: dict[int, tuple[bytes, float]] = {}
        beats = 0
        while not self._over.wait(_BEAT):
            beats += 1
            try:
                store.set(f"alive/{self.rank}", str(beats))
                failure = self._failure(store)
                signs = self._signs(store) if self.rank == 0 else [store.get("alive/0")]
            except RuntimeError:
                failure, signs = f"rank 0 {_ENDED}", []
            now = time.monotonic()
            for rank, sign in enumerate(signs):
                if rank not in seen or seen[rank][0] != sign:
                    seen[rank] = sign, now
                elif sign != b"done" and now - seen[rank][1] > self.timeout and rank != self.rank:
                    failure = failure or f"rank {rank} has not answered for {self.timeout:.0f} seconds"
            if failure:
                self._end(store, failure)

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
        print("error:", "; ".join(filter(None, [failure, self.advice])), file=sys.stderr, flush=True)

    def _speaks(self, store: Store, failure: str) -> bool:
        if not failure.startswith("rank 0 "):
            return self.rank == 0
        try:
            return bool(store.compare_set("speaks", "", str(self.rank)).decode() == str(self.rank))
        except RuntimeError:  # the store went with process 0
            return self.rank == 1

    def _signs(self, store: Store) -> list[bytes]:
        signs: list[bytes] = store.multi_get([f"alive/{rank}" for rank in range(self.size)])
        return signs

    @staticmethod
    def _failure(store: Store) -> str:
        return store.get("failed").decode() if store.check(["failed"]) else ""


def _ranks(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, ranks))


def _store(place: str) -> Store:
    """A new connection to what all processes read and write, under a ``place`` in it, for one thread."""
    store, _, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=_ARRIVAL))))
    own: Store = dist.PrefixStore(place, store)  # type: ignore[attr-defined]
    return own


def _meet(place: str, rank: int, size: int) -> Store:
    """Waits until all processes are there. Raises UserError, naming the missing ones, if they do not come."""
    try:
        store = _store(place)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the other processes cannot be reached: {str(error).splitlines()[0]}") from error
    store.set(f"alive/{rank}", "0")
    until = time.monotonic() + _ARRIVAL
    while not store.check([f"alive/{each}" for each in range(size)]):
        if time.monotonic() > until:
            missing = [each for each in range(size) if not store.check([f"alive/{each}"])]
            raise UserError(f"{_ranks(missing)} of {size} did not start within {_ARRIVAL:.0f} seconds")
        time.sleep(0.05)
    return store
