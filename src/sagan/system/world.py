"""The processes that work on one command together: which of them this one is, and what they tell each other.

`joined` makes a `World` from the variables that ``torchrun`` sets. Process 0 leads: it alone prints, writes and judges;
the others follow. Gradients are added in the order of `tree_sum`, whatever the number of processes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sagan.system.errors import UserError
from sagan.system.sentences import plural

if TYPE_CHECKING:  # a command's --help is quick
    from torch import Tensor

    from sagan.system.link import Link

T = TypeVar("T")


class Lost(UserError):
    """Another process has ended, or has failed, or does not answer."""


def tree_sum(terms: Sequence[Tensor]) -> Tensor:
    """The sum of tensors in the order of a binary tree whose left half is the largest power of two below their number.

    So a block of 2^k terms, from a multiple of 2^k on, can be added beforehand without changing a bit of the result.
    """
    if len(terms) == 1:
        return terms[0]
    half = 1 << (len(terms) - 1).bit_length() - 1
    return tree_sum(terms[:half]) + tree_sum(terms[half:])


@dataclass(frozen=True)
class World:
    """Process ``rank`` of ``size``. Without a ``link`` it hears from no other: it is as if it were alone."""

    rank: int = 0
    size: int = 1
    link: Link | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise UserError(f"rank must be at least 0 and less than size, got rank {self.rank} of {self.size}")

    @property
    def leads(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def part(self, count: int) -> range:
        """This process's numbers of 0 to count - 1: equally many for each, one after the other.

        Raises UserError if they cannot be divided evenly.
        """
        if count % self.size:
            raise UserError(f"{plural(self.size, 'process')} cannot divide {plural(count, 'shard')} evenly")
        own = count // self.size
        return range(self.rank * own, (self.rank + 1) * own)

    # ---- what the processes tell each other: all of them call the same, and each may raise `Lost`, or UserError where
    # one is in another call or says another ``what``, a few words on what is told

    def share(self, make: Callable[[], T], what: str = "") -> T:
        """What ``make`` returns in the leading process, in all of them; its tensors arrive on the CPU."""
        return make() if self.link is None else self.link.share(make, what)

    def gather(self, value: T, what: str = "") -> list[T]:
        """The values of all processes, by rank."""
        return [value] if self.link is None else self.link.gather(value, what)

    def collect(self, value: T, what: str = "") -> list[T]:
        """The values of all processes, by rank, in the leading process; in the others nothing."""
        return [value] if self.link is None else self.link.collect(value, what)

    def compare(self, values: Mapping[str, object]) -> None:
        """Raises UserError, in every process, where one has another value under a name than the leading process."""
        first, *others = self.gather(dict(values), "compare")
        for rank, theirs in enumerate(others, 1):
            for name in first | theirs:
                here, there = first.get(name), theirs.get(name)
                if here != there:
                    raise UserError(
                        f"rank {rank} has {name} {_shown(there)}, and rank 0 {_shown(here)}: all need the same"
                    )

    def in_turn(self, make: Callable[[], T]) -> T:
        """What ``make`` returns: first in the leading process, which may leave files for the others."""
        if self.leads:
            made = make()
            self.gather(None, "in turn")
            return made
        self.gather(None, "in turn")
        return make()

    def largest(self, *numbers: int) -> list[int]:
        """The largest of each of these numbers over all processes."""
        return list(numbers) if self.link is None else self.link.largest(numbers)

    def add_up(self, rows: Tensor, total: Tensor) -> None:
        """Fills ``total`` (n,) with the `tree_sum` of the rows of all processes, by rank; each has as many, (k, n)."""
        assert self.link is not None, "one process has nobody to add up with"
        self.link.add_up(rows, total)

    # ---- what is kept for the case that a process is lost

    def advise(self, sentence: str) -> None:
        """What a person can do when another process is lost, for the sentence that says so."""
        if self.link is not None:
            self.link.advice = sentence

    def remember(self, note: str) -> None:
        """Keeps a note for the processes that ``torchrun`` starts in place of these, after one of them has failed."""
        if self.link is not None:
            self.link.remember(note)

    def recall(self) -> str:
        """The note of the processes before these; "" if there is none."""
        link = self.link
        return "" if link is None else link.share(link.recall, "the note")


SINGLE_PROCESS = World()


def _shown(value: object) -> str:
    return "none" if value is None else "''" if value == "" else str(value)


def nothing() -> Any:
    """What a process shares that does not lead."""
    raise AssertionError("this is the leading process's to make")


def announced() -> tuple[int, int]:
    """(rank, number of processes), as ``torchrun`` announces them in the environment; (0, 1) without it.

    Raises UserError where the announcement is incomplete or makes no sense.
    """
    size = _whole_number("WORLD_SIZE", "1")
    if size <= 1:
        return 0, 1
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UserError(f"WORLD_SIZE is {size} but {name} is not set: start several processes by torchrun")
    rank = _whole_number("RANK", "0")
    if rank >= size:
        raise UserError(f"RANK must be less than WORLD_SIZE, got {rank} of {size}")
    return rank, size


def leads() -> bool:
    """Whether this process prints: the first of several, or the only one."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


_ANNOUNCEMENT = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"}
_ANNOUNCEMENT |= {"GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME"}


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without torchrun's announcement, for a process that is started to work alone."""
    told = {name for name in environment if name in _ANNOUNCEMENT or name.startswith("TORCHELASTIC_")}
    return {name: value for name, value in environment.items() if name not in told}


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return _whole_number("LOCAL_RANK", os.environ.get("RANK", "0"))


def _whole_number(name: str, default: str) -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise UserError(f"{name} must be a whole number, got {value!r}")
    return int(value)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The world of the processes that ``torchrun`` started; one process without it.

    An error in one of them ends all, and is said once. The variable ``SAGAN_TIMEOUT`` is the number of seconds after
    which a silent process is given up, by default 60.
    """
    rank, size = announced()
    if size == 1:
        yield SINGLE_PROCESS
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost connection is said in a sentence, without its frames
    from sagan.system.link import Link

    link = Link(rank, size, _whole_number("SAGAN_TIMEOUT", "60"))
    try:
        link.connect()
        yield World(rank, size, link)
    except BaseException as error:
        link.fail(error)
        raise
    link.close()
