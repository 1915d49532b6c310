"""Runs commands of `sagan` in forks of this process, and kills them at an operation on files or after some seconds.

So torch is imported once. Forking is safe: this process only imports, copies and compares, and `run` checks that it has
one thread. Linux only.
"""

from __future__ import annotations

import builtins
import importlib
import io
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before they are imported: no threads to fork

import sagan.cli
import sagan.experiments.sweep

for name in (  # what commands import when they need it
    *("sagan.evaluation.while_training", "sagan.experiments.report", "sagan.training.start", "sagan.viewing.exhibits"),
    *("sagan.viewing.samples", "torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_svg", "filelock"),
):
    importlib.import_module(name)

LIMIT = 120.0  # seconds: a command that takes longer hangs


# ---- in the process that is killed


class Operations:
    """Counts what a command and its children do to files. The one that comes to number ``last`` says so and waits."""

    AUDITED = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

    def __init__(self, last: int):
        self.last, self.count = last, multiprocessing.get_context("fork").Value("q")
        self.reader, self.writer = os.pipe()

    def is_last(self) -> bool:
        with self.count.get_lock():
            self.count.value += 1
            return bool(self.count.value == self.last)

    def stop(self, where: str) -> NoReturn:
        os.write(self.writer, f"{os.getpid()} {where}".encode())
        while True:
            signal.pause()

    def watch(self) -> None:
        """From now on, in this process and in its forks."""
        plain_open, plain_fsync = io.open, os.fsync

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if (opened or event in self.AUDITED) and isinstance(arguments[0], str | Path) and self.is_last():
                self.stop(f"before {event} {arguments[0]}")

        def fsync(descriptor: int) -> None:
            if self.is_last():
                self.stop(f"before fsync of {Path(f'/proc/self/fd/{descriptor}').readlink()}")
            plain_fsync(descriptor)

        class Watched(io.FileIO):
            def write(file, data: Any) -> int:
                if self.is_last():
                    super().write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
                    self.stop(f"in the middle of writing {file.name!s}")
                return super().write(data)

        def watched_open(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+"):
                return plain_open(file, mode, buffering, *text, **options)
            raw = Watched(file, mode.replace("b", "").replace("t", ""))
            buffered = raw if buffering == 0 else (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **options)

        sys.addaudithook(audit)
        io.open, builtins.open, os.fsync = watched_open, watched_open, fsync  # type: ignore[assignment]


class Forked:
    """Stands in for `subprocess.Popen` in a sweep, so that its commands need not import torch again.

    The sweep has a second thread by then, the one that calls this. No thread of it has used torch, and the child makes
    its own standard streams and closes the sweep's files, so it needs nothing that the other thread may hold.
    """

    def __init__(self, words: Sequence[str], stdout: Any, **others: Any):
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            execute(words[words.index("sagan") + 1 :], stdout.fileno())

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def execute(words: Sequence[str], output: int) -> NoReturn:
    """Executes a command in a process that was forked for it, and ends this process."""
    status = 70
    try:
        for number in (1, 2):
            os.dup2(output, number)
        locks = [int(path.name) for path in Path("/proc/self/fd").iterdir() if str(path.resolve()).endswith(".lock")]
        for number in locks:
            os.close(number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        status = sagan.cli.main(words)
        sys.stdout.flush()
    finally:
        os._exit(status)


# ---- in this process


class Ended(NamedTuple):
    """How a command ended: its exit status, and where it was killed, or "" where it was not; and what it did."""

    status: int
    where: str
    seconds: float
    operations: int


def run(command: str, place: Path, last: int = 0, seconds: float = LIMIT, *, alone: bool = False) -> Ended:
    """Runs a command in the folder ``place``, and kills it with its children at operation ``last`` on files, or after
    some seconds; with ``alone`` only the process that came to the operation. What it printed is in LOG beside it."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would copy locks that other threads hold"
    operations, began = Operations(last), time.monotonic()
    with place.with_name("LOG").open("wb") as log:
        pid = os.fork()
        if pid == 0:
            os.chdir(place)
            calls = types.SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
            sagan.experiments.sweep.subprocess = calls  # type: ignore[assignment]
            operations.watch()
            execute(command.split(), log.fileno())
    ending, where = os.pidfd_open(pid), ""
    ready, _, _ = select.select([operations.reader, ending], [], [], seconds)
    if operations.reader in ready:
        victim, where = os.read(operations.reader, 4096).decode().split(" ", 1)
        if alone:
            where += ", that process alone"
            os.kill(int(victim), signal.SIGKILL)
            ready, _, _ = select.select([ending], [], [], LIMIT)  # a sweep goes on without a run's process
    elif ending not in ready:
        where = f"after {seconds:.2f} s"
    ended = ending in ready
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else reap(kill=True)[pid]
    for descriptor in (ending, operations.reader, operations.writer):
        os.close(descriptor)
    count = operations.count.get_obj().value  # without its lock, which may have died locked
    return Ended(status, where, time.monotonic() - began, count)


def reap(*, kill: bool) -> dict[int, int]:
    """Waits for all children, and those that they leave behind, or kills them. Returns their exit statuses."""
    statuses = {}
    while pids := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for pid in map(int, pids):
            if kill:
                os.kill(pid, signal.SIGKILL)
            statuses[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return statuses
