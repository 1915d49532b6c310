"""What a person sees while a program works: sentences, and progress with the time that is left."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Protocol

import rich.console
import rich.progress
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sagan.system.callbacks import Progress, Say
from sagan.system.errors import UserError

USAGE_ERROR = 2
FAULT = (
    "this is a fault of sagan, not yours: please report it with the command, the lines below and what "
    "`sagan --version` prints"
)

_SECONDS_BETWEEN_LINES = 10.0  # where output is not a terminal, progress is a line now and then


class Described(Protocol):
    """What says its figures on one line, such as a record of training."""

    def describe(self) -> str: ...


class Console:
    """Says things on standard output; ``quiet`` says nothing but warnings, which go to standard error."""

    def __init__(self, *, quiet: bool = False):
        self.quiet = quiet
        self._out = rich.console.Console(highlight=False, quiet=quiet)
        self._err = rich.console.Console(highlight=False, stderr=True)

    def say(self, sentence: str) -> None:
        self._out.print(Text(sentence), soft_wrap=True)

    def warn(self, sentence: str) -> None:
        self._err.print(Text(f"warning: {sentence}"), style="yellow", soft_wrap=True)

    def error(self, sentence: str) -> None:
        self._err.print(Text(f"error: {sentence}"), style="red", soft_wrap=True)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Says rows of cells, the first of them headings, in aligned columns."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """A bar for work that is counted: gives a function to call with (done, total). Without a call there is none."""
        if not self._out.is_terminal:
            yield _Lines(what, self.say)
            return
        columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()
        bar = rich.progress.Progress(*columns, console=self._out)
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.start()
            bar.update(task, completed=done, total=total)

        try:
            yield show
        finally:
            bar.stop()

    @contextlib.contextmanager
    def training(self, start: int, total: int) -> Iterator[Callable[[int, Described | None], None]]:
        """A bar for a training run: gives a function to call with each step and, when one is written, its record."""
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


class Terminated(KeyboardInterrupt):
    """SIGTERM, taken as an interruption, so that what is open is closed and said."""


def run_safely(action: Callable[[], int], console: Console) -> int:
    """The exit status of a command: its own, or 2 with one sentence for a `UserError` or an OSError, or 128 + signal.

    Notes added to an error are printed behind it: what is saved, what to do. Every other exception is a fault of this
    program: it keeps its traceback, after one line that says so.
    """
    try:
        with _terminating():
            return action()
    except KeyboardInterrupt as interruption:
        console.error(_with_notes("interrupted", interruption))
        return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        console.error(_with_notes(f"{error.strerror or error}{where}", error))
    except UserError as error:
        console.error(_with_notes(str(error), error))
    except Exception:
        console.error(FAULT)
        raise
    return USAGE_ERROR


def _with_notes(sentence: str, error: BaseException) -> str:
    return "; ".join([sentence, *getattr(error, "__notes__", [])])


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """SIGTERM raises `Terminated` inside."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are someone else's business
        yield
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextlib.contextmanager
def heeding(numbers: Iterable[int], handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """In here the signals go to ``handle``, but for those that are ignored; afterwards as before. Outside the main
    thread signals are someone else's business, and nothing is done."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        former = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def duration(seconds: float) -> str:
    """Seconds as 3:04:05."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class _TrainingBar(rich.progress.Progress):
    """A bar with the figures of the last record below it, which may be longer than a line."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.figures)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


class _Lines:
    """Progress as a line every few seconds, for a log file."""

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
        left = (total - done) * (now - self.started) / (done - self.first)
        self.say(f"{self.what} {done:,}/{total:,}, {duration(left)} left")


class _TrainingLines:
    """The training bar as lines, for a log file: the first record, then one every few seconds, then the last."""

    def __init__(self, total: int, say: Say):
        self.total, self.say = total, say
        self.taken = 0  # steps; one that is taken again after a rollback counts again
        self.began = time.monotonic()
        self.last = float("-inf")

    def __call__(self, step: int, record: Described | None) -> None:
        self.taken += 1
        now = time.monotonic()
        if record is None or (now - self.last < _SECONDS_BETWEEN_LINES and step < self.total):
            return
        self.last = now
        left = (self.total - step) * (now - self.began) / self.taken
        self.say(f"step {step:,}/{self.total:,}  {duration(left)} left  {record.describe()}")
