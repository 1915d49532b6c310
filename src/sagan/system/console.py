"""A program's output while it works: sentences, and progress with the time left."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Protocol, TextIO, cast

import rich.console
import rich.progress
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sagan.system.callbacks import Progress, Say
from sagan.system.errors import UserError, describe, is_out_of_memory
from sagan.system.sentences import as_flag, name_settings, visible
from sagan.system.world import leads

USAGE_ERROR = 2
BUG = "this is a bug in sagan: please report it with the command, the lines below and the output of `sagan --version`"

_ETERNITY = 1e12  # seconds; no estimate is longer
_LONGEST_SILENCE = 30.0  # seconds without a line
_SECONDS_BETWEEN_LINES = 10.0  # of progress, where output is not a terminal


class Described(Protocol):
    """An object that describes itself on one line, such as a record of training."""

    def describe(self) -> str: ...


class _Lasting(io.TextIOBase):
    """A standard stream that may be lost: its reader leaves, as `head` does, its terminal is closed, the disk of its
    file is full. What it would show from then on goes nowhere, and the work goes on. Characters that its encoding
    lacks are written with backslashes. ``ours``: the process is this program's, so its descriptors may be replaced."""

    def __init__(self, stream: TextIO, *, ours: bool):
        self.stream, self.ours = stream, ours
        self.lost = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def lose(self) -> None:
        """What is shown from now on goes nowhere."""
        self.lost = True
        if self.ours:
            _discard(self.stream)  # with what is in its buffer, which Python writes when it ends

    def write(self, text: str) -> int:
        if self.lost:
            return len(text)
        with self._lasting():
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.encoding
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        if not self.lost:
            with self._lasting():
                self.stream.flush()

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lose()
            if self.stream is sys.stdout and sys.stderr is not None and not isinstance(error, BrokenPipeError):
                said = f"warning: standard output cannot be written ({error.strerror}), so the rest is not shown\n"
                _Lasting(sys.stderr, ours=self.ours).write(said)


def _output(*, ours: bool, stderr: bool = False, quiet: bool = False) -> tuple[rich.console.Console, _Lasting]:
    """A standard stream, for as long as there is one."""
    made = rich.console.Console(highlight=False, stderr=stderr, quiet=quiet)
    stream = _Lasting(cast("TextIO", made.file), ours=ours)
    made.file = stream  # type: ignore[assignment]
    return made, stream


def _discard(stream: IO[str]) -> None:
    """Sends what is still written to a stream nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """For what is printed without a `Console`: the reader of standard output may leave, as in `_output`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def _open_streams() -> None:
    """Lets both standard streams of this program take anything, also from others than a `Console`: names of files that
    their encoding lacks are printed with backslashes, and a stream that was closed from the start goes nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open while the program is
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Console:
    """Prints sentences and progress, unless ``quiet``, on standard output; warnings always go to standard error.

    A sentence is one line. Names of files and classes in it may be a stranger's: see `visible`. Names of settings are
    spelt as they are typed: see `name_settings`. Of several processes that ``torchrun`` started, only the first prints.
    """

    def __init__(self, *, quiet: bool = False, command: bool = False):
        """``command``: the process is a command of this program, and not another that uses it as a library, whose
        streams stay as they are."""
        self.quiet, self.command = quiet or not leads(), command
        if command:
            _open_streams()
        self._out, out = _output(ours=command, quiet=self.quiet)
        self._err, err = _output(ours=command, stderr=True, quiet=not leads())
        self._terminals = [stream for stream in (out, err) if stream.isatty()]

    def hang_up(self) -> None:
        """The terminal is gone: what it would show from now on goes nowhere, instead of failing."""
        for stream in self._terminals:
            stream.lose()

    def say(self, sentence: str) -> None:
        self._out.print(Text(self._line(sentence)), soft_wrap=True)

    def advise(self, sentence: str) -> None:
        """Says which flags of `sagan train` would help."""
        self.say(sentence)

    def warn(self, sentence: str) -> None:
        self._err.print(Text(self._line(f"warning: {sentence}")), style="yellow", soft_wrap=True)

    def error(self, sentence: str) -> None:
        self._err.print(Text(self._line(f"error: {sentence}")), style="red", soft_wrap=True)

    def spell(self, name: str) -> str:
        """A setting as the person at this console types it."""
        return as_flag(name) if self.command else name

    def _line(self, sentence: str) -> str:
        return visible(name_settings(sentence, self.spell))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Prints rows of cells, the first of them headings, in aligned columns."""
        for line in aligned(rows):
            self.say(line)

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """A progress bar, shown at the first call of the function that this yields: call it with (done, total)."""
        if not self._out.is_terminal:
            yield _Lines(what, self.say)
            return
        named = TextColumn("{task.description}", markup=False)
        columns = named, BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()
        bar = rich.progress.Progress(*columns, console=self._out)
        task = bar.add_task(visible(what), total=None)

        def show(done: int, total: int) -> None:
            bar.start()
            bar.update(task, completed=done, total=total)

        try:
            yield show
        finally:
            bar.stop()

    @contextlib.contextmanager
    def training(self, start: int, total: int) -> Iterator[Callable[[int, Described | None], None]]:
        """A progress bar for training: yields a function to call with each step and its record, if it has one."""
        if not self._out.is_terminal:
            yield _TrainingLines(total, self.say)
            return
        with _TrainingBar(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=self._out, speed_estimate_period=120
        ) as bar:
            task = bar.add_task("training", total=total, completed=start)

            def show(step: int, record: Described | None) -> None:
                bar.figures = record.describe() if record else bar.figures
                bar.update(task, completed=step)

            yield show


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns, for a terminal."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


class Terminated(KeyboardInterrupt):
    """SIGTERM as an interruption, so that files are closed and the end is reported."""


def run_safely(action: Callable[[], int], console: Console) -> int:
    """The exit status of a command: its own, or 2 with one sentence for a `UserError` or an OSError, or 128 + signal.

    An error's notes (what is saved, what to do) are printed after it. Every other exception is a bug in this program
    and keeps its traceback, after one line that says so.
    """
    try:
        with handling_signals((signal.SIGTERM,), _terminate):
            return action()
    except KeyboardInterrupt as interruption:
        console.error(_with_notes("interrupted", interruption))
        return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)
    except OSError as error:
        console.error(_with_notes(describe(error), error))
    except UserError as error:
        console.error(_with_notes(describe(error), error))
    except Exception as error:
        if is_out_of_memory(error):
            console.error(_with_notes("there is too little memory: close other programs, or ask for less", error))
            return USAGE_ERROR
        console.error(BUG)
        raise
    return USAGE_ERROR


def _with_notes(sentence: str, error: BaseException) -> str:
    return "; ".join([sentence, *getattr(error, "__notes__", [])])


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def handling_signals(numbers: Iterable[int], handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Sends signals, except ignored ones, to ``handle`` inside this context. Does nothing outside the main thread, in
    which Python allows no handlers."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        former = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def duration(seconds: float) -> str:
    """Seconds as 3:04:05, and from two days on as 11 days 3:04:05."""
    total = int(min(seconds, _ETERNITY))
    days, whole = divmod(total, 86_400)
    if days < 2:
        days, whole = 0, total
    return (f"{days} days " if days else "") + f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class _TrainingBar(rich.progress.Progress):
    """A progress bar, and below it the figures of the last record, which may be longer than a line."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.figures)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


class _Lines:
    """Progress as a line every ten seconds, for a log file."""

    def __init__(self, what: str, say: Say):
        self.what, self.say = what, say
        self.started = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self.first = done if self.first is None else self.first
        if now - self.last < _SECONDS_BETWEEN_LINES or done == self.first:
            return
        self.last = now
        each = (now - self.started) / (done - self.first)
        rate = f"{1 / each:,.0f}/s, " if each else ""
        self.say(f"{self.what} {done:,}/{total:,}, {rate}{duration((total - done) * each)} left")


class Pace:
    """The mean time of the steps of this process, without the first one, which warms up."""

    def __init__(self) -> None:
        self.steps, self.started, self.passed = -1, 0.0, 0.0

    def step_taken(self) -> None:
        """To be called after each step."""
        self.steps += 1
        now = time.monotonic()
        self.started = self.started or now
        self.passed = now - self.started

    @property
    def per_step(self) -> float:
        """Seconds; 0 until there are two steps."""
        return self.passed / max(self.steps, 1)


class _TrainingLines:
    """The progress of training as lines, for a log file: the first record, one every ten seconds, and the last.

    Where records are further apart than half a minute, a line says the step alone.
    """

    def __init__(self, total: int, say: Say):
        self.total, self.say = total, say
        self.pace = Pace()  # of all steps, also those that are repeated after a rollback
        self.started = time.monotonic()
        self.last: float | None = None

    def __call__(self, step: int, record: Described | None) -> None:
        self.pace.step_taken()
        now = time.monotonic()
        passed = now - (self.started if self.last is None else self.last)
        if record is None:
            due = passed >= _LONGEST_SILENCE
        else:
            due = self.last is None or passed >= _SECONDS_BETWEEN_LINES or step == self.total
        if due:
            self.last = now
            left = f"{duration((self.total - step) * self.pace.per_step)} left" if self.pace.per_step else ""
            figures = record.describe() if record else ""
            self.say("  ".join(filter(None, (f"step {step:,}/{self.total:,}", left, figures))))
