"""A sweep's folder, and carrying out its plan here: several runs at a time, each a process of its own.

plan.json       which runs: the base config, the axes, each run's values and the command that repeats it
runs/NAME/      the runs
logs/NAME.log   what a run's commands said; NAME.failed: why it failed, until it is tried again
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from sagan.run.config import Config
from sagan.run.folder import Run
from sagan.run.plan import Plan, PlannedRun, extend, make_plan, read_plan, train_words, write_plan
from sagan.run.presets import PRESETS
from sagan.run.scores import scored_steps
from sagan.run.status import RunStatus, State, Watched
from sagan.system.console import heeding
from sagan.system.errors import UserError
from sagan.system.files import alone, is_held, write_whole

Show = Callable[[Sequence[RunStatus]], object]

PROGRAM = (sys.executable, "-P", "-m", "sagan")  # -P: not a sagan.py that happens to lie in the present folder
_BETWEEN_LOOKS = 1.0  # seconds
_HEEDED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_INTERRUPTED = {sign * number + base for number in _HEEDED for sign, base in ((1, 128), (-1, 0))}


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder and its plan."""

    folder: Path
    plan: Plan

    @classmethod
    def open(cls, folder: Path) -> Sweep:
        """A sweep that exists. Raises UserError where there is none."""
        folder = folder.expanduser().resolve()
        if not (folder / "plan.json").is_file():
            what = "has no plan.json, so it is no sweep" if folder.is_dir() else "does not exist"
            raise UserError(f"{folder} {what}; `sagan sweep` makes one")
        return cls(folder, read_plan(folder / "plan.json"))

    @classmethod
    def begin(cls, folder: Path, plan: Plan) -> Sweep:
        """A new sweep, or one that goes on with its plan, to which values may have been added; writes nothing.

        Raises UserError where the folder holds another sweep, or something else.
        """
        folder = folder.expanduser().resolve()
        if (folder / "plan.json").is_file():
            return cls(folder, extend(read_plan(folder / "plan.json"), plan, folder))
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not an empty folder: give another --sweep_dir")
        return cls(folder, plan)

    def write(self) -> None:
        """Makes the folder and writes the plan into it."""
        write_plan(self.plan, self.folder / "plan.json", self.folder / "runs")

    def run_folder(self, run: PlannedRun) -> Path:
        return self.folder / "runs" / run.name

    def log_file(self, run: PlannedRun) -> Path:
        return self.folder / "logs" / f"{run.name}.log"

    def failure_file(self, run: PlannedRun) -> Path:
        return self.folder / "logs" / f"{run.name}.failed"

    def config(self, run: PlannedRun) -> Config:
        return self.plan.config(run, self.run_folder(run))

    def watch(self, run: PlannedRun) -> Watched:
        """The run, to be looked at."""
        total = self.config(run).run.total_step
        return Watched(self.run_folder(run), run.name, total, self.failure_file(run))

    def is_scored(self, run: PlannedRun, extractor: str) -> bool:
        """Whether every snapshot of a run has a score of as many images as planned, by an extractor's name on cards."""
        made, samples = Run(self.run_folder(run)), self.config(run).run.eval_num
        scored = scored_steps(made, lambda card: (card.samples, card.extractor) == (samples, extractor))
        return scored >= {int(path.stem) for path in made.snapshots()}

    def commands(self, run: PlannedRun, extractor: str | None) -> list[tuple[State, list[str]]]:
        """What is left to do for a run: the words after ``sagan`` of each command, and the state that it is in then.

        ``extractor``: whose scores are wanted, by its name on cards; None for no scores.
        """
        folder, config = self.run_folder(run), self.config(run)
        trained = self.watch(run).is_trained()
        left: list[tuple[State, list[str]]] = []
        if not trained:
            begun = (folder / "config.json").is_file()
            if not begun and folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"{folder} holds files but no config.json: put that back, or delete the folder, and the run is "
                    "trained anew"
                )
            left.append(("running", ["resume", str(folder)] if begun else train_words(config, run.overrides)))
        if extractor is not None and not (trained and self.is_scored(run, extractor)):
            left.append(("scoring", evaluate_words(config, folder)))
        return left

    def is_left(self, run: PlannedRun, extractor: str | None) -> bool:
        """Whether there is something left to do for a run, or it is not known because its files are damaged: then it
        fails by itself when it is played. What had failed and is done by now, has failed no longer."""
        try:
            left = bool(self.commands(run, extractor))
        except UserError:
            return True
        if not left:
            self.failure_file(run).unlink(missing_ok=True)
        return left


def plan_sweep(
    folder: Path,
    given: Mapping[str, Sequence[Any]],
    left_out: Sequence[Mapping[str, Any]] = (),
    base: Config | None = None,
    command: str = "",
) -> Sweep:
    """The sweep in a folder, as it is where nothing else is said of it; or with other values; or a new one.

    ``given``, ``left_out`` and ``command`` as `make_plan` takes them; ``base``: the settings that runs begin with,
    where they were named. Writes nothing. Raises UserError as `make_plan` and `Sweep.begin`, and where there is no
    sweep and nothing is given.
    """
    is_begun = (folder / "plan.json").is_file()
    if not given and not left_out and base is None:
        if not is_begun:
            raise UserError(
                f"{folder} holds no sweep to go on with: give the values of a new one, such as "
                "--span 0 1 2 --seed 0 1 2"
            )
        return Sweep.open(folder)
    if is_begun and base is None:
        plan = Sweep.open(folder).plan
        return Sweep.begin(folder, make_plan(plan.base, {**plan.axes, **given}, left_out or plan.left_out, command))
    if "image_path" in given and "dataset" not in given:
        raise UserError("--image_path says where a --dataset is: give --dataset celeb or --dataset lsun with it")
    return Sweep.begin(folder, make_plan(base or PRESETS["best"], given, left_out, command))


def threads_each(jobs: int) -> int | None:
    """Processor threads for each of so many processes that share the cores of this one; None for one, which decides by
    itself."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs) if jobs > 1 else None


def evaluate_words(config: Config, folder: Path) -> list[str]:
    """The words after ``sagan`` that score a run as its sweep does."""
    settings = config.run
    chosen = ["--extractor", settings.extractor] if settings.extractor is not None else []
    where = ["--device", settings.device, "--prepared", config.data.prepared]
    return ["evaluate", str(folder), "--num", str(settings.eval_num), *chosen, *where]


class Player:
    """Plays runs of a sweep: the commands of each one after another, as processes, from where the run stands.

    ``threads``: processor threads for each, unless the environment says another number. ``program``: what to call
    instead of this package's command. ``deaf_to``: signals that reach the processes too, and shall not.
    """

    def __init__(
        self,
        sweep: Sweep,
        extractor: str | None,
        threads: int | None = None,
        program: Sequence[str] | None = None,
        deaf_to: Collection[signal.Signals] = (),
    ):
        self.sweep, self.extractor, self.program = sweep, extractor, program or PROGRAM
        number = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self.environment = number | dict(os.environ)
        self.deaf_to = deaf_to
        self.stopping = False
        self.playing: dict[str, State] = {}  # by the names of runs
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.RLock()  # a signal's handler may interrupt the thread that is starting a process

    def play(self, run: PlannedRun) -> None:
        """Trains a run to its last step and scores it. What goes wrong is written into its failure file; a run that
        another process trains is left to that."""
        if self.stopping or is_held(self.sweep.run_folder(run) / "running.lock"):
            return
        failure, log = self.sweep.failure_file(run), self.sweep.log_file(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        failure.unlink(missing_ok=True)
        try:
            for state, words in self.sweep.commands(run, self.extractor):
                self.playing[run.name] = state
                said = log.stat().st_size if log.exists() else 0
                status = self._call(words, log)
                if status and (self.stopping or status in _INTERRUPTED):
                    return
                if status or (state == "running" and not self.sweep.watch(run).is_trained()):
                    _write_sentence(failure, _last_words(log, said, status))
                    return
        except (UserError, OSError) as error:  # of this run's files; the others go on
            _write_sentence(failure, str(error))
        finally:
            self.playing.pop(run.name, None)

    def interrupt(self, number: int) -> None:
        """Passes a signal on to what is being played, which saves and ends by the first one; nothing more is begun."""
        with self._starting:
            self.stopping = True
            for process in self._processes:
                process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Returns when every process has ended; what has not after so many seconds is killed. May be called where
        `play` is interrupted by a signal (POSIX)."""
        until = time.monotonic() + seconds
        for process in list(self._processes):
            while not self._has_ended(process):
                if time.monotonic() > until:
                    process.kill()
                time.sleep(0.05)

    @staticmethod
    def _has_ended(process: subprocess.Popen[bytes]) -> bool:
        with contextlib.suppress(ChildProcessError):  # somebody has waited for it
            flags = os.WEXITED | os.WNOWAIT | os.WNOHANG  # it is not taken from who waits for it
            return os.waitid(os.P_PID, process.pid, flags) is not None
        return True

    def _call(self, words: Sequence[str], log: Path) -> int:
        """The exit status of a command, whose output is added to a log; a signal's, where it is too late to begin."""
        with log.open("ab") as file:
            with self._starting:
                if self.stopping:
                    return -signal.SIGINT
                with _blocked(self.deaf_to):
                    process = subprocess.Popen(
                        [*self.program, *words],
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=self.environment,
                        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
                    )
                    self._processes.add(process)
            status = process.wait()
        with self._starting:
            self._processes.discard(process)
        return status


@contextlib.contextmanager
def _blocked(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Processes that are started within are never reached by these signals."""
    if not signals:
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _write_sentence(path: Path, sentence: str) -> None:
    write_whole(path, lambda file: file.write(f"{sentence}\n".encode()))


def _last_words(log: Path, start: int, status: int) -> str:
    """Why a command failed: the error it named, from ``start`` on in the log, or the last thing it said."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}" + (
            ", which the system does when memory runs out" if -status == signal.SIGKILL else ""
        )
    lines = [line for line in log.read_bytes()[start:].decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    said = (errors or lines or [f"it ended with status {status} and said nothing"])[-1].strip()
    return said if status else f"it ended as if all were well, without its last snapshot; the last it said: {said}"


def carry_out(player: Player, runs: Sequence[PlannedRun], jobs: int, show: Show) -> int | None:
    """Plays runs, ``jobs`` of them at a time, and shows how all of the sweep stand about once a second.

    A signal is passed on to the runs, which save and end. Gives the first that came, or None where all was played.
    Raises UserError where another process is at it.
    """
    sweep = player.sweep
    watched = [sweep.watch(run) for run in sweep.plan.runs()]

    def look() -> list[RunStatus]:
        return [each.look(player.playing.get(each.name)) for each in watched]

    def refuse() -> None:
        raise UserError(
            f"another process carries out the sweep in {sweep.folder}: `sagan status {sweep.folder}` shows how far"
        )

    with alone(sweep.folder / "sweeping.lock", refuse), _signals() as caught:
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(player.play, run) for run in runs]
            passed_on = 0
            try:
                while not all(future.done() for future in futures):
                    for number in caught[passed_on:]:
                        player.interrupt(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
                        passed_on += 1
                    show(look())
                    wait(futures, timeout=_BETWEEN_LOOKS)
            except BaseException:
                player.interrupt(signal.SIGTERM)
                raise
        for future in futures:
            future.result()  # raises what went wrong here, such as a full disk
        return caught[0] if caught else None


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that ask to stop, instead of being stopped by them."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    with heeding(_HEEDED, note):
        yield caught


def find_watched(place: Path) -> list[Watched]:
    """The runs that a person means by a sweep's folder, a run's, or a folder with those in it.

    Raises UserError where there is none.
    """
    if (place / "plan.json").is_file():
        sweep = Sweep.open(place)
        return [sweep.watch(run) for run in sweep.plan.runs()]
    if (place / "config.json").is_file():
        return [_watch_run(place)]
    within = sorted(path.parent for name in ("config.json", "plan.json") for path in place.glob(f"*/{name}"))
    if not within:
        what = "holds no run and no sweep" if place.is_dir() else "does not exist"
        raise UserError(f"{place} {what}: give the folder of a sweep or of a run, or one with those in it")
    found = []
    for folder in within:
        for watched in find_watched(folder):
            if watched.run.folder.name != folder.name:  # of a sweep, whose runs may be named as another's
                watched.name = f"{folder.name}/{watched.name}"
            found.append(watched)
    return found


def _watch_run(folder: Path) -> Watched:
    """A run by itself; one of a sweep may have failed there."""
    folder = folder.resolve()
    return Watched(folder, failure=folder.parents[1] / "logs" / f"{folder.name}.failed")
